//! What a peer may ask us to hold.

/// The limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message accepted, in octets. A message beyond it is refused when a header announces it.
    pub max_message: u32,
    /// The most frames one message may come in. Fragments cost nothing but their own octets, so this only ends
    /// messages that never end: a peer could send empty fragments for ever.
    pub max_fragments: u32,
}

impl Default for Limits {
    /// 1 MiB, and twice the 65,536 fragments that the conformance suite sends in one message (4 MiB by 64 octets).
    fn default() -> Self {
        Self {
            max_message: 1 << 20,
            max_fragments: 1 << 17,
        }
    }
}

//! What a peer may ask us to hold.

/// The limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message accepted, in octets. A message beyond it is refused when a header announces it.
    pub max_message: u32,
    /// The most frames one message may come in. Fragments cost nothing but their own octets, so this only ends
    /// messages that never end: a peer could send empty fragments for ever.
    pub max_fragments: u32,
    /// The most control frames a peer may send in a second: a Ping costs it less than it costs us.
    pub max_control_per_second: u16,
    /// How many times its size compressed data may inflate to, beyond the first 64 KiB. It is looked at while
    /// inflating, with what came so far, as is `max_message`: memory beyond it is never taken. Deflate itself cannot
    /// exceed 1032.
    pub max_inflate_ratio: u16,
}

impl Default for Limits {
    /// 1 MiB, and twice the 65,536 fragments that the conformance suite sends in one message (4 MiB by 64 octets). A
    /// thousand control frames a second, where healthy peers send one in several. Any ratio: what is to be saved by
    /// less is bounded by the size of a message.
    fn default() -> Self {
        Self {
            max_message: 1 << 20,
            max_fragments: 1 << 17,
            max_control_per_second: 1000,
            max_inflate_ratio: 1032,
        }
    }
}

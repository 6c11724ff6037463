//! What a completion is about.

/// The operation a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// A connection was accepted; the result is its slot. [`Driver::take_peer`](crate::Driver::take_peer) knows its peer.
    Accept = 1,
    /// Bytes arrived, or the peer closed its side (a result of 0).
    Receive,
    /// A send that did not go out whole; whole sends complete silently.
    Send,
    /// The socket can be written to again.
    Writable,
    /// A cancellation has been carried out.
    Cancel,
    /// The sending side was shut down.
    Shutdown,
    /// The slot was closed. Reported only when it failed.
    Close,
    /// Another thread asks for attention.
    Wake,
}

impl Op {
    const ALL: [Op; 8] = [
        Op::Accept,
        Op::Receive,
        Op::Send,
        Op::Writable,
        Op::Cancel,
        Op::Shutdown,
        Op::Close,
        Op::Wake,
    ];
}

/// Names one operation on one connection: kind, slot and generation.
///
/// The generation is the caller's: a completion that arrives for a slot which has since been given to another
/// connection carries the old generation and is told apart by it.
///
/// ```text
///   63      56 55              32 31                0
///  ┌──────────┬──────────────────┬──────────────────┐
///  │ op       │ generation (24)  │ slot (32)        │
///  └──────────┴──────────────────┴──────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u64);

impl Token {
    /// Generations count modulo this.
    pub const GENERATIONS: u32 = 1 << 24;

    /// A token for `op` on `slot`, of which only the low 24 bits of `generation` are kept.
    #[inline]
    pub const fn new(op: Op, slot: u32, generation: u32) -> Token {
        Token((op as u64) << 56 | ((generation & (Token::GENERATIONS - 1)) as u64) << 32 | slot as u64)
    }

    /// The operation.
    #[inline]
    pub fn op(self) -> Op {
        let kind = (self.0 >> 56) as usize;
        debug_assert!((1..=Op::ALL.len()).contains(&kind), "every token is made by Token::new");
        Op::ALL[kind.wrapping_sub(1).min(Op::ALL.len() - 1)]
    }

    /// The slot of the connection, or the number of the listener for [`Op::Accept`].
    #[inline]
    pub fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The generation, below [`Token::GENERATIONS`].
    #[inline]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & (Token::GENERATIONS - 1)
    }

    /// The same connection, another operation.
    #[inline]
    pub fn with(self, op: Op) -> Token {
        Token::new(op, self.slot(), self.generation())
    }

    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Token {
        Token(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_what_it_was_made_of() {
        for op in Op::ALL {
            for slot in [0, 1, 19_999, u32::MAX] {
                for generation in [0, 7, Token::GENERATIONS - 1, Token::GENERATIONS + 3] {
                    let token = Token::from_bits(Token::new(op, slot, generation).to_bits());
                    assert_eq!(token.op(), op);
                    assert_eq!(token.slot(), slot);
                    assert_eq!(token.generation(), generation % Token::GENERATIONS);
                    assert_eq!(token.with(Op::Close), Token::new(Op::Close, slot, generation));
                }
            }
        }
    }
}

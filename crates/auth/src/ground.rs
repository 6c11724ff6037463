//! What a grant rests on, so that it can be judged again when settings change.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::LazyLock;

/// What a [`Grant`](crate::Grant) rests on. Of credentials themselves nothing is kept: this is enough to tell whether they
/// would still be taken, and small enough to be kept for every connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ground {
    /// Nothing that settings could take away.
    #[default]
    Free,
    /// No credentials: it is what anybody may do who comes in by the door of this number, as the caller counts them.
    Door(u16),
    /// The client's certificate, which the caller has.
    Certificate,
    /// A token that was handed out: the start of its hash.
    Token(u64),
    /// A JSON Web Token.
    Jwt(Signed),
}

/// What made a JSON Web Token good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The key that signed it, and how.
    pub(crate) key: Mark,
    /// Whom it is from, if it says so.
    pub(crate) issuer: Option<Mark>,
    /// Whom it is for, if it says so; of several the first that was expected.
    pub(crate) audience: Option<Mark>,
}

/// What a key or a name is known by for as long as the process lives.
///
/// Two that differ have the same mark once in four thousand million times; a session would then go on, until its token
/// ends, that should have ended before. The hash is keyed at random, so that nobody can choose a name for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(NonZeroU32);

// A grant of its own for every connection with a token of its own, and this in each.
const _: () = assert!(size_of::<Ground>() <= 16);

impl Mark {
    pub(crate) fn of(text: &str) -> Mark {
        Mark::of_bytes(text.as_bytes())
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Mark {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let hash = HASHER.hash_one(bytes) as u32;
        Mark(NonZeroU32::new(hash).unwrap_or(NonZeroU32::MIN))
    }
}

//! A subscriber as the workers see each other's.

use crate::session::SessionId;

/// What stands in the router of all workers: a list of subscribers of some worker, or one session of it that is a member of
/// a group. Eight bytes, for there are as many as filters and members.
///
/// A session's number is used again. So a member carries a token, by which its worker knows whether it still is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscriber {
    worker: u16,
    token: u16,
    /// Of a session, or of a list.
    number: u32,
}

const _: () = assert!(size_of::<Subscriber>() == 8);

impl Subscriber {
    /// Who subscribes through `list` on `worker`.
    pub(crate) fn list(worker: u16, list: u32) -> Subscriber {
        Subscriber {
            worker,
            token: 0,
            number: list,
        }
    }

    /// A member of a group.
    pub(crate) fn member(worker: u16, session: SessionId, token: u16) -> Subscriber {
        Subscriber {
            worker,
            token,
            number: session.0,
        }
    }

    pub(crate) fn of_worker(self) -> u16 {
        self.worker
    }

    /// The session of a member.
    pub(crate) fn session(self) -> SessionId {
        SessionId(self.number)
    }

    /// The list, if it is no member.
    pub(crate) fn of_list(self) -> u32 {
        self.number
    }

    pub(crate) fn token(self) -> u16 {
        self.token
    }
}

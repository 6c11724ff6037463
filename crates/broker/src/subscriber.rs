//! A subscriber as the workers see each other's.

use crate::session::SessionId;

/// What stands in the router of all workers: a worker with subscribers of its own, or one session of it that is a member
/// of a group. Eight bytes, for there are as many as members.
///
/// A session's number is used again. So a member carries a token, by which its worker knows whether it still is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscriber {
    worker: u16,
    token: u16,
    session: u32,
}

const _: () = assert!(size_of::<Subscriber>() == 8);

impl Subscriber {
    /// Whoever subscribes on `worker`.
    pub(crate) fn worker(worker: u16) -> Subscriber {
        Subscriber {
            worker,
            token: 0,
            session: 0,
        }
    }

    /// A member of a group.
    pub(crate) fn member(worker: u16, session: SessionId, token: u16) -> Subscriber {
        Subscriber {
            worker,
            token,
            session: session.0,
        }
    }

    pub(crate) fn of_worker(self) -> u16 {
        self.worker
    }

    pub(crate) fn session(self) -> SessionId {
        SessionId(self.session)
    }

    pub(crate) fn token(self) -> u16 {
        self.token
    }
}

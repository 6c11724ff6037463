//! Waking a thread that sleeps in its driver: from any thread by an eventfd, from another ring by `MSG_RING`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::token::{Op, Token};

/// What a thread sees when it is woken, whoever did it.
pub(crate) const WAKE: Token = Token::new(Op::Wake, 0, 0);

/// Wakes a driver's thread. Cheap to clone, usable from every thread.
#[derive(Clone, Debug)]
pub struct Waker {
    event: Arc<OwnedFd>,
    /// The driver's io_uring instance, if it has one.
    ring: Option<Arc<OwnedFd>>,
}

impl Waker {
    pub(crate) fn new(ring: Option<OwnedFd>) -> io::Result<Waker> {
        // SAFETY: eventfd takes no pointer; its result is checked before use.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just returned by the kernel and belongs to nobody else.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Waker {
            event: Arc::new(event),
            ring: ring.map(Arc::new),
        })
    }

    /// Makes the driver's thread return from its current or next [`Driver::turn`](crate::Driver::turn). Never blocks. A
    /// thread with a driver of its own has a cheaper way: [`Driver::wake`](crate::Driver::wake).
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer is valid for its length. The call can fail only with EAGAIN, when the counter is full:
        // then the wake-up is already pending and nothing is lost.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes back all pending wake-ups.
    pub(crate) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the buffer is valid for its length; EAGAIN (nothing pending) leaves it as it is.
        unsafe { libc::read(self.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// What becomes readable by a wake-up.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// What other rings can wake.
    pub(crate) fn ring(&self) -> Option<RawFd> {
        self.ring.as_ref().map(AsRawFd::as_raw_fd)
    }
}

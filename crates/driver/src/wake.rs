//! Waking a thread that sleeps in its ring: from another ring by `MSG_RING`, from any thread by an eventfd.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Names a ring to other rings, so that they can wake its thread. Cheap to clone, usable from every thread.
#[derive(Clone, Debug)]
pub struct RingHandle(Arc<OwnedFd>);

impl RingHandle {
    pub(crate) fn new(fd: OwnedFd) -> RingHandle {
        RingHandle(Arc::new(fd))
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Wakes a ring's thread from a thread that has no ring of its own.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        // SAFETY: eventfd takes no pointer; its result is checked before use.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just returned by the kernel and belongs to nobody else.
        Ok(Waker(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Makes the ring's thread return from its current or next [`Ring::turn`](crate::Ring::turn). Never blocks.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer is valid for its length. The call can fail only with EAGAIN, when the counter is full:
        // then the wake-up is already pending and nothing is lost.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes back all pending wake-ups.
    pub(crate) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the buffer is valid for its length; EAGAIN (nothing pending) leaves it as it is.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

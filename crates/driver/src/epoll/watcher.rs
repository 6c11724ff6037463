//! What tells which sockets something can be done with: an epoll instance.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::driver::Wait;

/// An epoll instance.
pub(super) struct Watcher {
    fd: OwnedFd,
    /// The kernel takes times in nanoseconds (Linux 5.11), as far as is known.
    precise: bool,
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

impl Watcher {
    pub(super) fn new() -> io::Result<Watcher> {
        // SAFETY: epoll_create1 takes no pointer; its result is checked before use.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Watcher {
            // SAFETY: `fd` was just returned by the kernel and belongs to nobody else.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            precise: true,
        })
    }

    /// Reports `events` of `fd` from now on, as they begin, by `key`.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, events: u32, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, key)
    }

    /// Reports other events of `fd`, also those that began before.
    pub(super) fn modify(&self, fd: BorrowedFd<'_>, events: u32, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events, key)
    }

    /// Reports nothing of `fd` any more.
    pub(super) fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: libc::c_int, fd: BorrowedFd<'_>, events: u32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: events | libc::EPOLLET as u32,
            u64: key,
        };
        // SAFETY: the pointer is to a local event that outlives the call, which only reads it.
        checked(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Puts what is to be reported into `events`, having slept by `wait` if there was nothing; gives how many these are.
    pub(super) fn wait(&mut self, events: &mut [libc::epoll_event], wait: Wait) -> io::Result<usize> {
        let waited = match wait {
            Wait::AtMost(time) if self.precise => match self.wait_precisely(events, time) {
                // EPERM is what filters say to calls that are younger than they.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.precise = false;
                    self.wait_roughly(events, time)
                }
                waited => waited,
            },
            Wait::AtMost(time) => self.wait_roughly(events, time),
            Wait::No => self.wait_roughly(events, Duration::ZERO),
        };
        match waited {
            // A signal ends the sleep: whoever waits looks at its state and comes back.
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(0),
            waited => waited,
        }
    }

    /// Sleeps for whole milliseconds: what is left of the time is for the caller, who comes back for it at once.
    fn wait_roughly(&self, events: &mut [libc::epoll_event], time: Duration) -> io::Result<usize> {
        let time = libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the pointer and the count describe `events`, which outlives the call.
        let count = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as libc::c_int,
                time,
            )
        };
        Ok(checked(count)? as usize)
    }

    /// What the kernel can do since 5.11.
    fn wait_precisely(&self, events: &mut [libc::epoll_event], time: Duration) -> io::Result<usize> {
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // SAFETY: the pointer and the count describe `events`, which outlives the call, as does the time, whose layout is the
        // kernel's where tidecast runs (64 bits); there is no signal mask, so its size is not looked at.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as libc::c_int,
                &raw const time,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        Ok(checked(count as libc::c_int)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_kernel_without_nanoseconds_sleeps_for_whole_milliseconds() {
        let mut watcher = Watcher::new().unwrap();
        watcher.precise = false;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }];
        let begun = Instant::now();
        let time = Wait::AtMost(Duration::from_micros(3500));
        assert_eq!(watcher.wait(&mut events, time).unwrap(), 0);
        assert!(begun.elapsed() >= Duration::from_millis(3));
    }
}

//! How a broker is replaced by a new process without a moment in which nobody listens.
//!
//! ```text
//!   this process                                     the new one: the same program, arguments and environment
//!     │  starts it, with a socket as its standard input  │
//!     ├── listening sockets, by what they are for ──────▶│ reads its configuration, starts its workers:
//!     │                                                  │ both accept now
//!     │◀──────────────── ready, or what is wrong ────────┤
//!     ▼                                                  ▼
//!   stops accepting, drains                            serves
//! ```
//!
//! The listening sockets are the very same, with their queues: none is closed in between. If the new process does not come
//! up, nothing has changed.

use std::env;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tidecast_driver::Listener;
use tokio::io::Interest;

use crate::sockets::{Place, Sockets};

/// What tells a process that its standard input is a socket to its predecessor.
pub(crate) const VARIABLE: &str = "TIDECAST_PREDECESSOR";
/// Descriptors in one message; the kernel takes 253.
const DESCRIPTORS: usize = 128;
/// The longest message.
const MESSAGE: usize = 8 << 10;
/// The message behind the last sockets.
const END: &str = "end";
/// The answer of a process that serves; any other is what is wrong.
const READY: &str = "ready";
/// What systemd has said to this process and would not be true of the next one.
const PERSONAL: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// Why there is no new process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    #[error(
        "this is process 1, with which all others of its container end: replace the container, and let this broker drain by \
         SIGTERM"
    )]
    First,
    #[error("{program:?} cannot be started: {source}")]
    Start { program: OsString, source: io::Error },
    #[error("the sockets cannot be handed over: {0}")]
    HandOver(io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("the new process ended ({0}) before it was ready; what it wrote to its standard error says why")]
    Ended(process::ExitStatus),
    #[error("the new process was not ready within {0:?} (upgrade_timeout)")]
    Late(Duration),
}

/// Starts the program anew and hands `sockets` over to it; gives its process id once it serves. If this is given up on the way,
/// the new process is killed: it may wait for something else before it finds that nobody is there, and listens meanwhile.
///
/// # Errors
/// It does not come up within `limit`. It has ended then.
pub(crate) async fn hand_over(sockets: &Sockets, limit: Duration) -> Result<u32, UpgradeError> {
    if process::id() == 1 {
        return Err(UpgradeError::First);
    }
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|error| UpgradeError::HandOver(error.into()))?;
    let mut successor = Successor {
        child: start(theirs)?,
        serves: false,
    };
    let answered = tokio::time::timeout(limit, converse(ours, sockets)).await;
    let outcome = match answered {
        Ok(Ok(Some(answer))) if answer == READY => match successor.child.id() {
            Some(pid) => {
                successor.serves = true;
                return Ok(pid);
            }
            None => Ok(UpgradeError::Refused("the new process has ended already".to_owned())),
        },
        Ok(Ok(Some(reason))) => Ok(UpgradeError::Refused(reason)),
        Ok(Ok(None)) => Err(None),
        Ok(Err(error)) => Err(Some(error)),
        Err(_) => Ok(UpgradeError::Late(limit)),
    };
    // Whatever it does, it is not wanted any more; one that ends by itself says how.
    if outcome.is_ok() {
        let _ = successor.child.start_kill();
    }
    let status = tokio::time::timeout(LAST_WORDS, successor.child.wait()).await;
    Err(match (outcome, status) {
        (Ok(error), _) => error,
        (Err(_), Ok(Ok(status))) => UpgradeError::Ended(status),
        (Err(error), _) => UpgradeError::HandOver(error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
    })
}

/// A new process. Unless it serves, it ends when this is dropped.
struct Successor {
    child: tokio::process::Child,
    serves: bool,
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.serves {
            // If that fails, it has ended.
            let _ = self.child.start_kill();
        }
    }
}

/// Starts the program with `socket` as its standard input, and keeps no other copy of it: each side sees by its end that the other
/// has ended.
fn start(socket: OwnedFd) -> Result<tokio::process::Child, UpgradeError> {
    let mut arguments = env::args_os();
    // As it was called, and not what is running: that may have been replaced, and the name may be a link to a newer one.
    let program = arguments.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env(VARIABLE, "stdin")
        .stdin(Stdio::from(socket));
    for name in PERSONAL {
        command.env_remove(name);
    }
    let started = tokio::process::Command::from(command).spawn();
    started.map_err(|source| UpgradeError::Start { program, source })
}

/// How long a process that has closed its end may take to end itself.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Hands `sockets` over, and gives the answer, if there is one.
async fn converse(socket: OwnedFd, sockets: &Sockets) -> io::Result<Option<String>> {
    let stream = tokio::net::UnixStream::from_std(UnixStream::from(socket))?;
    let mut messages = Vec::new();
    for (place, listeners) in sockets.groups() {
        // Those that do not fit are more of the same.
        for (number, listeners) in listeners.chunks(DESCRIPTORS).enumerate() {
            let text = if number == 0 {
                place.to_string()
            } else {
                MORE.to_owned()
            };
            messages.push((text, listeners));
        }
    }
    messages.push((END.to_owned(), &[]));
    for (text, listeners) in messages {
        let descriptors: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
        let send = || send(stream.as_fd(), text.as_bytes(), &descriptors);
        stream.async_io(Interest::WRITABLE, send).await?;
    }
    let mut answer = vec![0; MESSAGE];
    let read = || Ok(rustix::io::read(&stream, &mut answer)?);
    let length = match stream.async_io(Interest::READABLE, read).await {
        // It has ended without having read all of it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
        read => read?,
    };
    answer.truncate(length);
    Ok((length > 0).then(|| String::from_utf8_lossy(&answer).into_owned()))
}

/// The message with more sockets of the place before it.
const MORE: &str = "more";

fn send(socket: BorrowedFd<'_>, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The broker that has started this one, to follow it.
#[derive(Debug)]
pub(crate) struct Predecessor {
    socket: OwnedFd,
}

impl Predecessor {
    /// The predecessor, if there is one.
    ///
    /// # Errors
    /// There is no standard input.
    pub(crate) fn find() -> io::Result<Option<Predecessor>> {
        if env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        // Shared with the standard input, which nobody reads.
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok(Some(Predecessor { socket }))
    }

    /// What it hands over, by what that is for.
    ///
    /// # Errors
    /// It has ended, or is of another mind about how this is done.
    pub(crate) fn receive(&self) -> io::Result<Vec<(Place, Vec<Listener>)>> {
        let mut groups: Vec<(Place, Vec<Listener>)> = Vec::new();
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
        loop {
            let (text, descriptors) = receive(self.socket.as_fd())?;
            let mut listeners = descriptors
                .into_iter()
                .map(Listener::adopt)
                .collect::<io::Result<Vec<_>>>()?;
            match &*text {
                "" => return Err(io::ErrorKind::UnexpectedEof.into()),
                END => return Ok(groups),
                MORE => {
                    let last = groups.last_mut().ok_or_else(|| invalid("more of nothing"))?;
                    last.1.append(&mut listeners);
                }
                place if listeners.is_empty() => return Err(invalid(place)),
                place => groups.push((place.parse()?, listeners)),
            }
        }
    }

    /// Tells it that this process serves, and waits until it has heard that.
    ///
    /// # Errors
    /// It does not listen any more: it has ended, or has changed its mind, be it at this moment.
    pub(crate) fn take_over(self) -> io::Result<()> {
        send(self.socket.as_fd(), READY.as_bytes(), &[])?;
        // It closes its end then. If it did so with the message unread, the kernel says that the connection was reset.
        rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut [0; 1]))?;
        Ok(())
    }

    /// Tells it why this process does not come up.
    pub(crate) fn give_up(self, reason: &str) {
        let reason = reason.as_bytes();
        // Whether it hears that or not, this process ends.
        let _ = send(self.socket.as_fd(), &reason[..reason.len().min(MESSAGE)], &[]);
    }
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; MESSAGE];
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        let message = "a message was cut: the descriptor limit is too low, or the other side has another version";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let text = String::from_utf8_lossy(&text[..received.bytes]).into_owned();
    Ok((text, descriptors))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn pair() -> (OwnedFd, Predecessor) {
        let (ours, socket) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (ours, Predecessor { socket })
    }

    #[test]
    fn a_process_takes_over_only_from_one_that_has_heard_it() {
        let (ours, predecessor) = pair();
        let taken = thread::spawn(|| predecessor.take_over());
        assert_eq!(receive(ours.as_fd()).unwrap().0, READY);
        drop(ours);
        taken.join().unwrap().unwrap();
        // It is told to stop at this moment, and looks at nothing that was said to it.
        let (ours, predecessor) = pair();
        let taken = thread::spawn(|| predecessor.take_over());
        recvmsg(
            &ours,
            &mut [IoSliceMut::new(&mut [0; 8])],
            &mut RecvAncillaryBuffer::default(),
            RecvFlags::PEEK,
        )
        .unwrap();
        drop(ours);
        assert!(taken.join().unwrap().is_err());
        let (ours, predecessor) = pair();
        drop(ours);
        assert!(predecessor.take_over().is_err());
    }
}

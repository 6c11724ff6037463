//! How a broker is replaced by a new process without a moment in which nobody listens.
//!
//! ```text
//!   this process                one that starts another          the new one: the same program, arguments, environment
//!     │  starts it, with a socket as    │
//!     │  its standard input             │ starts it likewise
//!     │◀─ which process that is ────────┤─────────────────────────▶│
//!     │                               ends                         │
//!     ├── listening sockets, by what they are for ────────────────▶│ reads its configuration, starts its workers:
//!     │                                                            │ both accept now
//!     │◀────────────────────────── ready, or what is wrong ────────┤
//!     ▼                                                            ▼
//!   stops accepting, drains                                      serves
//! ```
//!
//! With its parent gone, the new process is a child of the system's first one. If that is systemd, it has to be before it is told
//! that this is the service's main process now: one that is somebody else's child it kills on a stop without waiting for it.
//!
//! The listening sockets are the very same, with their queues: none is closed in between. If the new process does not come
//! up, nothing has changed.

use std::env;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{self, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, Signal};
use tidecast_driver::Listener;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::sockets::{Place, Sockets};

/// What tells a process that its standard input is a socket to its predecessor, and what it is to do about that.
pub(crate) const VARIABLE: &str = "TIDECAST_PREDECESSOR";
/// Its value for the process that starts the new one.
const STARTS: &str = "starts";
/// Its value for the new one.
const FOLLOWS: &str = "follows";
/// Before the number of the new process, in the message that says it.
const PROCESS: &str = "process ";
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
    #[error("the new process ended{} before it was ready; what it wrote to its standard error says why", in_parentheses(.0))]
    Ended(Option<process::ExitStatus>),
    #[error("the new process was not ready within {0:?} (upgrade_timeout)")]
    Late(Duration),
}

/// How it ended: that is known of the process that starts the new one.
fn in_parentheses(status: &Option<process::ExitStatus>) -> String {
    status.map_or_else(String::new, |status| format!(" ({status})"))
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
    let deadline = tokio::time::Instant::now() + limit;
    let late = move |_| UpgradeError::Late(limit);
    // By itself, so that also one that has just been started is known, and killed, when this is given up.
    let starting = tokio::spawn(async move { tokio::time::timeout_at(deadline, start()).await.map_err(late)? });
    let mut successor = starting.await.map_err(|_| UpgradeError::Ended(None))??;
    let answered = tokio::time::timeout_at(deadline, converse(&successor.socket, sockets)).await;
    let error = match answered {
        Ok(Ok(Some(answer))) if answer == READY => {
            successor.serves = true;
            return Ok(successor.process.as_raw_nonzero().get().unsigned_abs());
        }
        Ok(Ok(Some(reason))) => UpgradeError::Refused(reason),
        Ok(Ok(None)) => UpgradeError::Ended(None),
        Ok(Err(error)) => UpgradeError::HandOver(error),
        Err(elapsed) => late(elapsed),
    };
    successor.end().await;
    Err(error)
}

/// A new process, which keeps the other end of the socket open as long as it lives. Unless it serves, it ends when this is dropped.
struct Successor {
    process: Pid,
    socket: UnixStream,
    serves: bool,
}

impl Successor {
    fn kill(&self) {
        // If that fails, it has ended.
        let _ = rustix::process::kill_process(self.process, Signal::KILL);
    }

    /// Ends it, and waits for that.
    async fn end(self) {
        self.kill();
        // The last thing that it may have to say is of no interest any more, and then there is an end.
        let ended = async { while receive_text(&self.socket).await.is_ok_and(|text| text.is_some()) {} };
        let _ = tokio::time::timeout(LAST_WORDS, ended).await;
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.serves {
            self.kill();
        }
    }
}

/// The program as this process was called, and not what is running: that may have been replaced, and the name may be a link to a
/// newer one.
fn program(role: &str) -> Command {
    let mut arguments = env::args_os();
    let mut command = Command::new(arguments.next().unwrap_or_default());
    command.args(arguments).env(VARIABLE, role);
    command
}

/// Starts the new process by way of another one, which has ended then.
async fn start() -> Result<Successor, UpgradeError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|error| UpgradeError::HandOver(error.into()))?;
    let socket = UnixStream::from_std(ours.into()).map_err(UpgradeError::HandOver)?;
    let mut command = program(STARTS);
    for name in PERSONAL {
        command.env_remove(name);
    }
    let name = command.get_program().to_owned();
    // With the command goes the only copy of the socket's other end here: each side sees by it that the other has ended.
    command.stdin(Stdio::from(theirs));
    let mut starter = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| UpgradeError::Start { program: name, source })?;
    let Some(said) = receive_text(&socket).await.map_err(UpgradeError::HandOver)? else {
        return Err(UpgradeError::Ended(starter.wait().await.ok()));
    };
    let process = said
        .strip_prefix(PROCESS)
        .and_then(|number| Pid::from_raw(number.parse().ok()?));
    let successor = Successor {
        process: process.ok_or(UpgradeError::Refused(said))?,
        socket,
        serves: false,
    };
    starter.wait().await.map_err(UpgradeError::HandOver)?;
    Ok(successor)
}

/// Starts the process that takes over, and says which one it is, if this process is there for that: it ends then.
///
/// A program calls this before anything else, unless it never runs a broker.
pub fn start_successor() -> Option<ExitCode> {
    if env::var_os(VARIABLE)? != STARTS {
        return None;
    }
    let mut command = program(FOLLOWS);
    let said = match command.stdin(Stdio::inherit()).spawn() {
        Ok(successor) => format!("{PROCESS}{}", successor.id()),
        Err(error) => format!("{:?} cannot be started: {error}", command.get_program()),
    };
    // If nobody listens any more, the new process finds that out as well.
    let _ = send(io::stdin().as_fd(), said.as_bytes(), &[]);
    Some(ExitCode::SUCCESS)
}

/// How long a process that has closed its end may take to end itself.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Hands `sockets` over, and gives the answer, if there is one.
async fn converse(stream: &UnixStream, sockets: &Sockets) -> io::Result<Option<String>> {
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
    receive_text(stream).await
}

/// The next message, or nothing once the other side has ended.
async fn receive_text(stream: &UnixStream) -> io::Result<Option<String>> {
    let mut text = vec![0; MESSAGE];
    let read = || Ok(rustix::io::read(stream, &mut text)?);
    let length = match stream.async_io(Interest::READABLE, read).await {
        // It has ended without having read all of it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
        read => read?,
    };
    text.truncate(length);
    Ok((length > 0).then(|| String::from_utf8_lossy(&text).into_owned()))
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

//! A socket by which those who may signal this process can also ask something of it and get an answer, whether there is a
//! control plane or not: an abstract one, named after the process.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{UnixListener as AsyncListener, UnixStream as AsyncStream};
use tokio::sync::{mpsc, oneshot};

use crate::admin::Control;

/// What is asked; there is nothing else.
const UPGRADE: &str = "upgrade\n";
/// What an answer begins with if it has been done; else with [`NO`].
const YES: &str = "yes: ";
/// See [`YES`].
const NO: &str = "no: ";
/// How long a question may take to come in.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer.
const MOST_ANSWER: u64 = 64 << 10;

/// Why a process did not do what it was asked to, or is not known to have done it.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no such broker, or it does not answer.
    #[error("process {0} cannot be asked: {1}")]
    Unreachable(u32, String),
    /// It has refused, or failed.
    #[error("{0}")]
    Refused(String),
}

/// Where a process listens.
fn address(pid: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("tidecast-{pid}"))
}

/// Listens for those who have the user of this process, or are root; what they ask goes to `control`.
///
/// # Errors
/// The address is taken, which only somebody who means it can do.
pub(crate) fn listen(control: mpsc::Sender<Control>) -> io::Result<()> {
    let listener = UnixListener::bind_addr(&address(std::process::id())?)?;
    listener.set_nonblocking(true)?;
    let listener = AsyncListener::from_std(listener)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                // One after the other: an operator does one thing at a time.
                Ok((stream, _)) => {
                    // Whoever goes without waiting for an answer needs none.
                    let _ = serve(&stream, &control).await;
                }
                // The process has no descriptors left, for now.
                Err(_) => tokio::time::sleep(PATIENCE).await,
            }
        }
    });
    Ok(())
}

/// Whether whoever is at the other end may signal this process.
fn is_permitted(stream: &AsyncStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn serve(stream: &AsyncStream, control: &mpsc::Sender<Control>) -> io::Result<()> {
    if !is_permitted(stream) {
        return Ok(());
    }
    let mut question = [0; UPGRADE.len()];
    let mut length = 0;
    let ask = async {
        while length < question.len() {
            let read = || Ok(rustix::io::read(stream, &mut question[length..])?);
            match stream.async_io(Interest::READABLE, read).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                count => length += count,
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, ask).await??;
    let answer = if question == UPGRADE.as_bytes() {
        upgrade(control).await
    } else {
        Err("this broker knows no such question".to_owned())
    };
    let text = match answer {
        Ok(text) => format!("{YES}{text}\n"),
        Err(text) => format!("{NO}{text}\n"),
    };
    // Far shorter than what a socket has room for.
    let write = || Ok(rustix::io::write(stream, text.as_bytes())?);
    stream.async_io(Interest::WRITABLE, write).await?;
    Ok(())
}

async fn upgrade(control: &mpsc::Sender<Control>) -> Result<String, String> {
    let (sender, answer) = oneshot::channel();
    let stops = || "the broker stops".to_owned();
    control.send(Control::Upgrade(sender)).await.map_err(|_| stops())?;
    answer.await.map_err(|_| stops())?
}

/// Has the broker that is process `pid` replaced by a new process, and waits for that; gives what it says.
///
/// # Errors
/// It has not been replaced, or that is not known after `limit`.
pub fn upgrade_process(pid: u32, limit: Duration) -> Result<String, LocalError> {
    let unreachable = |error: io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "it is no broker, or not in this network namespace".to_owned(),
            io::ErrorKind::WouldBlock => format!("there was no answer within {limit:?}"),
            _ => error.to_string(),
        };
        LocalError::Unreachable(pid, reason)
    };
    let ask = || -> io::Result<String> {
        let mut stream = UnixStream::connect_addr(&address(pid)?)?;
        // Anybody may have taken the name, and would be believed.
        let other = rustix::net::sockopt::socket_peercred(&stream)?.pid.as_raw_pid();
        if u32::try_from(other) != Ok(pid) {
            return Err(io::Error::other(format!(
                "who answers in its name is process {other}: it is no broker, or in another namespace of process ids"
            )));
        }
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(UPGRADE.as_bytes())?;
        let mut answer = String::new();
        stream.take(MOST_ANSWER).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(unreachable)?;
    let answer = answer.trim_end();
    if let Some(text) = answer.strip_prefix(YES) {
        return Ok(text.to_owned());
    }
    Err(match answer.strip_prefix(NO) {
        Some(text) => LocalError::Refused(text.to_owned()),
        None => LocalError::Unreachable(pid, "it does not say: it is another user's, or has ended".to_owned()),
    })
}

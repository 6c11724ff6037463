//! A socket by which those who may signal this process can also ask something of it and get an answer, whether there is a
//! control plane or not: an abstract one, named after the process.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{UnixListener as AsyncListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::admin::Control;

/// What is asked; there is nothing else.
pub(crate) const UPGRADE: &str = "upgrade\n";
/// What an answer begins with if it has been done; else with [`NO`].
pub(crate) const YES: &str = "yes: ";
/// See [`YES`].
pub(crate) const NO: &str = "no: ";
/// How long a question may take to come in.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a process listens.
pub(crate) fn address(pid: u32) -> io::Result<SocketAddr> {
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
fn is_permitted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn serve(stream: &UnixStream, control: &mpsc::Sender<Control>) -> io::Result<()> {
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

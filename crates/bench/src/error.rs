//! Why a run did not take place.

use std::io;
use std::time::Duration;

use crate::plan::PlanError;

/// A run that could not be started, or whose driver failed. What goes wrong in a run is part of its
/// [`Report`](crate::Report).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plan cannot be run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is no driver to be had.
    #[error(transparent)]
    Setup(#[from] tidecast_driver::SetupError),
    /// The host has no address.
    #[error("cannot find an address of {host}: {source}; check the name")]
    Resolve {
        /// The host of the URL.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// A TCP connection was not accepted.
    #[error("connection {number} of {total} to {address} failed: {source}{remedy}")]
    Connect {
        /// Which one, counted from 1.
        number: usize,
        /// How many are needed in this thread.
        total: usize,
        /// Where to.
        address: String,
        /// Why.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A handshake was refused, or a connection ended before the run began.
    #[error("the {role} on {url} could not be opened: {reason}")]
    Open {
        /// What the connection was for.
        role: &'static str,
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// More connections than one thread can hold.
    #[error(
        "{needed} connections are more than one thread can have here, which is {limit}: use more --threads, or raise \
         the limit of open files (ulimit -n)"
    )]
    Slots {
        /// Connections of the thread.
        needed: usize,
        /// The limit of open files, which holds for the table of a ring as well.
        limit: u64,
    },
    /// The server stopped answering.
    #[error("{open} of {total} connections were open when the server answered nothing for {timeout:?}")]
    OpenTimeout {
        /// So far.
        open: usize,
        /// Needed in this thread.
        total: usize,
        /// The plan's.
        timeout: Duration,
    },
    /// A core cannot be used.
    #[error("cannot pin a thread to core {core}: {source}; `taskset -p $$` shows the cores allowed")]
    Pin {
        /// Its number.
        core: usize,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] tidecast_client::TlsError),
    /// The process named is not to be looked at.
    #[error("cannot measure the process {pid}: {source}")]
    Server {
        /// Its number.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// The driver does not work any more.
    #[error("the system failed the generator: {0}")]
    Driver(#[source] io::Error),
    /// The kernel has no random numbers for this process.
    #[error("no random numbers can be had: {0}")]
    Random(String),
    /// Another thread of the generator failed first.
    #[error("stopped because another thread failed")]
    Stopped,
}

impl Error {
    /// Whether there was no connection to be had.
    pub fn is_connect(&self) -> bool {
        matches!(
            self,
            Error::Resolve { .. } | Error::Connect { .. } | Error::Open { .. } | Error::OpenTimeout { .. }
        )
    }
}

//! `tidecast upgrade`: has a broker replaced by a new process.

use std::time::Duration;

use clap::Args;
use tidecast_server::{Target, Url};

use crate::broker::TokenFile;
use crate::exit::{Failure, NOT_CONNECTED};

/// How long it may take; a broker gives up its own successor before.
const LIMIT: Duration = Duration::from_secs(3600);

/// Replace a running broker by a new process, without refusing anybody
///
/// The broker starts its program anew, from the same path with the same arguments and environment, and hands its listening
/// sockets over: that may be another version, or another configuration. Once the new process serves, the old one says goodbye to
/// its clients and ends. If the new one does not come up, the old one goes on, and the reason is told. SIGUSR2 does
/// the same and tells the log.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidecast upgrade
  tidecast upgrade --admin http://127.0.0.1:9091 --token-file operator.token
  tidecast upgrade --pid $(systemctl show -P MainPID tidecast)")]
pub(crate) struct UpgradeArgs {
    /// Where the control plane of the broker is
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:9091",
        conflicts_with = "pid"
    )]
    admin: Url,
    #[command(flatten)]
    token: TokenFile,
    /// The process id of a broker of this machine and user, which need not have a control plane
    #[arg(long)]
    pid: Option<u32>,
}

impl UpgradeArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let target = match self.pid {
            Some(pid) => Target::Process(pid),
            None => Target::Admin(self.admin, self.token.read()?),
        };
        match tidecast_server::upgrade(&target, LIMIT) {
            Ok(text) => {
                println!("{text}");
                Ok(())
            }
            Err(error) => {
                let is_unreachable = matches!(error, tidecast_server::RemoteError::Unreachable { .. });
                let mut failure = Failure::new(error);
                if is_unreachable {
                    failure.code = NOT_CONNECTED;
                }
                Err(failure)
            }
        }
    }
}

//! `tidecast upgrade`: has a broker replaced by a new process.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tidecast_server::{AdminClientError, LocalError, upgrade_process};

use crate::admin::AdminArgs;
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
    #[command(flatten)]
    admin: AdminArgs,
    /// The process id of a broker of this machine and user, which need not have a control plane
    #[arg(long, conflicts_with_all = ["admin", "token_file"])]
    pid: Option<u32>,
}

impl UpgradeArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let text = match self.pid {
            Some(pid) => upgrade_process(pid, LIMIT)
                .map_err(|error| with_code(matches!(error, LocalError::Unreachable(..)), error))?,
            None => {
                let client = self.admin.client()?.with_limit(LIMIT);
                let done = client.post("/v1/upgrade", &Value::Null);
                let done =
                    done.map_err(|error| with_code(matches!(error, AdminClientError::Unreachable { .. }), error))?;
                done["text"].as_str().unwrap_or_default().to_owned()
            }
        };
        println!("{text}");
        Ok(())
    }
}

fn with_code(is_unreachable: bool, error: impl std::fmt::Display) -> Failure {
    let mut failure = Failure::new(error);
    if is_unreachable {
        failure.code = NOT_CONNECTED;
    }
    failure
}

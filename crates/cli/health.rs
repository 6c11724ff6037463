//! `tidecast health`: whether a broker is ready, as an exit code.

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;
use tidecast_server::AdminClientError;

use crate::admin::AdminArgs;
use crate::exit::{Failure, NOT_CONNECTED};

/// Say whether a broker takes clients: exit code 0 if it does, 1 while it starts or stops, 3 if it cannot be reached
///
/// For containers and scripts that have nothing else to send a request with.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

impl HealthArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.admin.client()?.ready() {
            Ok(text) => writeln!(io::stdout(), "{text}").context("cannot print")?,
            Err(AdminClientError::Refused { text, .. }) => {
                return Err(Failure::new(format!("the broker takes no clients: {text}")));
            }
            Err(error) => {
                let mut failure = Failure::new(error);
                failure.code = NOT_CONNECTED;
                return Err(failure);
            }
        }
        Ok(())
    }
}

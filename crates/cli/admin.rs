//! The control plane of a broker, as the commands that speak to it find it.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tidecast_server::AdminClient;

use crate::exit::Failure;

/// The variable with a token for the control plane.
const TOKEN: &str = "TIDECAST_ADMIN_TOKEN";

/// Where the control plane is, and what it wants to be shown.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The address of its control plane
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9091")]
    admin: String,
    /// A file with a token for it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AdminArgs {
    /// What speaks to it.
    pub(crate) fn client(&self) -> Result<AdminClient, Failure> {
        let token = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.with_context(|| format!("cannot read {}", path.display()))?)
            }
            None => std::env::var(TOKEN).ok(),
        };
        AdminClient::new(&self.admin, token.as_deref().map(str::trim)).map_err(Failure::new)
    }
}

//! Why a worker does not run.

use std::io;

use tidecast_driver::SetupError;

/// Why a worker cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The driver cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The core cannot be used.
    #[error("cannot run on core {core}: {source}; choose fewer workers, or do not pin them")]
    Core {
        /// The core's number.
        core: usize,
        /// Why.
        source: io::Error,
    },
    /// The kernel failed a turn of the loop.
    #[error("the system failed a turn of its loop: {0}")]
    Driver(#[from] io::Error),
}

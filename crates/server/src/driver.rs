//! What the workers ask the system by.

use tidecast_driver::{Kind, SetupError};

/// What the system is asked by, as an operator says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where it can be used, else epoll.
    Auto,
    /// io_uring, or not at all.
    IoUring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// What that is on this system, and what an operator should know about it.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub(crate) fn choose(self) -> Result<(Kind, Option<String>), SetupError> {
        match self {
            Driver::IoUring => Ok((Kind::IoUring, None)),
            Driver::Epoll => Ok((Kind::Epoll, None)),
            Driver::Auto => {
                let (kind, missing) = Kind::best()?;
                Ok((kind, missing.map(|error| warning(&error))))
            }
        }
    }
}

fn warning(missing: &SetupError) -> String {
    format!(
        "serving with epoll, which delivers 5 to 20 % less with the same processor than io_uring: {missing}. (--driver \
         epoll says that this is meant, --driver io_uring that the broker is not to start.)"
    )
}

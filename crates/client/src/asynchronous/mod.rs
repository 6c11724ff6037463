//! The same on tokio: [`Session`] and [`Client`], whose methods are `async fn`s.
//!
//! Both drive the same machines without I/O as the blocking ones, so they differ in nothing but who waits. Every future here
//! may be dropped before it is done, in a `select!` for example: nothing that was sent or received is torn by that. What is
//! dropped of a command is the wait for its answer.
//!
//! ```
//! # mod double { include!("../../tests/double/mod.rs"); }
//! use tidecast_client::asynchronous::Session;
//! use tidecast_client::{Event, Options, Reconnect, wire::Kind};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tidecast_client::Error> {
//! # let broker = double::Double::start();
//! # let url = broker.url();
//! let mut session = Session::connect(&url, &Options::default(), Some(Reconnect::default())).await?;
//! session.subscribe("weather/+").await?;
//! session.publish_confirmed("weather/kiel", br#"{"wind": 7}"#, Kind::Json).await?;
//! if let Some(Event::Message(message)) = session.receive(None).await? {
//!     assert_eq!(message.topic, "weather/kiel");
//! }
//! session.close().await
//! # }
//! ```

mod client;
mod connect;
mod session;

pub use client::Client;
pub use session::Session;

use std::future::Future;
use std::time::Instant;

/// What `future` gives; none if it gave nothing before `deadline`.
async fn before<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
    }
}

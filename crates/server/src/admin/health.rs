//! Whether the broker lives, and whether clients may be sent to it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Extract;
use axum::http::StatusCode;

use super::{Readiness, State};

/// How long a worker may leave its tasks alone: a turn of its loop takes milliseconds.
const HANGS: Duration = Duration::from_secs(15);

/// Says that all workers live, or which do not.
pub(crate) async fn alive(Extract(state): Extract<Arc<State>>) -> (StatusCode, String) {
    let hanging = state.sampler.lock().hanging(HANGS);
    if hanging.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let numbers: Vec<String> = hanging.iter().map(ToString::to_string).collect();
    let text = format!("workers that do nothing for {HANGS:?}: {}\n", numbers.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

/// Says whether connections are accepted.
pub(crate) async fn ready(Extract(state): Extract<Arc<State>>) -> (StatusCode, String) {
    let readiness = state.readiness();
    let status = match readiness {
        Readiness::Ready => StatusCode::OK,
        Readiness::Starting | Readiness::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", readiness.as_str()))
}

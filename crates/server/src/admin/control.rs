//! What an operator wants of the broker itself: reload, upgrade, drain, and what is logged.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::answer::{Body, Failure, Problem};
use super::{Control, State};
use crate::config::LogLevel;
use crate::log;

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Done {
    /// What was done, for people.
    text: String,
}

/// Has whoever runs the broker do something, and waits for the answer.
async fn control<T>(state: &State, wish: impl FnOnce(oneshot::Sender<T>) -> Control) -> Result<T, Failure> {
    let unavailable = || {
        let text = "the broker is busy with another request, or stops: try again";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
    };
    let (sender, answer) = oneshot::channel();
    state.control.try_send(wish(sender)).map_err(|_| unavailable())?;
    answer.await.map_err(|_| unavailable())
}

/// Read the configuration again, as at SIGHUP
#[utoipa::path(post, path = "/v1/reload", responses(
    (status = 200, body = Done),
    (status = 422, description = "It cannot be used; nothing is changed", body = Problem),
    (status = 503, description = "The broker stops", body = Problem),
))]
pub(crate) async fn reload(Extract(state): Extract<Arc<State>>) -> Result<Json<Done>, Failure> {
    match control(&state, Control::Reload).await? {
        Ok(text) => Ok(Json(Done { text })),
        Err(text) => Err(Failure::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_configuration",
            text,
        )),
    }
}

/// Have a new process take over, as at SIGUSR2
///
/// It is the same program, at the same path, with the same arguments and environment: another version, or another
/// configuration. It listens with the same sockets, so nobody is refused in between. When it serves, this one says goodbye to
/// its clients and ends.
#[utoipa::path(post, path = "/v1/upgrade", responses(
    (status = 202, description = "The new process serves; this one says goodbye", body = Done),
    (status = 422, description = "The new process has not come up; nothing is changed", body = Problem),
    (status = 503, description = "The broker stops", body = Problem),
))]
pub(crate) async fn upgrade(Extract(state): Extract<Arc<State>>) -> Result<(StatusCode, Json<Done>), Failure> {
    match control(&state, Control::Upgrade).await? {
        Ok(text) => Ok((StatusCode::ACCEPTED, Json(Done { text }))),
        Err(text) => Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "not_upgraded", text)),
    }
}

/// Say goodbye to all clients and stop, as at SIGTERM
#[utoipa::path(post, path = "/v1/drain", responses(
    (status = 202, description = "It has begun", body = Done),
    (status = 503, description = "The broker stops already", body = Problem),
))]
pub(crate) async fn drain(Extract(state): Extract<Arc<State>>) -> Result<(StatusCode, Json<Done>), Failure> {
    control(&state, Control::Drain).await?;
    let text = "the broker says goodbye to its clients, and stops".to_owned();
    Ok((StatusCode::ACCEPTED, Json(Done { text })))
}

/// How important something has to be to be logged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogLevelBody {
    /// The level.
    level: LogLevel,
}

/// What is logged
#[utoipa::path(get, path = "/v1/log-level", responses((status = 200, body = LogLevelBody)))]
pub(crate) async fn log_level() -> Json<LogLevelBody> {
    Json(LogLevelBody { level: log::level() })
}

/// Change what is logged, until the configuration is read again
#[utoipa::path(put, path = "/v1/log-level", request_body = LogLevelBody, responses(
    (status = 200, body = LogLevelBody),
    (status = 415, description = "The body is not application/json", body = Problem),
    (status = 422, description = "That is no level", body = Problem),
))]
pub(crate) async fn set_log_level(Body(body): Body<LogLevelBody>) -> Json<LogLevelBody> {
    log::set_level(body.level);
    tracing::info!(level = ?body.level, "an operator has changed what is logged");
    Json(body)
}

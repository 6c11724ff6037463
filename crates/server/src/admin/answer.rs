//! Answers that say what is wrong.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::crew::Unavailable;

/// What is wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The error.
    error: ErrorBody,
}

/// An error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What is wrong, for programs.
    #[schema(example = "not_found")]
    code: String,
    /// The same for people, and what to do about it.
    text: String,
}

/// A request that is refused, or failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    code: &'static str,
    text: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Failure {
        Failure {
            status,
            code,
            text: text.into(),
        }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not_found", text)
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "bad_request", text)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem {
            error: ErrorBody {
                code: self.code.to_owned(),
                text: self.text,
            },
        };
        (self.status, Json(problem)).into_response()
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", unavailable.to_string())
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Failure {
        let code = match rejection.status() {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            _ => "bad_request",
        };
        Failure::new(rejection.status(), code, rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Failure {
        Failure::new(rejection.status(), "bad_request", rejection.body_text())
    }
}

/// A body in JSON; what is wrong with it is said in JSON.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(Failure))]
pub(crate) struct Body<T>(pub(crate) T);

/// The parameters of the query, likewise.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Failure))]
pub(crate) struct Query<T>(pub(crate) T);

/// How many are told of, if nobody says.
pub(crate) fn hundred() -> usize {
    100
}

/// Whether so many may be asked for.
pub(crate) fn check_limit(limit: usize) -> Result<(), Failure> {
    if (1..=1000).contains(&limit) {
        return Ok(());
    }
    Err(Failure::bad_request(format!("limit is 1 to 1000, not {limit}")))
}

/// There is nothing at this path.
pub(crate) async fn not_found(uri: Uri) -> Failure {
    Failure::not_found(format!(
        "there is nothing at {}: the console is at /, the API at /v1 and described at /v1/openapi.json, metrics are at /metrics",
        uri.path()
    ))
}

/// It is there, but not for this method.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{method} cannot be done with {}: see /v1/openapi.json", uri.path()),
    )
}

//! A client of the control plane, for the commands that speak to a running broker.

use std::time::Duration;

use http::HeaderValue;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::http::{Http, HttpSetupError, Limits, Url, UrlError};

/// How long a request may take, unless something else is said. Workers have five seconds to answer.
const USUAL_LIMIT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const MOST_ANSWER: usize = 16 << 20;

/// Why a broker did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    /// The address is none.
    #[error("{0:?} is no address of a control plane: {1}")]
    Url(String, UrlError),
    /// The token cannot be sent.
    #[error("the token has characters that no token has")]
    Token,
    /// Requests cannot be made.
    #[error(transparent)]
    Setup(#[from] HttpSetupError),
    /// Nobody answers.
    #[error(
        "the control plane at {url} cannot be reached: {reason}; is the broker running, and is this its --admin address?"
    )]
    Unreachable {
        /// Where it should be.
        url: String,
        /// Why not.
        reason: String,
    },
    /// It answers, but not with what was asked for.
    #[error("{text}")]
    Refused {
        /// The status.
        status: u16,
        /// Why.
        text: String,
    },
}

/// Speaks to the control plane of a broker; each request waits for its answer.
#[derive(Debug)]
pub struct AdminClient {
    runtime: Runtime,
    http: Http,
    base: String,
    authorization: Option<HeaderValue>,
    limits: Limits,
}

impl AdminClient {
    /// For the control plane at `url`, with a token if it wants one.
    ///
    /// # Errors
    /// The address or the token is none.
    pub fn new(url: &str, token: Option<&str>) -> Result<AdminClient, AdminClientError> {
        let base = url.trim_end_matches('/').to_owned();
        let base = if base.contains("://") {
            base
        } else {
            format!("http://{base}")
        };
        let parsed = parse(&base)?;
        let authorization = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| AdminClientError::Token)?;
            value.set_sensitive(true);
            Ok::<_, AdminClientError>(value)
        });
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| AdminClientError::Unreachable {
            url: base.clone(),
            reason: error.to_string(),
        })?;
        Ok(AdminClient {
            runtime,
            http: Http::new(&parsed, None)?,
            base,
            authorization: authorization.transpose()?,
            limits: Limits {
                time: USUAL_LIMIT,
                bytes: MOST_ANSWER,
            },
        })
    }

    /// The same, with so much time for each request.
    #[must_use]
    pub fn with_limit(mut self, time: Duration) -> AdminClient {
        self.limits.time = time;
        self
    }

    /// Asks for what is at `path`, with its query.
    ///
    /// # Errors
    /// Nobody answers, or the answer is a refusal.
    pub fn get(&self, path: &str) -> Result<Value, AdminClientError> {
        let url = parse(&format!("{}{path}", self.base))?;
        let asked = self.http.get(&url, self.authorization.as_ref(), self.limits);
        self.answer(self.runtime.block_on(asked))
    }

    /// Asks whether clients may be sent to the broker, and gives what it says (`/readyz`).
    ///
    /// # Errors
    /// Nobody answers, or clients may not: [`AdminClientError::Refused`] has the reason.
    pub fn ready(&self) -> Result<String, AdminClientError> {
        let url = parse(&format!("{}/readyz", self.base))?;
        let asked = self.http.get(&url, self.authorization.as_ref(), self.limits);
        let answer = self.runtime.block_on(asked).map_err(|error| self.unreachable(&error))?;
        let body = String::from_utf8_lossy(&answer.body);
        let text = body.lines().next().unwrap_or_default().to_owned();
        if answer.status.is_success() {
            return Ok(text);
        }
        let status = answer.status.as_u16();
        Err(AdminClientError::Refused { status, text })
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// Nobody answers, or the answer is a refusal.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, AdminClientError> {
        let url = parse(&format!("{}{path}", self.base))?;
        let body = body.to_string().into_bytes();
        let asked = self.http.post(&url, self.authorization.as_ref(), body, self.limits);
        self.answer(self.runtime.block_on(asked))
    }

    fn answer(&self, answer: Result<crate::http::Answer, crate::http::HttpError>) -> Result<Value, AdminClientError> {
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        let value: Option<Value> = serde_json::from_slice(&answer.body).ok();
        if answer.status.is_success() {
            return value.ok_or_else(|| self.unreachable(&"what answers there is none"));
        }
        let text = value.as_ref().and_then(|value| value["error"]["text"].as_str());
        Err(AdminClientError::Refused {
            status: answer.status.as_u16(),
            text: text.map_or_else(|| answer.status.to_string(), str::to_owned),
        })
    }

    fn unreachable(&self, reason: &dyn std::fmt::Display) -> AdminClientError {
        AdminClientError::Unreachable {
            url: self.base.clone(),
            reason: reason.to_string(),
        }
    }
}

fn parse(url: &str) -> Result<Url, AdminClientError> {
    url.parse()
        .map_err(|error| AdminClientError::Url(url.to_owned(), error))
}

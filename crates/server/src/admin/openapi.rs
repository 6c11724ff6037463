//! The description of the API, as OpenAPI.

use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use super::{answer, connections, control, publish, stats, tap, topics};

/// The control plane of a tidecast broker.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "tidecast control plane",
        description = "What an operator can see of a tidecast broker and do to it. Where tokens are configured (admin_tokens), each \
                       request needs one as `Authorization: Bearer`. Besides what is described here there are /metrics (Prometheus), \
                       /healthz (all workers live) and /readyz (connections are accepted).",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    paths(
        stats::stats,
        publish::publish,
        connections::connections,
        connections::connection,
        connections::disconnect,
        connections::unsubscribe,
        topics::topics,
        tap::tap,
        control::reload,
        control::upgrade,
        control::drain,
        control::log_level,
        control::set_log_level,
    ),
    components(schemas(answer::Problem, tap::TapLine)),
    security(("token" = []), ()),
    modifiers(&Token),
)]
struct Api;

struct Token;

impl utoipa::Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", bearer);
    }
}

/// The description as JSON.
#[must_use]
pub fn document() -> String {
    let mut text = Api::openapi().to_pretty_json().expect("a description is JSON");
    text.push('\n');
    text
}

/// Serves it.
pub(crate) async fn serve() -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "application/json")], document())
}

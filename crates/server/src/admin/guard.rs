//! Who may use the control plane.
//!
//! Without tokens everybody on this machine may, which must not include the pages in its browsers: another site's page could
//! send requests here, or have its own name lead here. So a request that a page makes has to come from a page of
//! the same host, and the host has to be one that is not somebody else's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State as Extract};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tidecast_auth::Authenticator;

use super::answer::Failure;
use super::{AdminAccess, State};
use crate::hook::now;

/// What a request may take, with its body, until it is answered; an answer without an end may take longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Where browsers say how far from here the page is that asks, and what it wants the answer for (Fetch Metadata, of the W3C).
const FETCH_SITE: &str = "sec-fetch-site";
const FETCH_DESTINATION: &str = "sec-fetch-dest";

/// Judges requests.
#[derive(Debug)]
pub(crate) struct Guard {
    tokens: Option<Arc<Authenticator>>,
    hosts: Vec<String>,
}

impl Guard {
    pub(crate) fn new(access: AdminAccess) -> Guard {
        Guard {
            tokens: access.tokens.filter(|tokens| tokens.takes_tokens()),
            hosts: access.hosts,
        }
    }

    /// Whether a page, if it is one that sends this, is ours.
    fn check_page(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let refused = |text: String| Err(Failure::new(StatusCode::FORBIDDEN, "foreign_origin", text));
        // What is no text is none of ours.
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let Some(host) = text(HOST.as_str()) else {
            return Err(Failure::bad_request("a request needs a Host header"));
        };
        if !self.is_ours(name_of(host)) {
            return refused(format!(
                "{host:?} is not known as a name of this broker: use its address, or add the name to admin_hosts"
            ));
        }
        match text(ORIGIN.as_str()) {
            Some(origin) if origin.split_once("://").is_some_and(|(_, from)| from == host) => return Ok(()),
            Some(origin) => {
                return refused(format!("pages of {origin} may not use the control plane of {host}"));
            }
            None => {}
        }
        // A page can do without an origin where it does not get to see the answer, as for an image: that keeps us busy all the same.
        // Who follows a link sees where it leads.
        match (text(FETCH_SITE), text(FETCH_DESTINATION)) {
            (None | Some("same-origin" | "none"), _) | (_, Some("document")) => Ok(()),
            _ => refused(format!("pages of other sites may not use the control plane of {host}")),
        }
    }

    /// Whether nobody else can have this name lead here.
    fn is_ours(&self, name: &str) -> bool {
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        is_address
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(tokens) = &self.tokens else {
            return Ok(());
        };
        let refused = |text: &str| Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", text));
        let Some(value) = headers.get(AUTHORIZATION) else {
            return refused("a token is needed: send it as Authorization: Bearer TOKEN");
        };
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        let Some((_, token)) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
            return refused("Authorization has to be Bearer TOKEN");
        };
        match tokens.authenticate(token.trim(), now()) {
            Ok(_) => Ok(()),
            Err(_) => refused("this is none of the tokens in admin_tokens"),
        }
    }
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Lets a request through that may be made.
pub(crate) async fn check(Extract(state): Extract<Arc<State>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Whoever checks whether we live has neither a token nor our name; the page shows nothing by itself.
    let is_health = matches!(path, "/healthz" | "/readyz");
    let is_open = is_health || path == "/";
    let judged = {
        let guard = state.guard.read();
        let page = if is_health {
            Ok(())
        } else {
            guard.check_page(request.headers())
        };
        page.and_then(|()| {
            if is_open {
                Ok(())
            } else {
                guard.check_token(request.headers())
            }
        })
    };
    match judged {
        Ok(()) => {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            DefaultBodyLimit::max(state.most_body()).apply(&mut request);
            let answered = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
            let response = answered.unwrap_or_else(|_| {
                let text = format!("the request did not arrive, or was not answered, within {REQUEST_TIMEOUT:?}");
                Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", text).into_response()
            });
            tracing::debug!(%method, path, status = response.status().as_u16(), "the control plane was asked");
            response
        }
        Err(failure) => {
            let mut response = failure.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let challenge = axum::http::HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(axum::http::HeaderName, &str)]) -> HeaderMap {
        let pair = |(name, value): &(axum::http::HeaderName, &str)| (name.clone(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn guard() -> Guard {
        Guard::new(AdminAccess {
            tokens: None,
            hosts: vec!["ops.example.com".to_owned()],
        })
    }

    #[test]
    fn pages_of_other_sites_and_names_that_may_be_anybodys_are_refused() {
        for (host, origin, good) in [
            ("127.0.0.1:9091", None, true),
            ("localhost:9091", None, true),
            ("[::1]:9091", Some("http://[::1]:9091"), true),
            ("[::1]", None, true),
            ("ops.example.com", Some("https://ops.example.com"), true),
            ("OPS.example.com:443", None, true),
            ("127.0.0.1:9091", Some("http://127.0.0.1:9091"), true),
            ("127.0.0.1:9091", Some("http://127.0.0.1:8080"), false),
            ("127.0.0.1:9091", Some("https://evil.example"), false),
            ("127.0.0.1:9091", Some("null"), false),
            ("evil.example:9091", None, false),
            ("evil.example:9091", Some("http://evil.example:9091"), false),
        ] {
            let mut pairs = vec![(HOST, host)];
            pairs.extend(origin.map(|origin| (ORIGIN, origin)));
            assert_eq!(guard().check_page(&headers(&pairs)).is_ok(), good, "{host} {origin:?}");
        }
        assert!(guard().check_page(&headers(&[])).is_err());
    }

    #[test]
    fn what_a_page_of_another_site_puts_into_itself_is_refused_and_a_link_is_not() {
        for (site, destination, good) in [
            ("same-origin", "empty", true),
            ("none", "document", true),
            ("cross-site", "document", true),
            ("cross-site", "image", false),
            ("cross-site", "empty", false),
            ("cross-site", "iframe", false),
            ("same-site", "script", false),
        ] {
            let headers = headers(&[
                (HOST, "localhost:9091"),
                (axum::http::HeaderName::from_static(FETCH_SITE), site),
                (axum::http::HeaderName::from_static(FETCH_DESTINATION), destination),
            ]);
            assert_eq!(guard().check_page(&headers).is_ok(), good, "{site} {destination}");
        }
    }

    #[test]
    fn where_there_are_tokens_one_is_needed() {
        let settings = tidecast_auth::Settings {
            tokens: vec![tidecast_auth::TokenSettings {
                hash: tidecast_auth::hash_line("secret"),
                identity: None,
                publish: Vec::new(),
                subscribe: Vec::new(),
                expires: None,
            }],
            ..tidecast_auth::Settings::default()
        };
        let guard = Guard::new(AdminAccess {
            tokens: Some(Arc::new(Authenticator::new(&settings).unwrap())),
            hosts: Vec::new(),
        });
        for (value, good) in [
            ("Bearer secret", true),
            ("bearer secret", true),
            ("Bearer guess", false),
            ("Basic secret", false),
            ("secret", false),
        ] {
            assert_eq!(
                guard.check_token(&headers(&[(AUTHORIZATION, value)])).is_ok(),
                good,
                "{value}"
            );
        }
        assert!(guard.check_token(&headers(&[])).is_err());
    }
}

//! Pages of other origins that make plain HTTP requests: whether they may, and that they may see the answer (CORS, the Fetch
//! standard, section 3.2).
//!
//! A browser sends a simple request, such as a POST of plain text, without asking first, and only keeps the answer from the page.
//! So who may not is refused before anything is done; who may is refused nothing by the browser either.

use tidecast_websocket::http::{Request, Response};

use crate::origin::Origin;

/// How long a browser may remember what it was told, in seconds.
const MAX_AGE: u32 = 600;
/// Octets of an origin that are repeated to whoever is refused.
const SHOWN_ORIGIN: usize = 200;

/// What a page is told with an answer. Nothing, if the request says nothing of one.
#[derive(Debug, Default)]
pub(crate) struct Cors {
    origin: Option<Box<str>>,
    /// It may send cookies and see what comes of it: it is listed, not just one of all.
    with_credentials: bool,
}

impl Cors {
    /// What the page that makes `request` is told.
    ///
    /// # Errors
    /// Its origin is none of these; the text says so.
    pub(crate) fn judge(request: &Request<'_>, origins: &[Origin]) -> Result<Cors, String> {
        let Some(origin) = request.header("Origin") else {
            return Ok(Cors::default());
        };
        let mut permitting = origins
            .iter()
            .filter(|pages| pages.permits(origin, request.header("Host")))
            .peekable();
        if permitting.peek().is_none() {
            return Err(not_permitted(origin));
        }
        Ok(Cors {
            origin: Some(origin.into()),
            with_credentials: permitting.any(|pages| *pages != Origin::Any),
        })
    }

    /// Adds what the page is told to a response.
    pub(crate) fn write<'o>(&self, response: Response<'o>) -> Response<'o> {
        // Also where there is none: what is kept of that answer is not for those with one.
        let response = response.header("Vary", "Origin");
        match &self.origin {
            Some(origin) if self.with_credentials => response
                .header("Access-Control-Allow-Origin", origin)
                .header("Access-Control-Allow-Credentials", "true"),
            Some(origin) => response.header("Access-Control-Allow-Origin", origin),
            None => response,
        }
    }

    /// Adds what may be requested, to a response that has the rest already.
    pub(crate) fn write_options<'o>(&self, response: Response<'o>, methods: &str) -> Response<'o> {
        if self.origin.is_none() {
            return response;
        }
        response
            .header("Access-Control-Allow-Methods", methods)
            .header(
                "Access-Control-Allow-Headers",
                "Authorization, Content-Type, Last-Event-ID",
            )
            .header("Access-Control-Max-Age", MAX_AGE)
    }
}

/// What a page that may not connect is told.
pub(crate) fn not_permitted(origin: &str) -> String {
    let origin: String = origin.chars().take(SHOWN_ORIGIN).collect();
    format!("Pages of {origin} may not connect here. The broker's operator can add them to `origins`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header fields that a page of this origin is told, if it may.
    fn told(origins: &[Origin], origin: &str) -> Result<String, String> {
        let head = format!("POST / HTTP/1.1\r\nHost: broker.example\r\n{origin}\r\n");
        let (request, _) = Request::parse(head.as_bytes(), 8192).unwrap().unwrap();
        let cors = Cors::judge(&request, origins)?;
        let mut out = Vec::new();
        cors.write(Response::new(&mut out, 200)).end();
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn only_pages_that_are_listed_are_told_that_cookies_count() {
        let listed: Origin = "https://app.example".parse().unwrap();
        let page = "Origin: https://app.example\r\n";
        for (origins, header, allowed, with_credentials) in [
            (vec![listed.clone()], page, true, true),
            (vec![Origin::Any], page, true, false),
            (vec![Origin::Any, listed.clone()], page, true, true),
            (vec![Origin::Same], "Origin: http://broker.example\r\n", true, true),
            (vec![Origin::Same], "", false, false),
        ] {
            let told = told(&origins, header).unwrap();
            assert!(told.contains("\r\nVary: Origin\r\n"), "{told}");
            let origin = format!("Access-Control-Allow-{header}");
            assert_eq!(told.contains(&origin) && !header.is_empty(), allowed, "{told}");
            assert_eq!(told.contains("-Credentials: true\r\n"), with_credentials, "{told}");
            assert!(!told.contains("-Origin: *"));
        }
    }

    #[test]
    fn others_are_refused_by_name() {
        let listed: Origin = "https://app.example".parse().unwrap();
        for origin in ["https://evil.example", "null", "garbage", ""] {
            let refused = told(&[listed.clone(), Origin::Same], &format!("Origin: {origin}\r\n")).unwrap_err();
            assert!(refused.contains(&format!("Pages of {origin} may not")), "{refused}");
        }
    }
}

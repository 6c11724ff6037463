//! What is answered to an HTTP request: a page, a refusal, the switch to WebSocket; or what has to happen before it is answered.

mod topics;

use std::sync::Arc;

use tidecast_broker::auth::Grant;
use tidecast_broker::wire::{binary, close, json};
use tidecast_broker::{Encoding, Target, TopicLimits};
use tidecast_websocket::http::{BodyLength, Request, Response};
use tidecast_websocket::{Accept, Extension, Upgrade, Version, Versions};

use crate::asking::Asking;
use crate::authentication::{Authentication, Denial, Held, Visitor, is_credentials};
use crate::config::Config;
use crate::cors;
use crate::origin::Origin;
use crate::posting::Envelope;
use topics::Address;

/// The subprotocols of multiplexed connections.
const MULTIPLEXED: [(&str, Encoding); 2] = [
    (json::SUBPROTOCOL, Encoding::Json),
    (binary::SUBPROTOCOL, Encoding::Binary),
];
/// What the built-in page may do: it is one file, and connects back to where it came from.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is served.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The page at `/`.
    pub(crate) page: &'static str,
    pub(crate) versions: Versions,
    pub(crate) extensions: Accept,
    pub(crate) topics: TopicLimits,
    /// The longest body of a request, in octets.
    pub(crate) max_body: usize,
    pub(crate) authentication: Authentication,
}

/// What a request was answered with. The answer itself is in the output, if there is one yet. Where it `stays`, the connection
/// may be used for another request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A page.
    Page { stays: bool },
    /// What may be requested.
    Options { stays: bool },
    /// None yet: its body is a message that is to be published.
    Publish(Box<Envelope>),
    /// The head of a stream of events, for one topic or filter.
    Events(Target, Arc<Grant>),
    /// A refusal.
    Refused,
    /// A refusal because of the page that asks.
    Foreign,
    /// None yet: it depends on what the hook is asked.
    Waiting,
    /// A refusal because of who asks.
    Denied,
    /// The switch to a WebSocket that is to be closed with this code and reason: a browser tells its page nothing else.
    Closed(Switch, Denial),
    /// The switch to a multiplexed WebSocket that is spoken to in this encoding.
    Multiplexed(Switch, Encoding, Arc<Grant>),
    /// The switch to a WebSocket on one topic or filter.
    Raw(Switch, Target, Arc<Grant>),
}

impl Answer {
    /// Whether it is a 101 that has to be read by itself, neither behind other answers nor before frames.
    pub(crate) fn goes_alone(&self) -> bool {
        match self {
            Answer::Closed(switch, _) | Answer::Multiplexed(switch, ..) | Answer::Raw(switch, ..) => {
                !switch.version.frames_may_follow_101()
            }
            _ => false,
        }
    }
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switch {
    pub(crate) version: Version,
    pub(crate) extension: Option<Extension>,
}

impl Site {
    pub(crate) fn new(config: &Config) -> Site {
        Site {
            page: config.page,
            versions: config.versions,
            extensions: config.compression.map_or(Accept::NONE, |compression| Accept {
                client_context_takeover: compression.client_context_takeover,
                ..Accept::default()
            }),
            topics: config.topics,
            max_body: config.max_message as usize,
            authentication: Authentication::new(config),
        }
    }

    /// Answers the request of a visitor, about whom the hook may be asked.
    pub(crate) fn answer(
        &self,
        request: &Request<'_>,
        visitor: Visitor<'_>,
        asking: Option<&mut Asking>,
        out: &mut Vec<u8>,
    ) -> Answer {
        let answer = self.answer_whole(request, visitor, asking, out);
        if request.method() == "HEAD"
            && let Some(end) = out.windows(4).position(|octets| octets == b"\r\n\r\n")
        {
            out.truncate(end + 4);
        }
        answer
    }

    /// The same with a body, even if none is asked for.
    fn answer_whole(
        &self,
        request: &Request<'_>,
        visitor: Visitor<'_>,
        asking: Option<&mut Asking>,
        out: &mut Vec<u8>,
    ) -> Answer {
        let path = request.path();
        if path == "/" {
            self.root(request, visitor, out)
        } else if path == "/ws" {
            self.multiplexed(request, visitor, asking, out)
        } else if let Some(topic) = path.strip_prefix("/t/") {
            if Site::is_plain(request) {
                return self.plain(request, topic, visitor, asking, out);
            }
            self.raw(request, topic, visitor, asking, out)
        } else {
            let hint = "Nothing is here. The page is at /, WebSockets are at /ws and /t/<topic>.";
            //= RFC 6455#section-4.2.2
            //# If the requested service is not available, the server MUST send an appropriate HTTP error code (such as
            //# 404 Not Found) and abort the WebSocket handshake.
            refuse(404, hint, out)
        }
    }

    fn root(&self, request: &Request<'_>, visitor: Visitor<'_>, out: &mut Vec<u8>) -> Answer {
        if request.wants_websocket() {
            return refuse(404, "There is no WebSocket at /. Connect to /ws or /t/<topic>.", out);
        }
        if let Err(error) = request.check_host() {
            return refuse(error.status(), &format!("{error}."), out);
        }
        let response = match request.method() {
            "GET" | "HEAD" => Response::new(out, 200),
            _ => {
                let response = Response::new(out, 405).header("Allow", "GET, HEAD");
                response
                    .header("Connection", "close")
                    .text("The page can only be read.");
                return Answer::Refused;
            }
        };
        let stays = !visitor.leaves && request.keeps_alive() && request.body_length() == Ok(BodyLength::NONE);
        let response = if stays {
            response
        } else {
            response.header("Connection", "close")
        };
        let response = response
            .header("Cache-Control", "no-cache")
            .header("Content-Security-Policy", PAGE_POLICY)
            .header("X-Content-Type-Options", "nosniff");
        response.body("text/html; charset=utf-8", self.page.as_bytes());
        Answer::Page { stays }
    }

    fn multiplexed(
        &self,
        request: &Request<'_>,
        visitor: Visitor<'_>,
        asking: Option<&mut Asking>,
        out: &mut Vec<u8>,
    ) -> Answer {
        let (upgrade, switch) = match self.switch(request, &visitor.door.origins, out) {
            Ok(agreed) => agreed,
            Err(refused) => return refused,
        };
        let mut offered = upgrade.protocols().filter(|item| !is_credentials(item)).peekable();
        let (protocol, encoding) = if offered.peek().is_none() {
            (None, Encoding::Json)
        } else {
            // The client's order of preference decides.
            let known = offered.find_map(|item| MULTIPLEXED.into_iter().find(|(name, _)| *name == item));
            let Some((name, encoding)) = known else {
                let [(json, _), (binary, _)] = MULTIPLEXED;
                let hint = format!("Offer the subprotocol {json} or {binary}, or none, which means {json}.");
                return refuse(400, &hint, out);
            };
            (Some(name), encoding)
        };
        match self.authentication.admit(request, &upgrade, visitor, asking) {
            Ok(grant) => {
                upgrade.write_response_with(protocol, switch.extension, out);
                Answer::Multiplexed(switch, encoding, grant)
            }
            Err(Held::Denied(denial)) => deny(denial, &upgrade, switch, protocol, out),
            Err(Held::Wait) => Answer::Waiting,
        }
    }

    /// Checks the handshake and chooses among the extensions that are offered; otherwise refuses.
    fn switch<'b, 'r>(
        &self,
        request: &'r Request<'b>,
        origins: &[Origin],
        out: &mut Vec<u8>,
    ) -> Result<(Upgrade<'b, 'r>, Switch), Answer> {
        if request.wants_websocket() && request.body_length() != Ok(BodyLength::NONE) {
            return Err(refuse(400, "A handshake has no body: what follows it is frames.", out));
        }
        let agreed = Upgrade::from_request(request, self.versions)
            .and_then(|upgrade| Ok((upgrade.negotiate(&self.extensions)?, upgrade)));
        let (extension, upgrade) = match agreed {
            Ok(agreed) => agreed,
            Err(error) => {
                error.write_response(out);
                return Err(Answer::Refused);
            }
        };
        //= RFC 6455#section-4.2.2
        //# If the server does not wish to accept this connection, it MUST return an appropriate HTTP error code (e.g., 403
        //# Forbidden) and abort the WebSocket handshake described in this section.
        if let Some(origin) = upgrade.origin()
            && !origins
                .iter()
                .any(|pages| pages.permits(origin, request.header("Host")))
        {
            refuse(403, &cors::not_permitted(origin), out);
            return Err(Answer::Foreign);
        }
        // libwebsockets of 2011 offers deflate-stream always, and without a subprotocol does not switch it on when it
        // is accepted. It tells nothing of itself, as browsers do.
        let trusted = upgrade.protocols().next().is_some() || request.header("User-Agent").is_some();
        let switch = Switch {
            version: upgrade.version(),
            extension: extension.filter(|extension| trusted || *extension != Extension::DeflateStream),
        };
        Ok((upgrade, switch))
    }

    fn raw(
        &self,
        request: &Request<'_>,
        topic: &str,
        visitor: Visitor<'_>,
        asking: Option<&mut Asking>,
        out: &mut Vec<u8>,
    ) -> Answer {
        let (upgrade, switch) = match self.switch(request, &visitor.door.origins, out) {
            Ok(agreed) => agreed,
            Err(refused) => return refused,
        };
        let address = match Address::decode(request, topic) {
            Ok(address) => address,
            Err(hint) => return refuse(400, hint, out),
        };
        let target = match Target::new(&address.topic, address.parameters(), &self.topics) {
            Ok(target) => target,
            Err(error) => return refuse(400, &error.to_string(), out),
        };
        // The payloads are the application's own, so its first subprotocol is as good as any: browsers fail a connection
        // whose offer is not answered.
        let protocol = upgrade.protocols().find(|item| !is_credentials(item));
        match self
            .authentication
            .admit_to(&target, request, Some(&upgrade), visitor, asking)
        {
            Ok(grant) => {
                upgrade.write_response_with(protocol, switch.extension, out);
                Answer::Raw(switch, target, grant)
            }
            Err(Held::Denied(denial)) => deny(denial, &upgrade, switch, protocol, out),
            Err(Held::Wait) => Answer::Waiting,
        }
    }
}

/// Whether `bytes` contain the empty line that ends a request head.
pub(crate) fn ends_head(bytes: &[u8]) -> bool {
    let after_newline =
        |index: usize| bytes.get(index + 1) == Some(&b'\n') || bytes.get(index + 1..index + 3) == Some(b"\r\n");
    (0..bytes.len()).any(|index| bytes[index] == b'\n' && after_newline(index))
}

/// Tells a browser's page by a close code, which is all that it gets to see, and others by a status.
fn deny(
    denial: Denial,
    upgrade: &Upgrade<'_, '_>,
    switch: Switch,
    protocol: Option<&str>,
    out: &mut Vec<u8>,
) -> Answer {
    if upgrade.origin().is_some() {
        upgrade.write_response_with(protocol, switch.extension, out);
        return Answer::Closed(switch, denial);
    }
    let response = if denial.code == close::FORBIDDEN {
        Response::new(out, 403)
    } else {
        Response::new(out, 401).header("WWW-Authenticate", "Bearer")
    };
    response.header("Connection", "close").text(denial.text);
    Answer::Denied
}

fn refuse(status: u16, hint: &str, out: &mut Vec<u8>) -> Answer {
    Response::new(out, status).header("Connection", "close").text(hint);
    Answer::Refused
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidecast_broker::auth::{Authenticator, Ground, Patterns, Settings, TokenSettings, UnixSeconds, hash_line};

    use super::*;
    use crate::config::{Carriers, ListenerConfig};

    const UPGRADE: &str = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

    const PLAIN: Switch = Switch {
        version: Version::V13,
        extension: None,
    };

    /// Answered where tokens are `tokens`, and anonymous clients may do what `anonymous` says.
    fn answer_with(line: &str, headers: &str, settings: &Settings, anonymous: Option<Grant>) -> (Answer, String) {
        let carriers = Carriers {
            cookie: Some("session".into()),
            query_parameter: Some("token".into()),
        };
        let authenticator = Arc::new(Authenticator::new(settings).unwrap());
        let door = ListenerConfig {
            origins: [Origin::Same].into(),
            anonymous: anonymous.map(|grant| {
                Arc::new(Grant {
                    ground: Ground::Door(3),
                    ..grant
                })
            }),
            proxy: false,
            tls: None,
        };
        let site = Site {
            authentication: Authentication::of(authenticator, carriers, Arc::default(), Duration::from_secs(10)),
            page: "<!doctype html>",
            versions: Versions::ALL,
            extensions: Accept::default(),
            topics: TopicLimits::default(),
            max_body: 1000,
        };
        let bytes = format!("{line} HTTP/1.1\r\n{headers}\r\n");
        let (request, _) = Request::parse(bytes.as_bytes(), 8192).unwrap().expect("a whole head");
        let mut out = Vec::new();
        let visitor = Visitor {
            door: &door,
            number: 3,
            slot: 7,
            certificate: None,
            leaves: false,
            now: UnixSeconds(1000),
        };
        let answer = site.answer(&request, visitor, None, &mut out);
        (answer, String::from_utf8(out).unwrap())
    }

    fn answer(line: &str, headers: &str) -> (Answer, String) {
        answer_with(line, headers, &Settings::default(), Some(Grant::everything()))
    }

    /// Who may do what, by a token that is known.
    fn known(token: &str, publish: &str, expires: Option<u64>) -> Settings {
        Settings {
            tokens: vec![TokenSettings {
                hash: hash_line(token),
                identity: Some("alice".to_owned()),
                publish: vec![publish.to_owned()],
                subscribe: vec!["news/#".to_owned()],
                expires: expires.map(UnixSeconds),
            }],
            ..Settings::default()
        }
    }

    #[test]
    fn a_token_is_found_wherever_a_client_can_put_it() {
        let settings = known("secret", "a", None);
        for (line, header) in [
            ("GET /ws", "Authorization: Bearer secret"),
            ("GET /ws", "authorization: bearer  secret "),
            ("GET /ws", "Sec-WebSocket-Protocol: bearer.secret, tidecast.json.v1"),
            ("GET /ws", "Cookie: a=b; session=secret"),
            ("GET /ws", "Cookie: session=\"secret\""),
            ("GET /ws?token=secret", "X: y"),
            ("GET /ws?a=b&token=%73ecret", "X: y"),
        ] {
            let (answer, text) = answer_with(line, &format!("{UPGRADE}{header}\r\n"), &settings, None);
            assert!(text.starts_with("HTTP/1.1 101 "), "{line}, {header}: {text}");
            assert!(!text.contains("secret"), "{text}");
            let Answer::Multiplexed(_, _, grant) = answer else {
                panic!("{line}")
            };
            assert_eq!(grant.identity.as_deref(), Some("alice"), "{line}, {header}");
        }
        for header in ["Cookie: other=secret", "Authorization: Basic secret", "X: y"] {
            let (answer, _) = answer_with("GET /ws", &format!("{UPGRADE}{header}\r\n"), &settings, None);
            let Answer::Multiplexed(_, _, grant) = answer else {
                panic!("{header}")
            };
            assert_eq!(
                *grant,
                Grant {
                    expires: Some(UnixSeconds(1011)),
                    ground: Ground::Door(3),
                    ..Grant::nothing()
                },
                "it may send one yet"
            );
        }
    }

    #[test]
    fn who_is_not_let_in_is_told_by_a_status_and_a_page_by_a_close_code() {
        const TOKEN: &str = "Authorization: Bearer secret\r\n";
        const WRONG: &str = "Authorization: Bearer secreT\r\n";
        let (fresh, over) = (known("secret", "a", None), known("secret", "a", Some(900)));
        for (line, header, settings, status, code, word) in [
            ("GET /ws", WRONG, &fresh, "401", 4100, "not known"),
            ("GET /ws", TOKEN, &over, "401", 4103, "expired"),
            ("GET /t/news%2Fa", WRONG, &fresh, "401", 4100, "not known"),
            ("GET /t/news%2Fa", "", &fresh, "401", 4100, "credentials are needed"),
            (
                "GET /t/other",
                TOKEN,
                &fresh,
                "403",
                4101,
                "do not permit this subscription",
            ),
            (
                "GET /t/%23",
                TOKEN,
                &fresh,
                "403",
                4101,
                "do not permit this subscription",
            ),
            ("GET /t/a", TOKEN, &fresh, "403", 4101, "?mode=pub"),
            ("GET /t/b?mode=pub", TOKEN, &fresh, "403", 4101, "publishing"),
        ] {
            let (answer, text) = answer_with(line, &format!("{UPGRADE}{header}"), settings, None);
            assert!(matches!(answer, Answer::Denied), "{line}: {text}");
            assert!(
                text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains(word),
                "{line}: {text}"
            );
            assert_eq!(text.contains("WWW-Authenticate: Bearer"), status == "401", "{text}");
            assert!(!text.contains("secre"), "{text}");
            let page = format!("{UPGRADE}{header}Origin: http://h\r\n");
            let (answer, text) = answer_with(line, &page, settings, None);
            assert!(text.starts_with("HTTP/1.1 101 "), "{line}: {text}");
            let Answer::Closed(_, denial) = answer else {
                panic!("{line}: {answer:?}")
            };
            assert!(denial.code == code && denial.text.contains(word), "{line}: {denial:?}");
        }
    }

    #[test]
    fn what_is_permitted_is_opened_and_tokens_that_nobody_looks_at_are_ignored() {
        const TOKEN: &str = "Authorization: Bearer secret\r\n";
        let settings = known("secret", "a", None);
        for line in ["GET /t/news%2Fa", "GET /t/news%2F%23", "GET /t/a?mode=pub"] {
            let (answer, text) = answer_with(line, &format!("{UPGRADE}{TOKEN}"), &settings, None);
            assert!(matches!(answer, Answer::Raw(..)), "{line}: {text}");
        }
        let (answer, _) = answer("GET /t/x", &format!("{UPGRADE}{TOKEN}"));
        let Answer::Raw(_, _, grant) = answer else { panic!() };
        let door = Ground::Door(3);
        assert_eq!((&grant.publish, grant.ground), (&Patterns::all(), door));
    }

    #[test]
    fn plain_requests_get_the_page_or_a_status_that_says_what_to_do() {
        let table = [
            ("GET /", "Host: h\r\n", "200 OK", "<!doctype html>"),
            ("GET /?x=1", "Host: h\r\n", "200 OK", "<!doctype html>"),
            ("GET /", "", "400 ", "exactly one Host"),
            ("GET /", "Host: h\r\nHost: i\r\n", "400 ", "exactly one Host"),
            ("HEAD /", "Host: h\r\n", "200 OK", "Content-Length: 15"),
            ("POST /", "Host: h\r\n", "405 ", "Allow: GET, HEAD"),
            ("GET /favicon.ico", "Host: h\r\n", "404 ", "/t/<topic>"),
            ("GET /ws", "Host: h\r\n", "426 ", "Sec-WebSocket-Version: 13, 8, 7, 6"),
            ("GET /t/a", "Host: h\r\n", "426 ", "Upgrade: websocket"),
            ("PUT /t/a", "Host: h\r\n", "405 ", "Allow: GET, HEAD, POST, OPTIONS"),
            ("HEAD /t/a", "Host: h\r\n", "405 ", "Allow: GET, HEAD"),
            ("POST /t/%2B", "Host: h\r\n", "400 ", "bad_topic"),
            ("POST /t/a", "", "400 ", "Host"),
            ("POST /t/a", "Host: h\r\nExpect: x\r\n", "417 ", "100-continue"),
            (
                "POST /t/a",
                "Host: h\r\nContent-Length: 1001\r\n",
                "413 ",
                "1000 octets",
            ),
            (
                "GET /t/%23%2Fa",
                "Host: h\r\nAccept: text/event-stream\r\n",
                "400 ",
                "bad_topic",
            ),
            (
                "GET /t/a?slow=x",
                "Host: h\r\nAccept: text/event-stream\r\n",
                "400 ",
                "slow=drop-new",
            ),
            (
                "GET /t/a",
                "Host: h\r\nAccept: text/event-stream\r\nContent-Length: 1\r\n",
                "400 ",
                "no body",
            ),
            ("GET /", UPGRADE, "404 ", "/ws"),
            ("GET /t/", UPGRADE, "400 ", "topic"),
            ("GET /t/a%2", UPGRADE, "400 ", "%"),
            ("GET /t/a%2F%23%2Fb", UPGRADE, "400 ", "#"),
            ("GET /t/a?mode=x", UPGRADE, "400 ", "mode=sub"),
            ("GET /t/a?since=all", UPGRADE, "400 ", "not available"),
        ];
        for (line, headers, status, content) in table {
            let (answer, text) = answer(line, headers);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {text}");
            assert!(text.contains(content), "{line}: {text}");
            let is_page = matches!(answer, Answer::Page { stays: true });
            assert_eq!(is_page, status == "200 OK", "{line}");
            let closes = text.contains("Connection: close") || text.contains("Connection: Upgrade, close");
            assert_eq!(closes, !is_page, "{line}: {text}");
            if line.starts_with("HEAD") {
                assert!(text.ends_with("\r\n\r\n"), "HEAD has no body: {text}");
            }
        }
    }

    #[test]
    fn a_page_that_may_not_connect_is_told_so_and_whoever_is_no_browser_passes() {
        for path in ["GET /ws", "GET /t/a"] {
            for (version, header) in [
                ("13", "Origin"),
                ("8", "Sec-WebSocket-Origin"),
                ("7", "Sec-WebSocket-Origin"),
            ] {
                let upgrade = UPGRADE.replace("Version: 13", &format!("Version: {version}"));
                let (answer, text) = answer(path, &format!("{upgrade}{header}: https://evil.example\r\n"));
                assert!(matches!(answer, Answer::Foreign), "{text}");
                assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
                assert!(text.contains("Pages of https://evil.example may not"), "{text}");
            }
            for origin in ["", "Origin: http://h\r\n"] {
                let (_, text) = answer(path, &format!("{UPGRADE}{origin}"));
                assert!(text.starts_with("HTTP/1.1 101 "), "{origin}: {text}");
            }
        }
    }

    #[test]
    fn subprotocols_are_chosen_by_the_path() {
        let (json, bin) = ("tidecast.json.v1", "tidecast.bin.v1");
        for (offers, chosen, encoding) in [
            ([bin, json], bin, Encoding::Binary),
            ([json, bin], json, Encoding::Json),
            (["tidecast.v9", bin], bin, Encoding::Binary),
        ] {
            let offers = format!("{UPGRADE}Sec-WebSocket-Protocol: bearer.abc, {}\r\n", offers.join(", "));
            let (accepted, text) = answer("GET /ws", &offers);
            assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
            assert!(
                text.contains(&format!("Sec-WebSocket-Protocol: {chosen}\r\n")),
                "{text}"
            );
            assert!(!text.contains("abc"));
            assert!(matches!(accepted, Answer::Multiplexed(PLAIN, as_chosen, _) if as_chosen == encoding));
        }

        let (_, text) = answer("GET /ws", &format!("{UPGRADE}Sec-WebSocket-Protocol: mqtt\r\n"));
        assert!(
            text.starts_with("HTTP/1.1 400 ") && text.contains(json) && text.contains(bin),
            "{text}"
        );

        let (accepted, text) = answer("GET /ws", &format!("{UPGRADE}Sec-WebSocket-Protocol: bearer.abc\r\n"));
        assert!(
            matches!(accepted, Answer::Multiplexed(PLAIN, Encoding::Json, _)),
            "{text}"
        );
        assert!(!text.contains("Sec-WebSocket-Protocol"), "{text}");

        let (accepted, text) = answer(
            "GET /t/a/b",
            &format!("{UPGRADE}Sec-WebSocket-Protocol: bearer.abc, my.own, other\r\n"),
        );
        assert!(matches!(accepted, Answer::Raw(PLAIN, ..)), "{text}");
        assert!(text.contains("Sec-WebSocket-Protocol: my.own\r\n"), "{text}");
    }

    #[test]
    fn compression_is_agreed_on_where_it_is_offered_and_can_be_trusted() {
        let table = [
            (
                "13",
                "permessage-deflate; client_max_window_bits",
                "",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=15",
            ),
            ("13", "deflate-stream", "User-Agent: x", ""),
            ("8", "deflate-stream", "User-Agent: x", "deflate-stream"),
            ("7", "deflate-stream", "Sec-WebSocket-Protocol: p", "deflate-stream"),
            ("6", "deflate-stream", "Sec-WebSocket-Protocol: p", "deflate-stream"),
            ("7", "deflate-stream", "", ""),
            ("7", "", "Sec-WebSocket-Protocol: p", ""),
        ];
        for (version, offer, more, agreed) in table {
            let headers = UPGRADE.replace("Version: 13", &format!("Version: {version}"));
            let more = if more.is_empty() {
                String::new()
            } else {
                format!("{more}\r\n")
            };
            let headers = format!("{headers}Sec-WebSocket-Extensions: {offer}\r\n{more}");
            let (_, text) = answer("GET /t/a", &headers);
            assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
            let answered = text
                .lines()
                .find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "))
                .unwrap_or_default();
            assert_eq!(answered, agreed, "version {version}, {offer}, {more}");
        }
    }
}

//! The HTTP hook: whoever runs the broker decides by a small web service who may do what.
//!
//! ```text
//!   workers ── Question ──▶ queue ──▶ at most so many at a time ── POST ──▶ {"allow": true, …} ──▶ Verdict ──▶ worker
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, StatusCode};
use rustls::pki_types::TrustAnchor;
use serde::{Deserialize, Serialize};
use tidecast_auth::{Changes, Event, Patterns, Ruling, TopicLimits, UnixSeconds, Verdict};
use tidecast_worker::{Asker, Question};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::http::{Answer, Http, HttpSetupError, Limits, Url};

/// The largest answer, in bytes: patterns of the most topics that there can be, and more.
const MOST_BYTES: usize = 256 << 10;
/// What a client is told when nobody could be asked.
const UNANSWERED: &str = "it could not be found out whether this is permitted; try again later";
/// What a client is told that may not, if no reason is given.
const DENIED: &str = "not permitted";

/// How much longer than a question may take workers wait for its answer: if it does not come then, it never will.
const GRACE: Duration = Duration::from_secs(1);

/// How often it is looked whether all questions are over.
const GLANCE: Duration = Duration::from_millis(5);

/// Whom to ask, and about what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookSettings {
    /// Where questions are sent.
    pub(crate) url: Url,
    /// The value of the `Authorization` header, by which it knows the broker.
    pub(crate) authorization: Option<HeaderValue>,
    /// Who vouches for it, where that is not the system's to say.
    pub(crate) authorities: Option<Vec<TrustAnchor<'static>>>,
    /// Events that are asked about.
    pub(crate) events: Vec<Event>,
    /// How long a client waits for an answer.
    pub(crate) timeout: Duration,
    /// Questions that are asked at a time.
    pub(crate) concurrency: usize,
    /// Questions that may wait to be asked.
    pub(crate) queue: usize,
    /// How long answers are kept that do not say so themselves.
    pub(crate) cache: Duration,
    /// How many answers a worker keeps.
    pub(crate) cache_entries: usize,
    /// Whether what nobody answers in time is permitted.
    pub(crate) allow_on_failure: bool,
}

impl HookSettings {
    /// What is answered to a question that nobody has answered.
    fn unanswered(&self) -> Verdict {
        // Not kept: the next one may be answered.
        if self.allow_on_failure {
            Verdict::allow(Duration::ZERO)
        } else {
            Verdict::deny(UNANSWERED, Duration::ZERO)
        }
    }
}

/// The workers' end.
#[derive(Debug)]
struct Hook {
    settings: Arc<HookSettings>,
    questions: Sender<Question>,
    /// Questions that were asked and are not over.
    open: Arc<AtomicUsize>,
}

/// The end that asks.
pub(crate) struct Questions {
    settings: Arc<HookSettings>,
    http: Http,
    topics: TopicLimits,
    questions: Receiver<Question>,
    open: Arc<AtomicUsize>,
}

/// The hook that there is.
#[derive(Debug, Default)]
pub(crate) struct Present {
    settings: Option<HookSettings>,
    hook: Option<Arc<Hook>>,
}

impl Present {
    /// Whom workers are to ask.
    pub(crate) fn hook(&self) -> Option<Arc<dyn tidecast_worker::Hook>> {
        let hook = self.hook.clone();
        hook.map(|hook| hook as Arc<dyn tidecast_worker::Hook>)
    }

    /// Waits until all that was asked is over, as the time limit of each question sees to: the last to be asked are those about
    /// clients who have gone with the broker.
    pub(crate) async fn settle(&self) {
        let is_open = || {
            let open = self.hook.as_ref().map(|hook| hook.open.load(Ordering::Relaxed));
            open.is_some_and(|open| open > 0)
        };
        while is_open() {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// There is to be one by these settings. If that is another one than before, gives the questions that are to be asked of
    /// it; who was asked before is until workers know of this.
    ///
    /// # Errors
    /// It cannot be asked, and nothing has changed.
    pub(crate) fn change(
        &mut self,
        settings: Option<HookSettings>,
        topics: TopicLimits,
    ) -> Result<Option<Questions>, HttpSetupError> {
        if settings == self.settings {
            return Ok(None);
        }
        let ends = settings.clone().map(|settings| {
            let http = Http::new(&settings.url, settings.authorities.clone())?;
            Ok::<_, HttpSetupError>(hook(settings, http, topics))
        });
        let (hook, questions) = ends.transpose()?.unzip();
        self.settings = settings;
        self.hook = hook.map(Arc::new);
        Ok(questions)
    }
}

/// The two ends of a queue of questions.
fn hook(settings: HookSettings, http: Http, topics: TopicLimits) -> (Hook, Questions) {
    let (sender, receiver) = channel(settings.queue);
    let (settings, open) = (Arc::new(settings), Arc::default());
    let questions = Questions {
        settings: Arc::clone(&settings),
        http,
        topics,
        questions: receiver,
        open: Arc::clone(&open),
    };
    let hook = Hook {
        settings,
        questions: sender,
        open,
    };
    (hook, questions)
}

impl tidecast_worker::Hook for Hook {
    fn wants(&self, event: Event) -> bool {
        self.settings.events.contains(&event)
    }

    fn ask(&self, question: Question) -> Result<(), Verdict> {
        // Before anybody can be done with it.
        self.open.fetch_add(1, Ordering::Relaxed);
        self.questions.try_send(question).map_err(|_| {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.settings.unanswered()
        })
    }

    fn unanswered(&self) -> Verdict {
        self.settings.unanswered()
    }

    fn patience(&self) -> Duration {
        self.settings.timeout + GRACE
    }

    fn kept(&self) -> usize {
        self.settings.cache_entries
    }
}

/// A question as it is sent.
#[derive(Serialize)]
struct Body<'a> {
    event: &'static str,
    session: &'a str,
    identity: Option<&'a str>,
    address: std::net::IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a str>,
}

/// An answer as it comes. What it says besides is for others.
#[derive(Deserialize)]
struct Reply {
    allow: bool,
    reason: Option<String>,
    identity: Option<String>,
    publish: Option<Vec<String>>,
    subscribe: Option<Vec<String>>,
    /// Seconds.
    expires_in: Option<u64>,
    /// Seconds; goes before what the head of the answer says.
    cache: Option<u64>,
}

impl Questions {
    /// Asks until there is nobody left who could have a question. `answer` is handed what is answered, `report` what
    /// whoever runs the broker should know: that nothing is answered any more, and that it is again.
    pub(crate) async fn serve(
        mut self,
        answer: impl Fn(Asker, Verdict) + Clone + Send + 'static,
        report: impl Fn(String) + Clone + Send + 'static,
    ) {
        let free = Arc::new(Semaphore::new(self.settings.concurrency));
        let failing = Arc::new(AtomicBool::new(false));
        loop {
            let permit = Arc::clone(&free).acquire_owned().await.expect("it is never closed");
            let Some(question) = self.questions.recv().await else {
                return;
            };
            let (settings, http, topics) = (Arc::clone(&self.settings), self.http.clone(), self.topics);
            let (answer, report, failing) = (answer.clone(), report.clone(), Arc::clone(&failing));
            let open = Arc::clone(&self.open);
            tokio::spawn(async move {
                let judged = settings.judge(&http, &question, &topics).await;
                drop(permit);
                let failed = judged.is_err();
                if failing.swap(failed, Ordering::Relaxed) != failed {
                    report(match &judged {
                        Ok(_) => format!("the hook at {} answers again", settings.url),
                        Err(error) => format!("the hook at {} does not answer as it should: {error}", settings.url),
                    });
                }
                if question.event != Event::Disconnect {
                    answer(question.asker, judged.unwrap_or_else(|_| settings.unanswered()));
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

impl HookSettings {
    async fn judge(&self, http: &Http, question: &Question, topics: &TopicLimits) -> Result<Verdict, String> {
        // The time that it waited is gone.
        let left = self.timeout.checked_sub(question.asked.elapsed());
        let time = left.ok_or("more is asked than it answers in time")?;
        let body = Body {
            event: question.event.as_str(),
            session: &question.session,
            identity: question.identity.as_deref(),
            address: question.address,
            topic: question.topic.as_deref().filter(|_| question.event == Event::Publish),
            filter: question.topic.as_deref().filter(|_| question.event != Event::Publish),
        };
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        let limits = Limits {
            time,
            bytes: MOST_BYTES,
        };
        let answer = http.post(&self.url, self.authorization.as_ref(), body, limits).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if question.event == Event::Disconnect && answer.status.is_success() {
            return Ok(self.unanswered());
        }
        self.read(question, &answer, topics)
    }

    fn read(&self, question: &Question, answer: &Answer, topics: &TopicLimits) -> Result<Verdict, String> {
        if answer.status != StatusCode::OK {
            return Err(format!("it answered with {}", answer.status));
        }
        let reply: Reply =
            serde_json::from_slice(&answer.body).map_err(|error| format!("what it answered is no answer: {error}"))?;
        let fresh = reply
            .cache
            .map(Duration::from_secs)
            .or(answer.fresh)
            .unwrap_or(self.cache);
        if !reply.allow {
            let reason = reply.reason.as_deref().filter(|reason| !reason.is_empty());
            return Ok(Verdict::deny(reason.unwrap_or(DENIED), fresh));
        }
        let identity = reply.identity.as_deref().or(question.identity.as_deref());
        let patterns = |place, texts: &Option<Vec<String>>| {
            let patterns = texts
                .as_ref()
                .map(|texts| Patterns::new(place, texts, identity, topics));
            patterns.transpose().map_err(|error| error.to_string())
        };
        let changes = Changes {
            publish: patterns("publish", &reply.publish)?,
            subscribe: patterns("subscribe", &reply.subscribe)?,
            identity: reply.identity.as_deref().map(Arc::from),
            expires: reply.expires_in.map(|seconds| now().plus(seconds)),
        };
        let changes = (changes != Changes::default()).then(|| Box::new(changes));
        let ruling = Ruling::Allow(changes);
        Ok(Verdict { ruling, fresh })
    }
}

/// The time now.
pub(crate) fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tidecast_worker::Hook as _;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::http::tests::{Server, ok, runtime};

    fn question(event: Event, number: u32) -> Question {
        Question {
            asker: Asker {
                worker: 1,
                slot: 7,
                number,
            },
            event,
            session: "1-7-abc".into(),
            identity: Some("ann".into()),
            address: "192.0.2.1".parse().expect("an address"),
            topic: Some("a/b".into()),
            asked: Instant::now(),
        }
    }

    struct Told {
        answers: UnboundedReceiver<(Asker, Verdict)>,
        reports: UnboundedReceiver<String>,
    }

    impl Told {
        async fn verdict(&mut self) -> Verdict {
            self.answers.recv().await.expect("an answer").1
        }
    }

    fn asking<F: Future<Output = ()>>(
        server: &Server,
        change: impl FnOnce(&mut HookSettings),
        story: impl FnOnce(Hook, Told) -> F,
    ) {
        let mut settings = HookSettings {
            url: server.url(),
            authorization: None,
            authorities: None,
            events: vec![Event::Connect, Event::Subscribe, Event::Publish],
            timeout: Duration::from_secs(10),
            concurrency: 64,
            queue: 1024,
            cache: Duration::ZERO,
            cache_entries: 100,
            allow_on_failure: false,
        };
        change(&mut settings);
        runtime().block_on(async {
            let http = Http::new(&settings.url, None).expect("a client");
            let (hook, questions) = hook(settings, http, TopicLimits::default());
            let ((to_answers, answers), (to_reports, reports)) = (unbounded_channel(), unbounded_channel());
            let serving = questions.serve(
                move |asker, verdict| drop(to_answers.send((asker, verdict))),
                move |text| drop(to_reports.send(text)),
            );
            tokio::spawn(serving);
            story(hook, Told { answers, reports }).await;
        });
    }

    #[test]
    fn a_question_is_sent_as_json_and_its_answer_handed_to_who_asked() {
        let server = Server::start([ok("Cache-Control: max-age=5\r\n", r#"{"allow":true}"#)]);
        let secret = |settings: &mut HookSettings| settings.authorization = Some(HeaderValue::from_static("Bearer x"));
        asking(&server, secret, |hook, mut told| async move {
            hook.ask(question(Event::Publish, 3)).expect("there is room");
            let (asker, verdict) = told.answers.recv().await.expect("an answer");
            assert_eq!((asker.slot, asker.number), (7, 3));
            assert_eq!(verdict, Verdict::allow(Duration::from_secs(5)));
        });
        let (head, body) = server.requests.recv().expect("a request");
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /path http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: bearer x\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let expected = serde_json::json!({
            "event": "publish", "session": "1-7-abc", "identity": "ann", "address": "192.0.2.1", "topic": "a/b",
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn answers_say_yes_or_no_and_for_how_long() {
        let table = [
            (ok("", r#"{"allow":true}"#), Verdict::allow(Duration::from_secs(9))),
            (
                ok("", r#"{"allow":false}"#),
                Verdict::deny(DENIED, Duration::from_secs(9)),
            ),
            (
                ok("", r#"{"allow":false,"reason":"too late","cache":3}"#),
                Verdict::deny("too late", Duration::from_secs(3)),
            ),
            (
                ok("Cache-Control: max-age=5\r\n", r#"{"allow":true,"cache":0}"#),
                Verdict::allow(Duration::ZERO),
            ),
            (
                ok("Cache-Control: no-store\r\n", r#"{"allow":true,"more":[1]}"#),
                Verdict::allow(Duration::ZERO),
            ),
        ];
        let server = Server::start(table.iter().map(|(answer, _)| answer.clone()));
        let cache = |settings: &mut HookSettings| settings.cache = Duration::from_secs(9);
        asking(&server, cache, |hook, mut told| async move {
            for (answer, expected) in table {
                hook.ask(question(Event::Subscribe, 0)).expect("there is room");
                assert_eq!(told.verdict().await, expected, "{answer}");
            }
        });
        let (_, body) = server.requests.recv().expect("a request");
        assert!(body.contains(r#""filter":"a/b""#) && !body.contains("topic"), "{body}");
    }

    #[test]
    fn an_answer_can_say_who_it_is_and_what_is_permitted() {
        let body = r#"{"allow":true,"identity":"bob","publish":[],"subscribe":["users/{sub}/#"],"expires_in":60}"#;
        let server = Server::start([ok("", body)]);
        asking(
            &server,
            |_| {},
            |hook, mut told| async move {
                hook.ask(question(Event::Connect, 0)).expect("there is room");
                let Ruling::Allow(Some(changes)) = told.verdict().await.ruling else {
                    panic!("it is allowed");
                };
                let mut grant = tidecast_auth::Grant::everything();
                grant.expires = Some(UnixSeconds(1));
                let grant = changes.clone().apply(&grant);
                assert_eq!(grant.identity.as_deref(), Some("bob"));
                assert!(grant.publish.is_none());
                let filters = grant.subscribe.filters().expect("some");
                assert_eq!(filters[0].as_str(), "users/bob/#");
                assert_eq!(
                    grant.expires,
                    Some(UnixSeconds(1)),
                    "nothing lasts longer than the credentials"
                );
                let lasting = changes.apply(&tidecast_auth::Grant::everything());
                assert!(lasting.expires.expect("a minute") > now());
            },
        );
    }

    #[test]
    fn what_is_no_answer_is_a_no_unless_settings_say_otherwise_and_told_once() {
        let bad = |body: &str| ok("", body);
        let error = "HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned();
        let answers = [
            error,
            bad(""),
            bad("{}"),
            bad("nonsense"),
            bad(r#"{"allow":1}"#),
            bad(r#"{"allow":true,"publish":["a#"]}"#),
            bad(r#"{"allow":true,"publish":"a"}"#),
            bad(r#"{"allow":true,"identity":"+","publish":["{sub}"]}"#),
        ];
        for allow_on_failure in [false, true] {
            let good = ok("", r#"{"allow":true}"#);
            let server = Server::start(answers.iter().cloned().chain([good]));
            let count = answers.len();
            let set = |settings: &mut HookSettings| settings.allow_on_failure = allow_on_failure;
            asking(&server, set, |hook, mut told| async move {
                let expected = if allow_on_failure {
                    Verdict::allow(Duration::ZERO)
                } else {
                    Verdict::deny(UNANSWERED, Duration::ZERO)
                };
                for _ in 0..count {
                    hook.ask(question(Event::Publish, 0)).expect("there is room");
                    assert_eq!(told.verdict().await, expected);
                }
                let report = told.reports.try_recv().expect("it is told");
                assert!(
                    report.ends_with("it answered with 500 Oops") || report.contains("500"),
                    "{report}"
                );
                assert!(told.reports.try_recv().is_err(), "once");
                hook.ask(question(Event::Publish, 0)).expect("there is room");
                assert_eq!(told.verdict().await, Verdict::allow(Duration::ZERO));
                assert!(told.reports.recv().await.expect("a report").ends_with("answers again"));
            });
        }
    }

    #[test]
    fn who_never_answers_is_not_waited_for() {
        let server = Server::start(["", ""]);
        let soon = |settings: &mut HookSettings| {
            settings.timeout = Duration::from_millis(50);
            settings.concurrency = 1;
        };
        asking(&server, soon, |hook, mut told| async move {
            // The second waits for the first, and its time runs meanwhile.
            hook.ask(question(Event::Connect, 1)).expect("there is room");
            hook.ask(question(Event::Connect, 2)).expect("there is room");
            assert_eq!(told.verdict().await, Verdict::deny(UNANSWERED, Duration::ZERO));
            assert_eq!(told.verdict().await, Verdict::deny(UNANSWERED, Duration::ZERO));
        });
    }

    #[test]
    fn more_questions_than_fit_are_answered_at_once() {
        let server = Server::start(["", ""]);
        let small = |settings: &mut HookSettings| {
            settings.queue = 2;
            settings.concurrency = 1;
        };
        asking(&server, small, |hook, _| async move {
            // Nothing else runs until this waits, so that nobody takes a question.
            assert_eq!(hook.ask(question(Event::Connect, 1)), Ok(()));
            assert_eq!(hook.ask(question(Event::Connect, 2)), Ok(()));
            assert_eq!(
                hook.ask(question(Event::Connect, 3)),
                Err(Verdict::deny(UNANSWERED, Duration::ZERO))
            );
            assert!(hook.wants(Event::Publish) && !hook.wants(Event::Disconnect));
        });
    }

    #[test]
    fn who_has_gone_is_told_and_nothing_is_answered() {
        let gone = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned();
        let server = Server::start([gone, ok("", r#"{"allow":true}"#)]);
        let in_order = |settings: &mut HookSettings| settings.concurrency = 1;
        asking(&server, in_order, |hook, mut told| async move {
            hook.ask(question(Event::Disconnect, 1)).expect("there is room");
            hook.ask(question(Event::Publish, 2)).expect("there is room");
            let (asker, _) = told.answers.recv().await.expect("an answer");
            assert_eq!(asker.number, 2);
            assert!(told.reports.is_empty(), "that it says nothing more is fine");
        });
        let (_, body) = server.requests.recv().expect("a request");
        assert!(body.contains("disconnect"), "{body}");
    }
}

//! Key sets that are fetched: now and then, and when a token names a key that is not known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::http::{Answer, Http, HttpError, Limits, Url};

/// A key set to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JwksSettings {
    /// Where it is.
    pub(crate) url: Url,
    /// How often it is fetched when nothing else happens.
    pub(crate) refresh: Duration,
    /// How often at most, whatever tokens come and whatever fails.
    pub(crate) min_interval: Duration,
    /// How long fetching may take.
    pub(crate) timeout: Duration,
}

/// The largest set, in bytes: room for hundreds of keys with their certificates.
const MOST_BYTES: usize = 256 << 10;

/// Asks for newer keys. Workers do when a token names one that is not known; however often they do, the answer is one
/// request now and then.
#[derive(Debug, Default)]
pub(crate) struct KeysWanted {
    asked: AtomicBool,
    bell: Notify,
}

impl KeysWanted {
    /// Keys that are not known are wanted. Costs a load if somebody has asked before.
    pub(crate) fn ask(&self) {
        if !self.asked.load(Ordering::Relaxed) && !self.asked.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    async fn asked(&self) {
        self.bell.notified().await;
    }

    /// Whoever asks from now on means the next time.
    fn answering(&self) {
        self.asked.store(false, Ordering::Release);
    }
}

/// What became of fetching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// Another set than before.
    New(String),
    /// It cannot be had; the last one stays.
    Failed(String),
}

/// Keeps the key set fresh for ever. `take` is handed what is new, and says what is wrong with it if it is not usable;
/// failures are told once, until something else happens.
pub(crate) async fn keep(
    http: Http,
    settings: JwksSettings,
    wanted: &KeysWanted,
    mut take: impl FnMut(Fetched) -> Result<(), String>,
) {
    let limits = Limits {
        time: settings.timeout,
        bytes: MOST_BYTES,
    };
    let mut known = None;
    let mut failing = None;
    loop {
        let begun = Instant::now();
        wanted.answering();
        let result = match document(http.get(&settings.url, None, limits).await) {
            Ok(document) if known.as_ref() == Some(&document) => Ok(()),
            Ok(document) => take(Fetched::New(document.clone())).map(|()| known = Some(document)),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => failing = None,
            Err(error) if failing.as_ref() == Some(&error) => {}
            Err(error) => {
                // That it failed is all there is to say; nothing can be wrong with it.
                let _ = take(Fetched::Failed(format!("{}: {error}", settings.url)));
                failing = Some(error);
            }
        }
        sleep_until(begun + settings.min_interval).await;
        if failing.is_none() {
            // Somebody who asks, or the time, whichever is first.
            let _ = timeout_at(begun + settings.refresh, wanted.asked()).await;
        }
    }
}

fn document(answer: Result<Answer, HttpError>) -> Result<String, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("it was answered with {}", answer.status));
    }
    String::from_utf8(answer.body.into()).map_err(|_| "what was answered is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::http::tests::{Server, ok, runtime};

    const LONG: Duration = Duration::from_secs(3600);

    /// Runs `keep` against `server` until `story` is over, which gets what is told and can ask for keys.
    fn keeping<F: Future<Output = ()>>(
        server: &Server,
        change: impl FnOnce(&mut JwksSettings),
        story: impl FnOnce(UnboundedReceiver<Fetched>, Arc<KeysWanted>) -> F,
    ) {
        let mut settings = JwksSettings {
            url: server.url(),
            refresh: LONG,
            min_interval: Duration::ZERO,
            timeout: Duration::from_secs(10),
        };
        change(&mut settings);
        runtime().block_on(async {
            let http = Http::new(&settings.url, None).expect("a client");
            let wanted = Arc::new(KeysWanted::default());
            let (sender, told) = unbounded_channel();
            let take = |fetched: Fetched| {
                let refused = matches!(&fetched, Fetched::New(document) if document.contains("bad"));
                sender.send(fetched).expect("the story goes on");
                if refused {
                    Err("these are no keys".to_owned())
                } else {
                    Ok(())
                }
            };
            tokio::select! {
                () = keep(http, settings, &wanted, take) => unreachable!("it goes on for ever"),
                () = story(told, Arc::clone(&wanted)) => {}
            }
        });
    }

    fn new(document: &str) -> Option<Fetched> {
        Some(Fetched::New(document.to_owned()))
    }

    #[test]
    fn keys_are_fetched_at_once_and_again_when_they_are_asked_for() {
        let server = Server::start([ok("", "one"), ok("", "one"), ok("", "two")]);
        keeping(
            &server,
            |_| {},
            |mut told, wanted| async move {
                assert_eq!(told.recv().await, new("one"));
                wanted.ask();
                // The second answer is the same as the first, and not told.
                while told.is_empty() {
                    wanted.ask();
                    tokio::task::yield_now().await;
                }
                assert_eq!(told.recv().await, new("two"));
            },
        );
        assert_eq!(server.requests.iter().take(3).count(), 3);
    }

    #[test]
    fn keys_are_fetched_when_their_time_is_over() {
        let server = Server::start([ok("", "one"), ok("", "two")]);
        let refresh = |settings: &mut JwksSettings| settings.refresh = Duration::from_millis(10);
        keeping(&server, refresh, |mut told, _| async move {
            assert_eq!((told.recv().await, told.recv().await), (new("one"), new("two")));
        });
    }

    #[test]
    fn however_often_keys_are_asked_for_they_are_fetched_now_and_then() {
        let server = Server::start([ok("", "one"), ok("", "two")]);
        let slowly = |settings: &mut JwksSettings| settings.min_interval = LONG;
        keeping(&server, slowly, |mut told, wanted| async move {
            assert_eq!(told.recv().await, new("one"));
            for _ in 0..1000 {
                wanted.ask();
                tokio::task::yield_now().await;
            }
            assert!(told.is_empty());
        });
        assert!(server.requests.recv().is_ok());
        assert!(server.requests.try_recv().is_err(), "one request was made");
    }

    #[test]
    fn the_last_good_keys_stay_when_fetching_fails() {
        let missing = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let server = Server::start([
            ok("", "one"),
            missing.to_owned(),
            missing.to_owned(),
            ok("", "bad"),
            ok("", "one"),
            ok("", "two"),
        ]);
        keeping(
            &server,
            |_| {},
            |mut told, wanted| async move {
                assert_eq!(told.recv().await, new("one"));
                wanted.ask();
                let Some(Fetched::Failed(text)) = told.recv().await else {
                    panic!("it fails");
                };
                assert!(text.ends_with("/path: it was answered with 404 Not Found"), "{text}");
                // Tried again without being asked, and told once.
                assert_eq!(told.recv().await, new("bad"));
                let Some(Fetched::Failed(text)) = told.recv().await else {
                    panic!("it fails otherwise");
                };
                assert!(text.ends_with("these are no keys"), "{text}");
                // What is known already comes again, which is fine.
                while told.is_empty() {
                    wanted.ask();
                    tokio::task::yield_now().await;
                }
                assert_eq!(told.recv().await, new("two"));
            },
        );
    }
}

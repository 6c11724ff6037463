//! Everything at once, for as long as is wanted: connections that stay and must not miss a message, others that come, go and
//! misbehave, readers that do not read, a configuration that changes all the time, and somebody who looks at all of it.
//!
//! By itself it takes as long as it needs for everything to have happened; what grows slowly shows in half an hour:
//!
//! ```text
//! SOAK_SECONDS=1800 cargo test --release --test soak -- --nocapture
//! ```

#[path = "auth/mod.rs"]
mod credentials;
#[path = "soak/guests.rs"]
mod guests;
mod http;
#[path = "soak/keepers.rs"]
mod keepers;
mod support;
#[path = "soak/watch.rs"]
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use credentials::Directory;
use keepers::{TOPICS, publish};
use support::*;
use watch::{Metrics, Watch};

/// At least so long, whatever happens sooner.
const SHORTEST: Duration = Duration::from_secs(5);
/// A run this long says something of what grows.
const LONG: Duration = Duration::from_secs(300);
/// How often the file changes.
const RELOAD: Duration = Duration::from_secs(3);

/// What all threads know.
pub(crate) struct Run {
    pub(crate) broker: Broker,
    over: AtomicBool,
    /// Messages published to each of the topics that keepers listen to.
    pub(crate) published: [AtomicU64; TOPICS],
    /// Messages that keepers have heard.
    pub(crate) heard: AtomicU64,
    /// Guests that have come.
    pub(crate) guests: AtomicU64,
    /// The last look at the broker's counters.
    pub(crate) metrics: std::sync::Mutex<Metrics>,
}

impl Run {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Ends the run early, for all, if this thread fails, and tells what the broker had to say.
    fn guard(&self) -> impl Drop + '_ {
        struct Guard<'r>(&'r Run);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if thread::panicking() && !self.0.over.swap(true, Relaxed) {
                    let said = self.0.broker.lines("");
                    eprintln!("the broker: {:#?}", &said[said.len().saturating_sub(20)..]);
                }
            }
        }
        Guard(self)
    }

    /// What was counted by the last look.
    pub(crate) fn count(&self, series: &str) -> f64 {
        self.metrics.lock().unwrap().sum(series)
    }

    /// Does nothing until more than `before` is counted.
    pub(crate) fn sleep_until_more(&self, series: &str, before: f64) {
        while self.count(series) == before && !self.is_over() {
            thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Waits for the next beat of something that is done at a certain pace.
    pub(crate) fn pace(&self, next: &mut Instant, period: Duration) {
        *next = (*next + period).max(Instant::now());
        while let Some(rest) = next.checked_duration_since(Instant::now())
            && !self.is_over()
        {
            thread::park_timeout(rest.min(Duration::from_millis(100)));
        }
    }
}

/// Changes the file again and again; each third time it is no good, and nothing may come of it.
fn reload(run: &Run, directory: &Directory) -> u64 {
    let mut reloads = 0;
    let mut next = Instant::now();
    while !run.is_over() {
        let (text, says) = match reloads % 3 {
            0 => (
                "[limits]\nmax_pending = \"300K\"\n[timeouts]\nping_interval = \"1s\"\n",
                "configuration reloaded",
            ),
            1 => ("[limits]\nmax_pending = \"lots\"\n", "nothing is changed"),
            _ => (FILE, "configuration reloaded"),
        };
        let before = run.broker.lines(says).len();
        directory.file("tidecast.toml", text);
        run.broker.signal("HUP");
        eventually(says, || (run.broker.lines(says).len() > before).then_some(()));
        reloads += 1;
        run.pace(&mut next, RELOAD);
    }
    reloads
}

const FILE: &str = "[limits]\nmax_pending = \"256K\"\nmax_pending_messages = 100\n";

#[test]
fn nothing_is_lost_and_nothing_stays_behind_when_everything_happens_at_once() {
    let seconds = std::env::var("SOAK_SECONDS").map(|text| text.parse().expect("SOAK_SECONDS is a number"));
    let length = seconds.map_or(SHORTEST, Duration::from_secs);
    let directory = Directory::new("soak");
    let file = directory.file("tidecast.toml", FILE);
    let run = Run {
        broker: Broker::start(&[
            "--config",
            &file,
            "--admin",
            "127.0.0.1:0",
            "--no-log-connections",
            "--connection-rate",
            "0",
        ]),
        over: AtomicBool::new(false),
        published: Default::default(),
        heard: AtomicU64::new(0),
        guests: AtomicU64::new(0),
        metrics: Default::default(),
    };
    let mut watch = Watch::new(&run);
    if length >= LONG {
        guests::fill(&run);
    }
    let (mut reloads, mut keepers) = (0, 0);
    thread::scope(|scope| {
        let run = &run;
        // They are there before the first message, and after the last.
        let ready = keepers::all(&run.broker);
        keepers = ready.len();
        for keeper in ready {
            scope.spawn(move || {
                let _guard = run.guard();
                keeper.listen(run);
            });
        }
        for topic in 0..TOPICS {
            scope.spawn(move || {
                let _guard = run.guard();
                publish(run, topic);
            });
        }
        for number in 0..2 {
            scope.spawn(move || {
                let _guard = run.guard();
                guests::come_and_go(run, number);
            });
        }
        let others: [fn(&Run); 6] = [
            guests::flood,
            guests::sleep_until_closed,
            guests::sleep_and_wake::<0>,
            guests::sleep_and_wake::<1>,
            guests::wander,
            guests::listen_to_events,
        ];
        for other in others {
            scope.spawn(move || {
                let _guard = run.guard();
                other(run);
            });
        }
        let reloading = scope.spawn(|| {
            let _guard = run.guard();
            reload(run, &directory)
        });
        let _guard = run.guard();
        watch.until_all_has_happened(run, length, keepers);
        run.over.store(true, Relaxed);
        reloads = reloading.join().expect("the configuration is taken");
    });
    watch.nothing_stays(&run);
    println!("{}", watch.summary(&run, keepers, reloads));
    if watch.length() >= LONG {
        watch.memory_is_flat();
    }
    let published: u64 = run.published.iter().map(|count| count.load(Relaxed)).sum();
    let totals = run.broker.stop();
    assert!(totals.get("published") >= published);
    assert!(totals.get("delivered") >= run.heard.load(Relaxed));
}

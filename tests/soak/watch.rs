//! Somebody who looks at the control plane every second, and remembers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Run;
use super::http::{get, send};
use super::support::*;

const PERIOD: Duration = Duration::from_secs(1);
/// From one line on the terminal to the next.
const TELL: Duration = Duration::from_secs(60);
/// By how much memory may differ from the beginning to the end, in bytes: what once waited for all who read, for which each
/// may have 300 KiB, the allocator keeps. What a guest left behind for good would have to be less than 64 bytes in half an
/// hour to be missed.
const GROWTH: f64 = (14 << 20) as f64;

/// What is counted of those who sleep: sessions closed for it, and messages that they do not get.
pub(crate) const CLOSED: &str = r#"sessions_closed_total{cause="slow_consumer""#;
pub(crate) const DROPPED: &str = r#"messages_dropped_total{reason="slow""#;

/// Values of the last look, by name and labels.
#[derive(Clone, Default)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn read(run: &Run) -> Metrics {
        let answer = send(run.broker.admin(), "GET", "/metrics", &[], None);
        assert_eq!(answer.status, 200, "{answer:?}");
        let lines = answer
            .body
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        Metrics(lines.map(value).collect())
    }

    /// The sum over the workers of what has this name, and this label if one is told.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let (name, label) = name.split_once('{').unwrap_or((name, ""));
        let prefix = format!("tidecast_{name}{{");
        let series = self
            .0
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix) && name.contains(label));
        series.map(|(_, value)| value).sum()
    }

    fn one(&self, name: &str) -> f64 {
        self.0[name]
    }
}

/// What the process held at some time.
struct Sample {
    at: Duration,
    resident: f64,
    descriptors: f64,
}

pub(crate) struct Watch {
    began: Instant,
    first: Metrics,
    samples: Vec<Sample>,
}

impl Watch {
    pub(crate) fn new(run: &Run) -> Watch {
        Watch {
            began: Instant::now(),
            first: Metrics::read(run),
            samples: Vec::new(),
        }
    }

    pub(crate) fn length(&self) -> Duration {
        self.samples.last().map_or(Duration::ZERO, |sample| sample.at)
    }

    /// Looks at everything; what is counted never becomes less.
    fn look(&mut self, run: &Run) {
        let now = Metrics::read(run);
        {
            let mut last = run.metrics.lock().unwrap();
            for (name, before) in &last.0 {
                let counts = ["_total", "_count", "_bucket"];
                if counts
                    .iter()
                    .any(|count| name.split('{').next().unwrap().ends_with(count))
                {
                    let value = now.0.get(name).unwrap_or_else(|| panic!("{name} is gone"));
                    assert!(value >= before, "{name} was {before}, and is {value}");
                }
            }
            *last = now.clone();
        }
        self.samples.push(Sample {
            at: self.began.elapsed(),
            resident: now.one("process_resident_memory_bytes"),
            descriptors: now.one("process_open_fds"),
        });
    }

    /// Looks on for so long, and on until everything that is to happen has happened.
    pub(crate) fn until_all_has_happened(&mut self, run: &Run, length: Duration, keepers: usize) {
        let mut next = Instant::now();
        let mut told = Duration::ZERO;
        let deadline = length + 2 * DEADLINE;
        while !run.is_over() {
            self.look(run);
            let elapsed = self.began.elapsed();
            let metrics = run.metrics.lock().unwrap().clone();
            let is_all = metrics.sum(CLOSED) > 0.0
                && metrics.sum(DROPPED) > 0.0
                && run.broker.lines("configuration reloaded").len() > 1
                && !run.broker.lines("nothing is changed").is_empty();
            if elapsed >= length && is_all {
                return;
            }
            assert!(elapsed < deadline, "somebody slow is closed, and messages are dropped");
            let admin = run.broker.admin();
            let health = send(admin, "GET", "/healthz", &[], None);
            assert_eq!(health.status, 200, "{health:?}");
            self.list(run, keepers);
            assert!(get(admin, "/v1/topics")["topics"].is_array());
            if elapsed >= told + TELL {
                told = elapsed;
                println!("{}", self.line(run));
            }
            run.pace(&mut next, PERIOD);
        }
    }

    /// Goes through all connections, a page at a time: the keepers are among them.
    fn list(&self, run: &Run, keepers: usize) {
        let mut path = "/v1/connections?limit=10".to_owned();
        let mut found = 0;
        loop {
            let page = get(run.broker.admin(), &path);
            found += page["connections"].as_array().unwrap().len();
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/connections?limit=10&cursor={next}");
        }
        // Those who just came, and those who are about to go, are no certain number.
        assert!(
            found >= keepers || run.is_over(),
            "{found} connections are listed, at least {keepers} are there"
        );
    }

    /// After everybody has gone there is as little as before anybody came.
    pub(crate) fn nothing_stays(&mut self, run: &Run) {
        let gauges = [
            "connections",
            "event_streams",
            "subscriptions",
            "queued_bytes",
            "incomplete_bytes",
            "mailbox_bytes",
        ];
        let first = gauges.map(|name| self.first.sum(name));
        assert_eq!(first, [0.0; 6]);
        eventually("all connections are gone, and what was kept for them", || {
            let now = Metrics::read(run);
            let descriptors = now.one("process_open_fds") - self.first.one("process_open_fds");
            let is_empty = gauges.map(|name| now.sum(name)) == first && now.one("tidecast_memory_held_bytes") == 0.0;
            (is_empty && descriptors <= 0.0).then_some(())
        });
        self.look(run);
    }

    /// Resident memory in the middle of what was seen in a part of the run.
    fn resident(&self, from: f64, to: f64) -> f64 {
        let place = |part: f64| ((self.samples.len() - 1) as f64 * part) as usize;
        let part = &self.samples[place(from)..=place(to)];
        let mut values: Vec<f64> = part.iter().map(|sample| sample.resident).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// After a beginning, memory stays what it is.
    pub(crate) fn memory_is_flat(&self) {
        let (before, after) = (self.resident(0.1, 0.3), self.resident(0.8, 1.0));
        assert!(after <= before + GROWTH, "memory grew from {before} to {after} bytes");
    }

    fn line(&self, run: &Run) -> String {
        let sample = self.samples.last().expect("a look");
        let metrics = run.metrics.lock().unwrap();
        format!(
            "{:>5.0} s: {:.1} MiB, {} descriptors, {} connections, {} guests, {} published, {} delivered, {} dropped, {} closed for being slow, {} heard",
            sample.at.as_secs_f64(),
            sample.resident / f64::from(1 << 20),
            sample.descriptors,
            metrics.sum("connections"),
            run.guests.load(Relaxed),
            metrics.sum("messages_published_total"),
            metrics.sum("messages_delivered_total"),
            metrics.sum("messages_dropped_total"),
            metrics.sum(CLOSED),
            run.heard.load(Relaxed),
        )
    }

    pub(crate) fn summary(&self, run: &Run, keepers: usize, reloads: u64) -> String {
        let mut text = self.line(run);
        let mib = f64::from(1 << 20);
        let most = self.samples.iter().map(|sample| sample.resident).fold(0.0, f64::max) / mib;
        let descriptors = self.samples.iter().map(|sample| sample.descriptors).fold(0.0, f64::max);
        let _ = write!(
            text,
            "\n{keepers} connections stayed and missed nothing; {reloads} reloads, {} looks.\n\
             Memory in MiB: {:.1} before anybody came, {:.1} in the first part after a tenth of the time, {:.1} in the last, {most:.1} at most. \
             Descriptors: {} before, {descriptors} at most, {} after.",
            self.samples.len(),
            self.first.one("process_resident_memory_bytes") / mib,
            self.resident(0.1, 0.3) / mib,
            self.resident(0.8, 1.0) / mib,
            self.first.one("process_open_fds"),
            self.samples.last().expect("a look").descriptors,
        );
        text
    }
}

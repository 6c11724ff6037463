//! Logs: what happens, for people or for machines, on standard error.
//!
//! ```text
//!   workers ── Journal ──▶ keep ─┬─ so many a second of each kind ──▶ tracing ──▶ Scribe ──▶ standard error
//!   control plane ───────────────┘                         (the others are counted, and told later)
//! ```
//!
//! Never a payload, and never a secret.

use std::collections::HashMap;
use std::fmt::Arguments;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidecast_worker::{Ended, Entry, Journal};
use tracing::level_filters::LevelFilter;
use tracing::{error, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{LogFormat, LogLevel};
use crate::scribe::{Scribe, Stream};

/// How often the workers' journal is read. It has room for what can happen meanwhile.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often it is told what was left out.
const SUMMARY: Duration = Duration::from_secs(10);

/// How logs are written, once that is decided.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    filter: reload::Handle<Targets, Registry>,
    level: Mutex<LogLevel>,
    format: LogFormat,
    scribe: Arc<Scribe>,
}

/// How long what was said last may take to be written, twice.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
    /// Whether connections that end are told.
    pub(crate) connections: bool,
    /// Lines of a kind in a second.
    pub(crate) rate: u32,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
        }
    }

    fn targets(self) -> Targets {
        // What libraries have to say is theirs, but for what goes wrong.
        Targets::new()
            .with_default(self.filter().min(LevelFilter::WARN))
            .with_target("tidecast", self.filter())
            .with_target("tidecast_server", self.filter())
    }
}

/// Begins to write logs like this. Only the first call in a process decides about the format.
///
/// # Errors
/// There can be no thread that writes them.
pub(crate) fn begin(settings: LogSettings) -> io::Result<()> {
    let LogSettings { level, format, .. } = settings;
    if LOG.get().is_some() {
        set_level(level);
        return Ok(());
    }
    let (filter, handle) = reload::Layer::new(level.targets());
    let scribe = Arc::new(Scribe::start(io::stdout(), io::stderr())?);
    let log = Log {
        filter: handle,
        level: Mutex::new(level),
        format,
        scribe: Arc::clone(&scribe),
    };
    // Another one may have begun meanwhile, to which what follows then makes no difference.
    let _ = LOG.set(log);
    let to = fmt::layer().with_writer(scribe).with_target(false);
    let layer = match format {
        LogFormat::Human => to.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => to.json().flatten_event(true).boxed(),
    };
    // A program that embeds the broker may have its own.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    Ok(())
}

/// A line for whoever started the broker, on standard output; for programs a line of the log.
pub(crate) fn say(line: Arguments<'_>) {
    match LOG.get() {
        Some(log) if log.format == LogFormat::Human => {
            log.scribe.write(Stream::Output, format!("{line}\n").into_bytes())
        }
        _ => info!("{line}"),
    }
}

/// Waits until all that was said is written, but not for ever: perhaps nobody reads it.
pub(crate) fn flush() {
    if let Some(log) = LOG.get() {
        log.scribe.flush(LAST_WORDS);
    }
}

/// From now on what is at least so important is written.
pub(crate) fn set_level(level: LogLevel) {
    if let Some(log) = LOG.get() {
        *log.level.lock() = level;
        // It fails only when nothing writes logs.
        let _ = log.filter.reload(level.targets());
    }
}

/// What is written now.
pub(crate) fn level() -> LogLevel {
    LOG.get().map_or(LogLevel::Info, |log| *log.level.lock())
}

/// Keeps lines of one kind from hiding all others.
#[derive(Debug)]
struct Ration {
    /// By kind: lines that may still be written, and those that were left out.
    kinds: HashMap<&'static str, (f64, u64)>,
    rate: f64,
    filled: Instant,
}

impl Ration {
    fn new(now: Instant) -> Ration {
        Ration {
            kinds: HashMap::new(),
            rate: 0.0,
            filled: now,
        }
    }

    /// Time has gone by: there may be more lines again, of each kind at most those of a second.
    fn fill(&mut self, rate: u32, now: Instant) {
        let more = f64::from(rate) * (now - self.filled).as_secs_f64();
        self.rate = rate.into();
        self.filled = now;
        for (left, _) in self.kinds.values_mut() {
            *left = (*left + more).min(self.rate);
        }
    }

    /// Whether a line of this kind may be written; else it is counted.
    fn take(&mut self, kind: &'static str) -> bool {
        let (left, out) = self.kinds.entry(kind).or_insert((self.rate, 0));
        let may = *left >= 1.0;
        if may {
            *left -= 1.0;
        } else {
            *out += 1;
        }
        may
    }

    /// How many lines were left out, by kind, since this was asked last.
    fn take_left_out(&mut self) -> Vec<(&'static str, u64)> {
        let mut kinds: Vec<_> = self
            .kinds
            .iter_mut()
            .map(|(kind, (_, out))| (*kind, std::mem::take(out)))
            .collect();
        kinds.retain(|(_, out)| *out > 0);
        kinds.sort_unstable();
        kinds
    }
}

/// How the journal is kept; changes while it is.
#[derive(Debug)]
pub(crate) struct Keeper {
    journal: Arc<Journal>,
    rate: AtomicU32,
    wants_connections: AtomicBool,
}

impl Keeper {
    pub(crate) fn new(journal: Arc<Journal>, settings: LogSettings) -> Keeper {
        let keeper = Keeper {
            journal,
            rate: AtomicU32::new(0),
            wants_connections: AtomicBool::new(false),
        };
        keeper.configure(settings);
        keeper
    }

    /// From now on logs are written like this.
    pub(crate) fn configure(&self, settings: LogSettings) {
        set_level(settings.level);
        self.rate.store(settings.rate, Ordering::Relaxed);
        self.wants_connections.store(settings.connections, Ordering::Relaxed);
        self.settle();
    }

    /// Tells workers whether it is of any use that they write ends of connections down.
    fn settle(&self) {
        let wants = self.wants_connections.load(Ordering::Relaxed) && level().filter() >= LevelFilter::INFO;
        self.journal.set_wants_ends(wants);
    }

    /// Writes what workers tell, as long as the process lives.
    pub(crate) async fn keep(&self) {
        let mut ration = Ration::new(Instant::now());
        let mut told = Instant::now();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.settle();
            let now = Instant::now();
            ration.fill(self.rate.load(Ordering::Relaxed), now);
            self.write(&mut ration);
            if now - told >= SUMMARY {
                told = now;
                for (kind, count) in ration.take_left_out() {
                    warn!(kind, count, "lines were left out");
                }
            }
        }
    }

    /// Writes what there is now.
    fn write(&self, ration: &mut Ration) {
        while let Some(entry) = self.journal.read() {
            match entry {
                Entry::Ended(ended) if ration.take(ended.end.as_str()) => tell_end(&ended),
                Entry::Refused { reason, peer } if ration.take(reason) => {
                    warn!(reason, %peer, "a connection was refused because of a limit");
                }
                Entry::CannotAccept(number) if ration.take("accept") => {
                    let error = io::Error::from_raw_os_error(number);
                    error!(%error, "connections cannot be accepted; it is tried again");
                }
                _ => {}
            }
        }
        let lost = self.journal.take_lost();
        if lost > 0 && ration.take("lost") {
            warn!(count = lost, "more happened than could be written down");
        }
        let unwritten = LOG.get().map_or(0, |log| log.scribe.take_lost());
        if unwritten > 0 {
            warn!(count = unwritten, "lines were lost: whoever reads them was too slow");
        }
    }

    /// Writes what is left when the broker ends.
    pub(crate) fn finish(&self) {
        let mut ration = Ration::new(Instant::now());
        ration.fill(self.rate.load(Ordering::Relaxed), Instant::now());
        self.write(&mut ration);
    }
}

fn tell_end(ended: &Ended) {
    let Ended {
        name,
        peer,
        identity,
        end,
        duration,
        bytes_in,
        bytes_out,
        messages_in,
        messages_out,
    } = ended;
    info!(
        cause = end.as_str(),
        name,
        %peer,
        identity = identity.as_deref(),
        seconds = duration.as_secs_f64(),
        messages_in,
        messages_out,
        bytes_in,
        bytes_out,
        "connection ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_comes_too_often_is_left_out_and_counted_and_hides_no_other() {
        let start = Instant::now();
        let mut ration = Ration::new(start);
        ration.fill(10, start);
        assert_eq!((0..25).filter(|_| ration.take("silent")).count(), 10);
        assert!(ration.take("client"));
        assert_eq!(ration.take_left_out(), [("silent", 15)]);
        assert_eq!(ration.take_left_out(), []);
        ration.fill(10, start + Duration::from_millis(500));
        assert_eq!((0..25).filter(|_| ration.take("silent")).count(), 5);
        ration.fill(10, start + Duration::from_secs(60));
        assert_eq!(
            (0..25).filter(|_| ration.take("silent")).count(),
            10,
            "what was not used is not saved"
        );
    }
}

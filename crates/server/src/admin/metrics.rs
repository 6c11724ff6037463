//! `/metrics`: what Prometheus scrapes.
//!
//! The workers' counters are theirs alone and are looked at when somebody asks; what the control plane itself counts is added.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State as Extract;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use metrics::{Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tidecast_worker::{Series, Times, Totals};

use super::State;
use super::process::{Process, unix_time};
use super::sampler::Sample;

/// What the names of all metrics begin with.
const PREFIX: &str = "tidecast_";
const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// What is measured about the workers' times.
const TIMES: [(&str, &str); 3] = [
    (
        "delivery_seconds",
        "From when a message was received until it was handed to the kernel for its subscribers, once for each worker that has some.",
    ),
    (
        "turn_seconds",
        "Turns of the workers' loops: what comes meanwhile waits for so long.",
    ),
    (
        "flush_seconds",
        "Flushes: what it took to hand what was to be sent to the kernel.",
    ),
];

/// A metric besides the workers' counters.
struct Extra {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// Its values, each with its labels.
    values: fn(&Look<'_>) -> Vec<(String, f64)>,
}

/// What they are made of.
struct Look<'a> {
    state: &'a State,
    sample: &'a Sample,
    process: Process,
    /// When the process began, in seconds since 1970.
    began: f64,
}

impl Look<'_> {
    fn by_worker(&self, value: impl Fn(usize) -> f64) -> Vec<(String, f64)> {
        let workers = 0..self.sample.workers.len();
        workers
            .map(|worker| (format!("{{worker=\"{worker}\"}}"), value(worker)))
            .collect()
    }
}

/// A value without labels.
fn one(value: f64) -> Vec<(String, f64)> {
    vec![(String::new(), value)]
}

/// The same, if there is one.
fn perhaps(value: Option<u64>) -> Vec<(String, f64)> {
    value.map_or_else(Vec::new, |value| one(value as f64))
}

const EXTRAS: [Extra; 12] = [
    Extra {
        name: "tidecast_build_info",
        kind: "gauge",
        help: "1, with the version as a label.",
        values: |_| vec![(format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0)],
    },
    Extra {
        name: "tidecast_workers",
        kind: "gauge",
        help: "Worker threads.",
        values: |look| one(look.sample.workers.len() as f64),
    },
    Extra {
        name: "tidecast_busy_seconds_total",
        kind: "counter",
        help: "Time that a worker's loop was not asleep.",
        values: |look| look.by_worker(|worker| look.sample.workers[worker].busy as f64 / 1e9),
    },
    Extra {
        name: "tidecast_mailbox_messages",
        kind: "gauge",
        help: "Messages of other workers that wait for a worker.",
        values: |look| look.by_worker(|worker| look.state.crew.depth(worker).0 as f64),
    },
    Extra {
        name: "tidecast_mailbox_bytes",
        kind: "gauge",
        help: "Bytes of their payloads.",
        values: |look| look.by_worker(|worker| look.state.crew.depth(worker).1 as f64),
    },
    Extra {
        name: "tidecast_memory_held_bytes",
        kind: "gauge",
        help: "Memory that is held for clients, and counts in the budget.",
        values: |look| one(look.state.budget.held() as f64),
    },
    Extra {
        name: "tidecast_memory_limit_bytes",
        kind: "gauge",
        help: "The budget.",
        values: |look| one(look.state.budget.limit() as f64),
    },
    Extra {
        name: "process_resident_memory_bytes",
        kind: "gauge",
        help: "Memory of the process that is resident.",
        values: |look| perhaps(look.process.resident),
    },
    Extra {
        name: "process_open_fds",
        kind: "gauge",
        help: "Descriptors that are open; connections of the io_uring driver are not among them.",
        values: |look| perhaps(look.process.descriptors),
    },
    Extra {
        name: "process_max_fds",
        kind: "gauge",
        help: "Descriptors that may be open.",
        values: |look| perhaps(look.process.most_descriptors),
    },
    Extra {
        name: "process_cpu_seconds_total",
        kind: "counter",
        help: "Processor time that was used.",
        values: |look| look.process.processor.map_or_else(Vec::new, one),
    },
    Extra {
        name: "process_start_time_seconds",
        kind: "gauge",
        help: "When the process began, in seconds since 1970.",
        values: |look| one(look.began),
    },
];

/// Makes the text of what is counted.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    began: f64,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        for series in Totals::SERIES.iter().filter(|series| !is_told_otherwise(series)) {
            let (name, help) = (metric_name(series), SharedString::from(series.family.help));
            if series.family.is_gauge {
                recorder.describe_gauge(name.into(), None, help);
            } else {
                recorder.describe_counter(name.into(), None, help);
            }
        }
        let handle = recorder.handle();
        Metrics {
            recorder,
            handle,
            began: unix_time(),
        }
    }

    /// Everything, in the text format of Prometheus.
    fn text(&self, state: &State) -> String {
        let sample = Sample::look(&state.counters);
        for (worker, totals) in sample.workers.iter().enumerate() {
            for (series, value) in totals.values().filter(|(series, _)| !is_told_otherwise(series)) {
                let mut labels = vec![Label::new("worker", worker.to_string())];
                labels.extend(series.family.label.map(|label| Label::new(label, series.value)));
                let key = Key::from_parts(metric_name(series), labels);
                if series.family.is_gauge {
                    self.recorder.register_gauge(&key, &METADATA).set(value as f64);
                } else {
                    self.recorder.register_counter(&key, &METADATA).absolute(value);
                }
            }
        }
        let mut text = self.handle.render();
        let times = [&sample.times.delivery, &sample.times.turn, &sample.times.flush];
        for ((name, help), times) in std::iter::zip(TIMES, times) {
            write_histogram(&mut text, name, help, times);
        }
        let look = Look {
            state,
            sample: &sample,
            process: Process::look(),
            began: self.began,
        };
        for extra in &EXTRAS {
            let Extra {
                name,
                kind,
                help,
                values,
            } = extra;
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values(&look) {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }
}

/// The name of a counter's metric.
fn metric_name(series: &Series) -> String {
    let suffix = if series.family.is_gauge { "" } else { "_total" };
    format!("{PREFIX}{}{suffix}", series.family.name)
}

/// Whether it is told in another unit: time is, in seconds.
fn is_told_otherwise(series: &Series) -> bool {
    series.name == "busy"
}

fn write_histogram(text: &mut String, name: &str, help: &str, times: &Times) {
    let _ = writeln!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} histogram");
    for (bound, count) in times.buckets() {
        let bound = if bound.is_infinite() {
            "+Inf".to_owned()
        } else {
            format!("{bound}")
        };
        let _ = writeln!(text, "{PREFIX}{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(
        text,
        "{PREFIX}{name}_sum {}\n{PREFIX}{name}_count {}",
        times.sum(),
        times.count()
    );
}

/// Every metric that `/metrics` has and what it means, as a table in Markdown.
#[must_use]
pub fn metrics_table() -> String {
    let mut text = "| metric | type | what it is |\n|---|---|---|\n".to_owned();
    let mut family = "";
    for series in Totals::SERIES.iter().filter(|series| !is_told_otherwise(series)) {
        if family != series.family.name {
            family = series.family.name;
            let kind = if series.family.is_gauge { "gauge" } else { "counter" };
            let labels = series
                .family
                .label
                .map_or_else(String::new, |label| format!(", `{label}`"));
            let _ = writeln!(
                text,
                "| `{}` by `worker`{labels} | {kind} | {} |",
                metric_name(series),
                series.family.help
            );
        }
        if let Some(label) = series.family.label {
            let _ = writeln!(text, "| · `{label}=\"{}\"` | | {} |", series.value, series.help);
        }
    }
    for (name, help) in TIMES {
        let _ = writeln!(text, "| `{PREFIX}{name}` | histogram | {help} |");
    }
    for Extra { name, kind, help, .. } in &EXTRAS {
        let _ = writeln!(text, "| `{name}` | {kind} | {help} |");
    }
    text
}

/// Serves them.
pub(crate) async fn scrape(Extract(state): Extract<Arc<State>>) -> ([(HeaderName, &'static str); 1], String) {
    let text = state.metrics.text(&state);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

//! `/v1/stats`: what the broker does.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use serde::Serialize;
use tidecast_worker::{Times, Totals};
use utoipa::ToSchema;

use super::State;
use super::process::Process;
use super::sampler::Sample;

/// The topics that are told with the statistics.
const TOP_TOPICS: usize = 20;

/// What the broker does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// The version of tidecast.
    version: &'static str,
    /// `starting`, `ready` or `draining`.
    state: &'static str,
    /// For how long it has run.
    uptime_seconds: f64,
    /// Everything that is counted, by name, over all workers since the start.
    totals: BTreeMap<&'static str, u64>,
    /// What happened in a second, over the last five.
    rates: Rates,
    /// From when a message was received until it was handed to the kernel for its subscribers; of the last five seconds.
    delivery_seconds: Option<Quantiles>,
    /// How long turns of the workers' loops took.
    turn_seconds: Option<Quantiles>,
    /// How long it took to hand to the kernel what was to be sent, once a turn.
    flush_seconds: Option<Quantiles>,
    /// The workers.
    workers: Vec<WorkerStats>,
    /// Memory.
    memory: Memory,
    /// The topics that are published to most.
    top_topics: Vec<TopicStats>,
}

/// What happened in a second.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Rates {
    /// WebSockets opened.
    opened: f64,
    /// Messages published.
    published: f64,
    /// Messages delivered, once for each subscriber.
    delivered: f64,
    /// Deliveries that slow policies dropped.
    dropped: f64,
    /// Commands refused.
    refused: f64,
    /// Bytes received.
    received_bytes: f64,
    /// Bytes sent.
    sent_bytes: f64,
}

/// Times in seconds that a share of all did not exceed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
}

impl Quantiles {
    /// Those of these times, if there are any.
    fn of(times: &Times) -> Option<Quantiles> {
        Some(Quantiles {
            p50: times.quantile(0.5)?,
            p90: times.quantile(0.9)?,
            p99: times.quantile(0.99)?,
            p999: times.quantile(0.999)?,
        })
    }
}

/// What a worker does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerStats {
    /// Its number.
    worker: usize,
    /// The core that it is bound to, if it is.
    core: Option<usize>,
    /// The share of the last five seconds in which it was not asleep, 0 to 1.
    load: f64,
    /// Connections that it has.
    connections: u64,
    /// Subscriptions of these.
    subscriptions: u64,
    /// Messages that it delivered in a second.
    delivered: f64,
    /// Messages that wait for it, from other workers.
    mailbox_messages: usize,
    /// Bytes of their payloads.
    mailbox_bytes: usize,
    /// Bytes that wait to be sent.
    queued_bytes: u64,
}

/// What memory is used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Memory {
    /// Bytes that are held for clients.
    held_bytes: usize,
    /// Bytes that may be.
    limit_bytes: usize,
    /// Bytes of the process that are resident.
    resident_bytes: Option<u64>,
}

/// How much is published to a topic.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicStats {
    /// The topic.
    topic: String,
    /// Messages in a second, about.
    messages_per_second: f64,
    /// Bytes in a second, about.
    bytes_per_second: f64,
}

/// What the broker does: sums, rates, times, and the busiest topics
#[utoipa::path(get, path = "/v1/stats", responses((status = 200, body = Stats)))]
pub(crate) async fn stats(Extract(state): Extract<Arc<State>>) -> Json<Stats> {
    let sample = Sample::look(&state.counters);
    let (change, top_topics) = {
        let sampler = state.sampler.lock();
        (sampler.change(), sampler.top_topics(TOP_TOPICS))
    };
    let totals = sample.totals();
    let rate = |counter: fn(&Totals) -> u64| change.as_ref().map_or(0.0, |change| change.rate(counter));
    let rate_of =
        |worker, counter: fn(&Totals) -> u64| change.as_ref().map_or(0.0, |change| change.rate_of(worker, counter));
    let worker = |(number, totals): (usize, &Totals)| {
        let (mailbox_messages, mailbox_bytes) = state.crew.depth(number);
        WorkerStats {
            worker: number,
            core: state.cores[number],
            load: (rate_of(number, |totals| totals.busy) / 1e9).clamp(0.0, 1.0),
            connections: totals.connections,
            subscriptions: totals.subscriptions,
            delivered: rate_of(number, |totals| totals.delivered),
            mailbox_messages,
            mailbox_bytes,
            queued_bytes: totals.queued,
        }
    };
    let times = change.as_ref().map(|change| &change.times);
    Json(Stats {
        version: env!("CARGO_PKG_VERSION"),
        state: state.readiness().as_str(),
        uptime_seconds: state.started.elapsed().as_secs_f64(),
        totals: totals.values().map(|(series, value)| (series.name, value)).collect(),
        rates: Rates {
            opened: rate(|totals| totals.opened),
            published: rate(|totals| totals.published),
            delivered: rate(|totals| totals.delivered),
            dropped: rate(|totals| totals.dropped),
            refused: rate(|totals| totals.commands_refused),
            received_bytes: rate(|totals| totals.bytes_in),
            sent_bytes: rate(|totals| totals.bytes_out),
        },
        delivery_seconds: times.and_then(|times| Quantiles::of(&times.delivery)),
        turn_seconds: times.and_then(|times| Quantiles::of(&times.turn)),
        flush_seconds: times.and_then(|times| Quantiles::of(&times.flush)),
        workers: sample.workers.iter().enumerate().map(worker).collect(),
        memory: Memory {
            held_bytes: state.budget.held(),
            limit_bytes: state.budget.limit(),
            resident_bytes: Process::look().resident,
        },
        top_topics: top_topics
            .into_iter()
            .map(|rate| TopicStats {
                topic: rate.topic,
                messages_per_second: rate.messages,
                bytes_per_second: rate.octets,
            })
            .collect(),
    })
}

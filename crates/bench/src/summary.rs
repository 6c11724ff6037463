//! Puts together what the threads of a run measured.

use std::time::Duration;

use crate::check::Faults;
use crate::clock::Span;
use crate::effort::Effort;
use crate::load::Segment;
use crate::machine::Machine;
use crate::operations::Done;
use crate::plan::{Extent, Plan};
use crate::process::Sample;
use crate::report::{
    Generator, Latency, Opening, OperationsReport, Report, Server, Setup, StepOperations, StepReport, ratio,
};
use crate::scenario::{Layout, Scenario};
use crate::slow::SlowReport;
use crate::tally::{Step, histogram};
use crate::thread::Outcome;
use crate::timeline::Timeline;
use crate::tls::TlsReport;

/// What the broker's process had used.
pub(crate) struct Usage {
    /// Before the first connection.
    pub(crate) empty: Sample,
    /// At both ends of each step.
    pub(crate) steps: Vec<(Sample, Sample)>,
}

/// The same step of all threads.
struct Row {
    received: Step,
    published: u64,
    done: Done,
    /// By thread.
    effort: Vec<Effort>,
    length: Duration,
}

impl Row {
    fn of(step: usize, span: &Span, outcomes: &[Outcome]) -> Row {
        let (mut received, mut done) = (Step::new(), Done::new());
        for outcome in outcomes {
            received.add(&outcome.steps[step]);
            done.add(&outcome.operations[step]);
        }
        Row {
            received,
            published: outcomes.iter().map(|outcome| outcome.published[step]).sum(),
            done,
            effort: outcomes
                .iter()
                .map(|outcome| outcome.effort.get(step).copied().unwrap_or_default())
                .collect(),
            length: Duration::from_nanos(span.end - span.start),
        }
    }

    fn add(&mut self, other: &Row) {
        self.received.add(&other.received);
        self.published += other.published;
        self.done.add(&other.done);
        for (sum, effort) in self.effort.iter_mut().zip(&other.effort) {
            *sum += *effort;
        }
        self.length += other.length;
    }
}

/// The report of a run whose connections were all open after `opened_in`.
pub(crate) fn summarize(
    plan: &Plan,
    layout: &Layout,
    timeline: &Timeline,
    opened_in: Duration,
    outcomes: Vec<Outcome>,
    usage: Option<Usage>,
) -> Report {
    let last = outcomes.iter().map(|outcome| outcome.last).max().unwrap_or_default();
    let spans = timeline.steps().iter().map(|span| match plan.extent {
        Extent::Time { .. } => span.clone(),
        Extent::Count(_) => span.start..last.max(span.start),
    });
    let rows: Vec<Row> = spans
        .enumerate()
        .map(|(step, span)| Row::of(step, &span, &outcomes))
        .collect();
    let mut whole = Row::of(0, &(0..0), &outcomes);
    whole.length = rows[0].length;
    for row in &rows[1..] {
        whole.add(row);
    }
    let seconds = whole.length.as_secs_f64();
    let per_second = |count: u64| ratio(count as f64, seconds);
    let megabytes = |bytes: f64| ratio(bytes / 1e6, seconds);
    let kind = match plan.scenario {
        Scenario::Churn { .. } => Some("commands"),
        Scenario::Connect => Some("connections"),
        Scenario::Ingest { .. } => Some("messages"),
        _ => None,
    };
    let segments = plan.load.rows();
    let steps = segments
        .iter()
        .zip(&rows)
        .enumerate()
        .map(|(number, (segment, row))| {
            let cpu = usage.as_ref().and_then(|usage| usage.steps.get(number));
            step_report(segment, row, kind.is_some(), cpu)
        })
        .collect::<Vec<_>>();
    let mut generator = Generator::of(&whole.effort, whole.length);
    // A generator that could not keep up in one step is not made better by the others.
    generator.saturated |= steps.iter().any(|step| step.saturated);
    let deliveries = whole.received.deliveries;
    let server = usage.and_then(|usage| {
        let (first, last) = (usage.steps.first()?, usage.steps.last()?);
        let cpu = last.1.cpu.saturating_sub(first.0.cpu);
        let events = if kind.is_some() && deliveries == 0 {
            whole.done.count
        } else {
            deliveries
        };
        let mut server = Server::of(cpu, last.1.resident, whole.length, events);
        let connections = layout.share(0, 1).len() as f64;
        if let Scenario::Idle { .. } = plan.scenario {
            let growth = last.1.resident.saturating_sub(usage.empty.resident);
            server.resident_bytes_per_connection = Some(ratio(growth as f64, connections));
        }
        Some(server)
    });
    let payloads = match plan.scenario {
        Scenario::Ingest { .. } => whole.done.count,
        _ => deliveries,
    };
    let (mut faults, mut opening, mut slow) = (Faults::default(), histogram(), SlowReport::default());
    let mut tls = TlsReport::default();
    let (mut failed, mut unanswered, mut foreign, mut errors) = (0, 0, 0, Vec::new());
    for outcome in outcomes {
        faults.add(&outcome.faults);
        opening.add(outcome.opening).expect("they are made alike");
        slow.add(outcome.slow);
        tls.add(outcome.handshakes);
        failed += outcome.failed;
        unanswered += outcome.unanswered;
        foreign += outcome.foreign;
        errors.extend(outcome.errors);
    }
    Report {
        setup: Setup {
            scenario: plan.scenario.clone(),
            url: plan.url.clone(),
            protocol: plan.protocol,
            version: plan.version.number(),
            compression: plan.compression,
            subscribers: (layout.subscribers() + layout.stalled as usize) as u32,
            publishers: layout.publishers() as u32,
            size: plan.size,
            load: plan.load.clone(),
            extent: plan.extent,
            threads: plan.threads.get(),
        },
        seconds,
        published: whole.published,
        deliveries,
        published_per_second: per_second(whole.published),
        deliveries_per_second: per_second(deliveries),
        payload_megabytes_per_second: megabytes(payloads as f64 * plan.size as f64),
        wire_megabytes_per_second: megabytes(whole.received.wire_bytes as f64),
        faults,
        errors,
        foreign,
        latency: Latency::of(&whole.received.latency),
        operations: kind.map(|kind| OperationsReport {
            kind,
            count: whole.done.count,
            per_second: per_second(whole.done.count),
            failed,
            unanswered,
            latency: Latency::of(&whole.done.latency),
        }),
        // Where connections come and go, there is no beginning at which they are opened.
        opening: (plan.scenario != Scenario::Connect).then(|| Opening {
            connections: opening.len(),
            seconds: opened_in.as_secs_f64(),
            per_second: ratio(opening.len() as f64, opened_in.as_secs_f64()),
            latency: Latency::of(&opening),
        }),
        tls: (tls != TlsReport::default()).then_some(tls),
        slow: (slow.connections > 0).then_some(slow),
        steps,
        ticks: Vec::new(),
        machine: Machine::this(),
        generator,
        server,
    }
}

fn step_report(segment: &Segment, row: &Row, operations: bool, server: Option<&(Sample, Sample)>) -> StepReport {
    let seconds = row.length.as_secs_f64();
    let per_second = |count: u64| ratio(count as f64, seconds);
    let generator = Generator::of(&row.effort, row.length);
    StepReport {
        from: segment.from,
        to: segment.to,
        seconds,
        published: row.published,
        deliveries: row.received.deliveries,
        deliveries_per_second: per_second(row.received.deliveries),
        latency: Latency::of(&row.received.latency),
        operations: operations.then(|| StepOperations {
            count: row.done.count,
            per_second: per_second(row.done.count),
            latency: Latency::of(&row.done.latency),
        }),
        busiest_thread: generator.busiest_thread,
        saturated: generator.saturated,
        server_cpu_seconds: server.map(|(before, after)| after.cpu.saturating_sub(before.cpu).as_secs_f64()),
    }
}

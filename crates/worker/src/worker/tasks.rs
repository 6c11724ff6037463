//! What an operator wants of this worker.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidecast_broker::auth::Patterns;
use tidecast_broker::wire::Code;
use tidecast_broker::{Encoding, Message, Refusal, SessionId, WorkerSet};
use tidecast_websocket::Extension;

use super::Worker;
use crate::connection::Phase;
use crate::fanout::Stalled;
use crate::ledger::End;
use crate::name::place_of;
use crate::task::{ConnectionDetails, ConnectionPage, ConnectionSummary, Publication, Reply, Stage, Task, Wanted};

/// Tasks done in one turn.
const TASKS_PER_TURN: usize = 4;
/// Subscriptions that are told of one connection.
const MOST_SUBSCRIPTIONS: usize = 1000;

/// What an operator publishes, on its way.
///
/// Invariant: as many of the messages were published or refused as there are results
#[derive(Debug)]
pub(super) struct Publishing {
    messages: Arc<[Publication]>,
    results: Vec<Result<(), Refusal>>,
    /// What other workers have no room for yet, of the last one.
    stalled: Option<Stalled>,
    reply: Reply<Vec<Result<(), Refusal>>>,
}

impl Publishing {
    /// The workers that are waited for.
    pub(super) fn targets(&self) -> WorkerSet {
        self.stalled.as_ref().map(Stalled::targets).unwrap_or_default()
    }

    /// Whether it waits for nobody.
    pub(super) fn goes_on(&self) -> bool {
        self.stalled.is_none()
    }
}

impl Worker {
    /// Does what the control plane wants done: something in every turn, however much clients have for it to do, or operators would
    /// be shut out just when they want to know why.
    pub(super) fn handle_tasks(&mut self) -> io::Result<()> {
        self.publish_for_operator();
        for number in 0..TASKS_PER_TURN {
            // What is published later stays behind what was published before.
            if self.publishing.is_some() || (number > 0 && self.fanout.is_full()) {
                break;
            }
            let Some(task) = self.mesh.receive_task(self.number.into()) else {
                break;
            };
            self.handle_task(task)?;
        }
        Ok(())
    }

    fn handle_task(&mut self, task: Task) -> io::Result<()> {
        match task {
            Task::Connections { from, wanted, reply } => reply.give(self.connections(from, &wanted)),
            Task::Connection { name, reply } => {
                let details = self.slot_of(&name).map(|slot| Box::new(self.details(slot)));
                reply.give(details);
            }
            Task::Close {
                name,
                code,
                reason,
                reply,
            } => {
                let slot = self.slot_of(&name);
                if let Some(slot) = slot {
                    self.kick(slot, code, &reason)?;
                }
                reply.give(slot.is_some());
            }
            Task::Unsubscribe { name, filter, reply } => {
                let slot = self.slot_of(&name);
                let ended = match slot {
                    Some(slot) => self.broker.end_subscription(SessionId(slot), &filter, &mut self.fanout),
                    None => Err(Refusal {
                        code: Code::NotFound,
                        text: "there is no such connection".into(),
                    }),
                };
                // If it can have no other, that is its end.
                let ends = |slot: &u32| self.fanout.closing.iter().any(|closing| closing.slot == *slot);
                if let Some(slot) = slot.filter(ends) {
                    self.blame(slot, End::Operator);
                }
                self.close_as_wanted()?;
                reply.give(ended);
            }
            Task::Publish { messages, reply } => {
                self.publishing = Some(Publishing {
                    results: Vec::with_capacity(messages.len()),
                    messages,
                    stalled: None,
                    reply,
                });
                self.publish_for_operator();
            }
            Task::Filters { from, reply } => reply.give(self.broker.filters(from, Task::SLOTS as usize)),
            Task::Tap { tap, reply } => reply.give(self.broker.open_tap(tap)),
            Task::Untap { id } => self.broker.close_tap(id),
            Task::TopTopics { reply } => reply.give(self.broker.take_top_topics()),
        }
        Ok(())
    }

    /// Goes on with what an operator publishes, for as long as other workers have room for it and as it is not as much as a turn may
    /// produce, besides what clients have published in it. When all of it has gone, that is the answer.
    fn publish_for_operator(&mut self) {
        let Some(mut publishing) = self.publishing.take() else {
            return;
        };
        let share = self.fanout.share();
        loop {
            if let Some(stalled) = &mut publishing.stalled {
                if !self.fanout.forward_stalled(stalled) {
                    break;
                }
                publishing.stalled = None;
            }
            let Some(publication) = publishing.messages.get(publishing.results.len()) else {
                publishing.reply.give(publishing.results);
                return;
            };
            if self.fanout.has_used(share) {
                break;
            }
            let message = Message {
                topic: &publication.topic,
                payload: &publication.payload,
                kind: publication.kind,
                key: publication.key.as_deref(),
            };
            let result = self.broker.publish_for_operator(&message, &mut self.fanout);
            publishing.results.push(result);
            publishing.stalled = self.fanout.stalled.take();
        }
        self.publishing = Some(publishing);
    }

    /// Ends a connection because an operator says so.
    fn kick(&mut self, slot: u32, code: u16, reason: &str) -> io::Result<()> {
        self.blame(slot, End::Operator);
        match &self.slots[slot as usize].phase {
            Phase::Open(_) if self.fanout.lane(slot).is_sealed() => Ok(()),
            Phase::Open(_) | Phase::Events { .. } => self.abandon(slot, code, reason),
            _ => self.kill(slot),
        }
    }

    /// The slot of the connection of that name.
    fn slot_of(&self, name: &str) -> Option<u32> {
        let (_, slot) = place_of(name)?;
        let state = self.slots.get(slot as usize)?;
        let is_there = !matches!(state.phase, Phase::Free | Phase::Dying);
        (is_there && self.name(slot) == name).then_some(slot)
    }

    fn connections(&self, from: u32, wanted: &Wanted) -> ConnectionPage {
        let to = from.saturating_add(Task::SLOTS).min(self.slots.len() as u32);
        let is_taken = |slot: &u32| !matches!(self.slots[*slot as usize].phase, Phase::Free | Phase::Dying);
        let waits = |slot: &u32| self.waiting(*slot) >= wanted.waiting;
        let summaries = (from..to).filter(is_taken).filter(waits);
        let summaries = summaries.map(|slot| self.summary(slot));
        ConnectionPage {
            connections: summaries.filter(|summary| wanted.is(summary)).collect(),
            next: (to < self.slots.len() as u32).then_some(to),
        }
    }

    /// Bytes that wait because `slot` does not read.
    fn waiting(&self, slot: u32) -> usize {
        let lane = self.fanout.lane(slot);
        if lane.is_blocked() { lane.len() } else { 0 }
    }

    fn summary(&self, slot: u32) -> ConnectionSummary {
        let state = &self.slots[slot as usize];
        let account = self.ledger.get(slot);
        let session = self.broker.summary(SessionId(slot));
        let (stage, connection) = match &state.phase {
            Phase::Proxy { .. } | Phase::Head { .. } | Phase::Body(_) | Phase::Answering { .. } => {
                (Stage::Opening, None)
            }
            Phase::Events { .. } if session.is_some() => (Stage::Open, None),
            Phase::Open(connection) if session.is_some() => (Stage::Open, Some(connection)),
            _ => (Stage::Closing, None),
        };
        let lane = self.fanout.lane(slot);
        ConnectionSummary {
            name: self.name(slot),
            peer: account.peer(),
            identity: session.as_ref().and_then(|session| session.identity.clone()),
            stage,
            encoding: session.as_ref().map(|session| match state.phase {
                Phase::Events { .. } => Encoding::Events,
                _ => session.encoding,
            }),
            version: connection.map(|connection| connection.version()),
            compression: match connection.and_then(|connection| connection.extension()) {
                None => "",
                Some(Extension::DeflateStream) => "deflate-stream",
                Some(Extension::PerMessageDeflate(_)) => "permessage-deflate",
            },
            tls: lane.is_secure(),
            age: Duration::from_millis((self.now - account.since).0),
            subscriptions: session.map_or(0, |session| session.subscriptions),
            bytes_in: account.bytes_in,
            bytes_out: account.bytes_out,
            messages_in: account.messages_in,
            messages_out: account.messages_out,
            waiting: self.waiting(slot),
        }
    }

    fn details(&self, slot: u32) -> ConnectionDetails {
        let id = SessionId(slot);
        let grant = self.broker.grant(id);
        let texts = |patterns: &Patterns| -> Option<Vec<String>> {
            let filters = patterns.filters()?.iter();
            Some(filters.map(|filter| filter.as_str().to_owned()).collect())
        };
        ConnectionDetails {
            summary: self.summary(slot),
            publishes_to: self.broker.publishes_to(id).map(str::to_owned),
            subscriptions: self.broker.subscriptions(id, MOST_SUBSCRIPTIONS),
            may_publish: grant.and_then(|grant| texts(&grant.publish)),
            may_subscribe: grant.and_then(|grant| texts(&grant.subscribe)),
            expires: grant.and_then(|grant| grant.expires).map(|expires| expires.0),
        }
    }
}

//! What an operator wants of this worker.

use std::io;
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

/// What an operator published and other workers have no room for yet.
#[derive(Debug)]
pub(super) struct Unforwarded {
    stalled: Vec<Stalled>,
    results: Vec<Result<(), Refusal>>,
    reply: Reply<Vec<Result<(), Refusal>>>,
}

impl Unforwarded {
    /// The workers that are waited for.
    pub(super) fn targets(&self) -> WorkerSet {
        self.stalled.first().map(Stalled::targets).unwrap_or_default()
    }
}

impl Worker {
    /// Does what the control plane wants done.
    pub(super) fn handle_tasks(&mut self) -> io::Result<()> {
        self.forward_for_operator();
        for _ in 0..TASKS_PER_TURN {
            // What is published later stays behind what was published before.
            if self.unforwarded.is_some() || self.fanout.is_full() {
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
                let ended = match self.slot_of(&name) {
                    Some(slot) => self.broker.end_subscription(SessionId(slot), &filter, &mut self.fanout),
                    None => Err(Refusal {
                        code: Code::NotFound,
                        text: "there is no such connection".into(),
                    }),
                };
                self.close_as_wanted()?;
                reply.give(ended);
            }
            Task::Publish { messages, reply } => self.publish_for_operator(&messages, reply),
            Task::Filters { from, reply } => reply.give(self.broker.filters(from, Task::SLOTS as usize)),
            Task::Tap { tap, reply } => reply.give(self.broker.open_tap(tap)),
            Task::Untap { id } => self.broker.close_tap(id),
            Task::TopTopics { reply } => reply.give(self.broker.take_top_topics()),
        }
        Ok(())
    }

    fn publish_for_operator(&mut self, messages: &[Publication], reply: Reply<Vec<Result<(), Refusal>>>) {
        let mut stalled = Vec::new();
        let mut publish = |publication: &Publication| {
            let message = Message {
                topic: &publication.topic,
                payload: &publication.payload,
                kind: publication.kind,
                key: publication.key.as_deref(),
            };
            let result = self.broker.publish_for_operator(&message, &mut self.fanout);
            stalled.extend(self.fanout.stalled.take());
            result
        };
        let results = messages.iter().map(&mut publish).collect();
        self.unforwarded = Some(Unforwarded {
            stalled,
            results,
            reply,
        });
        self.forward_for_operator();
    }

    /// Hands what an operator published to other workers, as far as they have room; when all of it has gone, that is the answer.
    fn forward_for_operator(&mut self) {
        let Some(mut unforwarded) = self.unforwarded.take() else {
            return;
        };
        while let Some(stalled) = unforwarded.stalled.first_mut() {
            if !self.fanout.forward_stalled(stalled) {
                self.unforwarded = Some(unforwarded);
                return;
            }
            unforwarded.stalled.remove(0);
        }
        unforwarded.reply.give(unforwarded.results);
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

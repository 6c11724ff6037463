//! Clients that are not listened to, until what they said before is through: other workers have no room for it, or it is
//! not known yet whether it is permitted.

use std::io;
use std::time::Duration;

use tidecast_broker::auth::Verdict;
use tidecast_broker::{Progress, SessionId};
use tidecast_driver::Op;

use super::Worker;
use crate::asking::{Command, Waiting};
use crate::connection::Paused;
use crate::fanout::Stalled;
use crate::hook::Asker;
use crate::journal::{Ended, Entry};
use crate::ledger::End;
use crate::name::name_of;

impl Worker {
    /// What follows is about the connection in `slot`.
    pub(super) fn begin_asking(&mut self, slot: u32) {
        let generation = self.slots[slot as usize].generation;
        if let Some(asking) = &mut self.fanout.asking {
            asking.begin(generation, self.ledger.get(slot).peer().ip(), self.now);
        }
    }

    /// Looks after what a command of `slot` has left to be done, and tells whether the next one has to wait: until there is
    /// room in mailboxes, or it is known whether `again` may be done. `before` is what it waited for before, if it is the
    /// same command.
    #[inline]
    pub(super) fn has_to_wait(
        &mut self,
        slot: u32,
        again: Option<Command>,
        before: Option<Waiting>,
    ) -> io::Result<bool> {
        // As good as always, after each message.
        if again.is_none() && !self.fanout.left_something() {
            return Ok(false);
        }
        self.look_after(slot, again, before)
    }

    #[cold]
    fn look_after(&mut self, slot: u32, again: Option<Command>, before: Option<Waiting>) -> io::Result<bool> {
        self.close_as_wanted()?;
        if std::mem::take(&mut self.fanout.regranted) {
            self.arm_by_state(slot);
        }
        let stalled = self.fanout.stalled.take();
        let waiting = again.and_then(|command| self.ask(slot, command, before));
        if stalled.is_none() && waiting.is_none() {
            return Ok(false);
        }
        if stalled.is_some() {
            self.paused.push(slot);
            self.counters.publishers_paused.add(1);
        }
        self.slots[slot as usize].paused = Some(Box::new(Paused {
            stalled: stalled.unwrap_or_default(),
            waiting,
            rest: Vec::new(),
        }));
        Ok(true)
    }

    /// Asks the question that the command at hand has led to.
    fn ask(&mut self, slot: u32, command: Command, before: Option<Waiting>) -> Option<Waiting> {
        let connection = (self.name(slot), self.ledger.get(slot).peer().ip());
        let asking = self.fanout.asking.as_mut()?;
        let (waiting, verdict) = asking.ask(connection, command, before)?;
        self.counters.asked.add(1);
        if let Some(verdict) = verdict {
            self.counters.unanswered.add(1);
            let (worker, number) = (self.number, waiting.number());
            // Not at once: a message may hold many commands with that answer.
            self.verdicts.push_back((Asker { worker, slot, number }, verdict));
        }
        // So that it is looked at when it has waited too long.
        self.arm(slot, waiting.until);
        Some(waiting)
    }

    /// What the kernel has received already of a paused connection still comes, and is kept with the rest.
    pub(super) fn pause_receiving(&mut self, slot: u32) -> io::Result<()> {
        if self.slots[slot as usize].receiving {
            self.driver.cancel(self.token(Op::Receive, slot))?;
        }
        Ok(())
    }

    /// Goes on with those for whom there is room now.
    pub(super) fn resume_paused(&mut self) -> io::Result<()> {
        for slot in std::mem::take(&mut self.paused) {
            let Some(paused) = &mut self.slots[slot as usize].paused else {
                continue;
            };
            let mut stalled: Stalled = std::mem::take(&mut paused.stalled);
            let forwarded = self.fanout.forward_stalled(&mut stalled);
            if let Some(paused) = &mut self.slots[slot as usize].paused {
                paused.stalled = stalled;
            }
            if forwarded {
                self.resume(slot)?;
            } else {
                self.paused.push(slot);
            }
        }
        Ok(())
    }

    /// Goes on with those about whom there is an answer.
    pub(super) fn handle_verdicts(&mut self) -> io::Result<()> {
        let me = usize::from(self.number);
        // Those that come meanwhile are for the next turn.
        for _ in 0..self.verdicts.len() {
            if let Some((asker, verdict)) = self.verdicts.pop_front() {
                self.handle_verdict(asker, verdict)?;
            }
        }
        for _ in 0..self.mesh.most_questions(me) {
            let Some((asker, verdict)) = self.mesh.receive_answer(me) else {
                break;
            };
            if let Some(asking) = &mut self.fanout.asking {
                asking.handle_answer();
            }
            self.handle_verdict(asker, verdict)?;
        }
        Ok(())
    }

    fn handle_verdict(&mut self, asker: Asker, verdict: Verdict) -> io::Result<()> {
        let paused = self
            .slots
            .get_mut(asker.slot as usize)
            .and_then(|state| state.paused.as_mut());
        let waiting = paused.and_then(|paused| paused.waiting.as_mut());
        // Whoever asked may have gone, or have waited too long.
        let Some(waiting) = waiting.filter(|waiting| waiting.is(asker.number)) else {
            return Ok(());
        };
        if let Some(asking) = &mut self.fanout.asking {
            asking.keep(waiting, &verdict, self.now);
        }
        waiting.answer(verdict.ruling);
        self.resume(asker.slot)
    }

    /// Nobody has answered what `slot` waits for.
    pub(super) fn give_up_waiting(&mut self, slot: u32) {
        let paused = self.slots[slot as usize].paused.as_ref();
        let waiting = paused.and_then(|paused| paused.waiting.as_ref());
        if let (Some(waiting), Some(asking)) = (waiting, &self.fanout.asking)
            && self.now >= waiting.until
            && !waiting.is_answered
        {
            self.counters.unanswered.add(1);
            let (worker, number) = (self.number, waiting.number());
            self.verdicts
                .push_back((Asker { worker, slot, number }, asking.unanswered()));
        }
    }

    /// What `slot` has not been permitted is not done any more, and nothing that was sent after it.
    pub(super) fn stop_waiting(&mut self, slot: u32) -> io::Result<()> {
        let Some(paused) = &mut self.slots[slot as usize].paused else {
            return Ok(());
        };
        if paused.waiting.take().is_some() {
            paused.rest.clear();
            self.resume(slot)?;
        }
        Ok(())
    }

    /// Goes on with a connection, if there is nothing left that it waits for.
    fn resume(&mut self, slot: u32) -> io::Result<()> {
        let ready = |paused: &mut Box<Paused>| {
            paused.stalled.is_empty() && paused.waiting.as_ref().is_none_or(|waiting| waiting.is_answered)
        };
        let Some(paused) = self.slots[slot as usize].paused.take_if(ready) else {
            return Ok(());
        };
        let Paused { waiting, mut rest, .. } = *paused;
        if let Some(mut waiting) = waiting {
            self.begin_asking(slot);
            if let Some(asking) = &mut self.fanout.asking {
                asking.begin_again(&waiting);
            }
            let id = SessionId(slot);
            let again = match std::mem::replace(&mut waiting.command, Command::Head) {
                Command::Head => {
                    self.requests(slot, &mut rest, Some(waiting))?;
                    return self.listen_again(slot);
                }
                Command::Body => {
                    self.publish_body(slot)?;
                    // It may wait for something else now.
                    self.input(slot, &mut rest)?;
                    return self.listen_again(slot);
                }
                Command::Text(text) => match self.broker.handle_text(id, &text, &mut self.fanout) {
                    Progress::Done => None,
                    Progress::WaitsAt(at) => Some(Command::Text(text[at..].to_owned())),
                },
                Command::Binary(bytes) => match self.broker.handle_binary(id, &bytes, &mut self.fanout) {
                    Progress::Done => None,
                    Progress::WaitsAt(at) => Some(Command::Binary(bytes[at..].to_owned())),
                },
            };
            if self.has_to_wait(slot, again, None)? {
                if let Some(paused) = &mut self.slots[slot as usize].paused {
                    paused.rest = rest;
                }
                return self.account(slot);
            }
        }
        self.input(slot, &mut rest)?;
        self.listen_again(slot)
    }

    pub(super) fn listen_again(&mut self, slot: u32) -> io::Result<()> {
        self.account(slot)?;
        if self.slots[slot as usize].ended {
            self.end(slot)
        } else {
            self.receive(slot)
        }
    }

    /// The name of a connection, by which clients and the hook know it.
    pub(super) fn name(&self, slot: u32) -> String {
        use std::hash::BuildHasher;
        let generation = self.slots[slot as usize].generation;
        let unique = self.names.hash_one((slot, generation)) as u32;
        name_of(self.number, slot, unique)
    }

    /// Ends the session of `slot`, if it still has one.
    pub(super) fn end_session(&mut self, slot: u32) {
        self.tell_end(slot);
        self.broker.handle_close(SessionId(slot), &mut self.fanout);
    }

    /// Tells of the end of the session of `slot`, if it still has one.
    pub(super) fn tell_end(&mut self, slot: u32) {
        let id = SessionId(slot);
        if let Some(grant) = self.broker.grant(id) {
            if self.fanout.lane(slot).is_events() {
                self.counters.event_streams.subtract(1);
            }
            if let Some(asking) = &self.fanout.asking {
                let connection = || (self.name(slot), self.ledger.get(slot).peer().ip());
                asking.tell_gone(slot, connection, grant.identity.as_ref());
            }
            if self.journal.wants_ends() {
                let account = self.ledger.get(slot);
                self.journal.write(Entry::Ended(Box::new(Ended {
                    name: self.name(slot),
                    peer: account.peer(),
                    identity: grant.identity.clone(),
                    end: account.end.unwrap_or(End::Gone),
                    duration: Duration::from_millis((self.now - account.since).0),
                    bytes_in: account.bytes_in,
                    bytes_out: account.bytes_out,
                    messages_in: account.messages_in,
                    messages_out: account.messages_out,
                })));
            }
        }
    }
}

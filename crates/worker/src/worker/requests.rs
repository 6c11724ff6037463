//! HTTP requests: one after the other on a connection, until one of them makes something else of it.
//!
//! Answers go out in the order of the requests, and no more is answered than a client takes: when so much waits that it need not
//! be more, or the turn has done enough, what comes behind waits until all of it is sent.

use std::io;
use std::net::IpAddr;

use tidecast_broker::wire::Code;
use tidecast_broker::{Encoding, Language, Progress, SessionId};
use tidecast_websocket::Connection;
use tidecast_websocket::http::{Request, Response};

use super::Worker;
use crate::admission::Cause;
use crate::asking::{Command, Waiting};
use crate::authentication::{Visitor, unix_now};
use crate::connection::Phase;
use crate::ledger::End;
use crate::posting::Posting;
use crate::rendition::Form;
use crate::site::{Answer, Switch, ends_head};
use crate::tls::TLS_HANDSHAKE;

/// Bytes of answers that wait, from which on no other request is looked at.
const MOST_ANSWERS: usize = 64 * 1024;

impl Worker {
    /// Bytes of requests, or of frames after them. `before` is what the first of them has waited for.
    pub(super) fn requests(&mut self, slot: u32, bytes: &mut [u8], mut before: Option<Waiting>) -> io::Result<()> {
        let mut at = 0;
        loop {
            let rest = &mut bytes[at..];
            if let Some(paused) = &mut self.slots[slot as usize].paused {
                paused.rest.extend_from_slice(rest);
                return self.pause_receiving(slot);
            }
            if rest.is_empty() {
                return Ok(());
            }
            at += match &self.slots[slot as usize].phase {
                Phase::Head { .. } if before.is_none() && self.has_answered_enough(slot) => {
                    return self.let_answers_out(slot, rest);
                }
                Phase::Head { .. } => self.head(slot, rest, before.take())?,
                Phase::Body(_) => self.body(slot, rest)?,
                Phase::Open(_) => return self.frames(slot, rest),
                // Nothing follows the last request.
                _ => return Ok(()),
            };
        }
    }

    /// Bytes of a request head. `before` is what it has waited for. Gives how many bytes it took; what is behind them is for the
    /// phase that comes after.
    fn head(&mut self, slot: u32, bytes: &mut [u8], before: Option<Waiting>) -> io::Result<usize> {
        let Phase::Head {
            bytes: kept,
            listener,
            peer,
            again,
            ..
        } = &mut self.slots[slot as usize].phase
        else {
            return Ok(bytes.len());
        };
        let (mut kept, listener, peer, again) = (std::mem::take(kept), *listener, *peer, *again);
        // A head that drips in is not parsed again for every drop. The first bytes are, to refuse what is not HTTP.
        let earlier = kept.len();
        let fresh = earlier.saturating_sub(3);
        let first = kept.is_empty();
        let whole = if first {
            &bytes[..]
        } else {
            kept.extend_from_slice(bytes);
            &kept[..]
        };
        if first && !again && whole.first() == Some(&TLS_HANDSHAKE) {
            self.refuse_tls(slot)?;
            return Ok(bytes.len());
        }
        let worth_parsing = fresh == 0 || whole.len() >= self.config.max_head || ends_head(&whole[fresh..]);
        self.scratch.clear();
        let parsed = if worth_parsing {
            Request::parse(whole, self.config.max_head)
        } else {
            Ok(None)
        };
        let (answer, length) = match parsed {
            Ok(None) => {
                let whole = if first { bytes.to_vec() } else { kept };
                if let Phase::Head { bytes, .. } = &mut self.slots[slot as usize].phase {
                    *bytes = whole;
                }
                return Ok(bytes.len());
            }
            Ok(Some((request, length))) => {
                // Whoever has waited has been counted already.
                if before.is_none() {
                    if let Err(cause) = self.admit_client(slot, peer, &request, again) {
                        self.refuse(slot, cause)?;
                        return Ok(bytes.len());
                    }
                    // Now it is known where the client is.
                    self.begin_asking(slot);
                }
                if self.config.authenticator.takes_tokens() {
                    self.fanout.count_proof();
                }
                let visitor = Visitor {
                    door: &self.config.listeners[usize::from(listener)],
                    number: listener,
                    slot,
                    certificate: self.tls.session(slot).and_then(|session| session.identity()),
                    leaves: self.draining.is_some(),
                    now: unix_now(),
                };
                let asking = self.fanout.asking.as_mut();
                (
                    self.site.answer(&request, visitor, asking, &mut self.scratch),
                    length - earlier,
                )
            }
            Err(error) => {
                error.write_response(&mut self.scratch);
                (Answer::Refused, bytes.len())
            }
        };
        if answer.goes_alone() && !self.fanout.lane(slot).has_no_plaintext() {
            let whole = if first { bytes.to_vec() } else { kept };
            self.let_answers_out(slot, &whole)?;
            return Ok(bytes.len());
        }
        if let Answer::Waiting = answer {
            let whole = if first { bytes.to_vec() } else { kept };
            self.has_to_wait(slot, Some(Command::Head), before)?;
            if let Some(paused) = &mut self.slots[slot as usize].paused {
                paused.rest = whole;
            }
            return Ok(bytes.len());
        }
        let grant = match &answer {
            Answer::Multiplexed(.., grant) | Answer::Raw(.., grant) | Answer::Events(_, grant) => Some(grant),
            Answer::Publish(envelope) => Some(&envelope.grant),
            _ => None,
        };
        if let Some(grant) = grant
            && !self.fanout.identify(slot, grant.identity.as_deref())
        {
            self.refuse(slot, Cause::Identity)?;
            return Ok(bytes.len());
        }
        self.carry_out(slot, answer, (listener, peer))?;
        Ok(length)
    }

    /// Does what a request was answered with, the answer being in `scratch` if there is one. `from` is where it came from.
    fn carry_out(&mut self, slot: u32, answer: Answer, from: (u16, IpAddr)) -> io::Result<()> {
        let id = SessionId(slot);
        match answer {
            Answer::Page { stays } => {
                self.counters.pages.add(1);
                self.answer(slot, stays, from)
            }
            Answer::Options { stays } => {
                self.counters.options.add(1);
                self.answer(slot, stays, from)
            }
            Answer::Refused => {
                self.counters.requests_refused.add(1);
                self.respond(slot)
            }
            Answer::Foreign => {
                self.counters.origins_refused.add(1);
                self.respond(slot)
            }
            Answer::Denied => {
                self.counters.denied.add(1);
                self.respond(slot)
            }
            Answer::Waiting => Ok(()),
            Answer::Publish(envelope) => {
                let posting = Posting::new(*envelope, from, self.changes, &self.config.timing, self.now);
                let (deadline, is_complete) = (posting.deadline, posting.is_complete());
                if posting.waits {
                    Response::new(&mut self.scratch, 100).end();
                    self.fanout.send_response(slot, &self.scratch, false);
                }
                self.slots[slot as usize].phase = Phase::Body(Box::new(posting));
                self.arm(slot, deadline);
                if is_complete {
                    self.begin_asking(slot);
                    return self.publish_body(slot);
                }
                Ok(())
            }
            Answer::Events(target, grant) => {
                self.open_events(slot);
                let rendition = Form::Chunks.rendition(Encoding::Events);
                self.broker
                    .handle_open_raw(id, rendition, grant, &target, &mut self.fanout);
                self.arm_by_state(slot);
                self.close_as_wanted()
            }
            Answer::Closed(switch, denial) => {
                self.open_websocket(slot, switch);
                self.counters.denied.add(1);
                self.blame(slot, End::Forbidden);
                self.abandon(slot, denial.code, &denial.text)
            }
            Answer::Raw(switch, target, grant) => {
                let rendition = self.open_websocket(slot, switch).rendition(Encoding::Raw);
                self.broker
                    .handle_open_raw(id, rendition, grant, &target, &mut self.fanout);
                self.arm_by_state(slot);
                self.close_as_wanted()
            }
            Answer::Multiplexed(switch, encoding, grant) => {
                let rendition = self.open_websocket(slot, switch).rendition(encoding);
                let name = self.name(slot);
                let language = if encoding == Encoding::Binary {
                    Language::Packets
                } else {
                    Language::Json
                };
                self.broker
                    .handle_open(id, language, rendition, grant, &name, &mut self.fanout);
                self.arm_by_state(slot);
                Ok(())
            }
        }
    }

    /// Makes the connection in `slot` a WebSocket, by the response in `scratch`; its frames have this form.
    fn open_websocket(&mut self, slot: u32, switch: Switch) -> Form {
        self.fanout
            .send_response(slot, &self.scratch, !switch.version.frames_may_follow_101());
        let form = Form::of(switch.version, switch.extension);
        self.fanout.set_form(slot, form);
        let connection = Connection::server(switch.version, self.limits, self.now).with_extension(switch.extension);
        self.slots[slot as usize].phase = Phase::Open(connection);
        self.note_late(slot);
        self.counters.opened.add(1);
        self.ledger.upgrade(slot);
        self.set_expiry(slot);
        form
    }

    /// Bytes of a body that is to be published. Gives how many it took.
    fn body(&mut self, slot: u32, bytes: &[u8]) -> io::Result<usize> {
        let Phase::Body(posting) = &mut self.slots[slot as usize].phase else {
            return Ok(bytes.len());
        };
        let before = posting.deadline;
        match posting.take(bytes, &self.config.timing, self.now) {
            Ok(count) => {
                let (deadline, is_complete) = (posting.deadline, posting.is_complete());
                if is_complete {
                    // Others may have been asked about since its head came.
                    self.begin_asking(slot);
                    self.publish_body(slot)?;
                } else if deadline != before {
                    self.arm(slot, deadline);
                }
                Ok(count)
            }
            Err(error) => {
                let code = if error.status() == 413 {
                    Code::TooLarge
                } else {
                    Code::BadMessage
                };
                posting.manner.stays = false;
                self.scratch.clear();
                posting
                    .manner
                    .refuse_with(error.status(), code, &error.to_string(), 0, &mut self.scratch);
                self.counters.requests_refused.add(1);
                self.respond(slot)?;
                Ok(bytes.len())
            }
        }
    }

    /// Publishes the body that `slot` has, which is complete, and answers; unless it is not known yet whether it may.
    pub(super) fn publish_body(&mut self, slot: u32) -> io::Result<()> {
        let retry = self.retry_ms().div_ceil(1000);
        let renewed = self.renew_publisher(slot);
        let Phase::Body(posting) = &mut self.slots[slot as usize].phase else {
            return Ok(());
        };
        if let Err(text) = renewed {
            posting.manner.stays = false;
            self.scratch.clear();
            posting
                .manner
                .refuse_with(401, Code::Unauthorized, &text, 0, &mut self.scratch);
            self.counters.denied.add(1);
            return self.respond(slot);
        }
        posting.manner.stays &= self.draining.is_none();
        let published =
            self.broker
                .publish_for_request(SessionId(slot), &posting.grant, &posting.message(), &mut self.fanout);
        self.scratch.clear();
        match &published {
            Ok(Progress::WaitsAt(_)) => {
                self.has_to_wait(slot, Some(Command::Body), None)?;
                return Ok(());
            }
            Ok(Progress::Done) => {
                self.ledger.get_mut(slot).messages_in += 1;
                self.counters.posts.add(1);
                posting.confirm(&mut self.scratch);
            }
            Err(refusal) => {
                posting.manner.refuse(refusal, retry, &mut self.scratch);
            }
        }
        let (stays, from) = (posting.manner.stays, posting.from);
        self.answer(slot, stays, from)?;
        // Until other workers have room for it, nothing more is taken in.
        self.has_to_wait(slot, None, None)?;
        Ok(())
    }

    /// Sends the response in `scratch`, after which another request may come if the connection `stays`.
    fn answer(&mut self, slot: u32, stays: bool, (listener, peer): (u16, IpAddr)) -> io::Result<()> {
        if !stays || self.draining.is_some() {
            return self.respond(slot);
        }
        self.fanout.send_response(slot, &self.scratch, false);
        self.listen_for_more(slot, listener, peer);
        Ok(())
    }

    /// The next request of `slot` may come.
    fn listen_for_more(&mut self, slot: u32, listener: u16, peer: IpAddr) {
        if self.config.admission.is_trusted(peer) {
            // Whoever it spoke for may be gone, and has no other connection the less.
            self.gate.leave(slot);
        }
        let deadline = self.now + self.config.handshake_timeout.into();
        self.slots[slot as usize].phase = Phase::Head {
            bytes: Vec::new(),
            deadline,
            listener,
            peer,
            again: true,
        };
        self.arm(slot, deadline);
    }

    /// Sends the response in `scratch`, and closes the connection after it.
    pub(super) fn respond(&mut self, slot: u32) -> io::Result<()> {
        let deadline = self.now + self.config.handshake_timeout.into();
        self.fanout.send_response(slot, &self.scratch, false);
        self.fanout.seal(slot);
        self.slots[slot as usize].phase = Phase::Finishing { deadline };
        self.close_tls(slot);
        self.arm(slot, deadline);
        Ok(())
    }

    /// Whether the answers of `slot` have to go out before another request is looked at.
    fn has_answered_enough(&self, slot: u32) -> bool {
        let lane = self.fanout.lane(slot);
        lane.len() >= MOST_ANSWERS || (!lane.is_empty() && self.fanout.is_full())
    }

    /// Leaves `bytes`, of the next requests, until all answers are sent.
    fn let_answers_out(&mut self, slot: u32, bytes: &[u8]) -> io::Result<()> {
        let Phase::Head {
            bytes: kept,
            listener,
            peer,
            ..
        } = &mut self.slots[slot as usize].phase
        else {
            return Ok(());
        };
        let mut kept = std::mem::take(kept);
        kept.extend_from_slice(bytes);
        let deadline = self.now + self.config.handshake_timeout.into();
        self.slots[slot as usize].phase = Phase::Answering {
            bytes: kept,
            deadline,
            listener: *listener,
            peer: *peer,
        };
        self.fanout.seal(slot);
        self.arm(slot, deadline);
        self.pause_receiving(slot)
    }

    /// More bytes of requests that wait.
    pub(super) fn keep_for_later(&mut self, slot: u32, more: &[u8]) {
        if let Phase::Answering { bytes, .. } = &mut self.slots[slot as usize].phase {
            bytes.extend_from_slice(more);
        }
    }

    /// Goes on with those whose answers are sent.
    pub(super) fn resume_answered(&mut self) -> io::Result<()> {
        while !self.fanout.is_full()
            && let Some(slot) = self.answered.pop()
        {
            let Phase::Answering {
                bytes, listener, peer, ..
            } = &mut self.slots[slot as usize].phase
            else {
                // It has been given up meanwhile.
                continue;
            };
            if !self.fanout.lane(slot).is_empty() {
                // As has another one that had its slot.
                continue;
            }
            let (mut bytes, listener, peer) = (std::mem::take(bytes), *listener, *peer);
            self.fanout.unseal(slot);
            self.listen_for_more(slot, listener, peer);
            self.requests(slot, &mut bytes, None)?;
            self.listen_again(slot)?;
        }
        Ok(())
    }

    /// Ends what has not come to a request, or to an answer, because time is up.
    pub(super) fn give_up_request(&mut self, slot: u32) -> io::Result<()> {
        match &self.slots[slot as usize].phase {
            // Nothing was asked: whoever asks now will see that it has to connect again, which an answer would not tell.
            Phase::Head { bytes, again: true, .. } if bytes.is_empty() => {
                self.fanout.seal(slot);
                return self.wind_up(slot);
            }
            // It does not take what it asked for.
            Phase::Answering { .. } => return self.kill(slot),
            _ => {}
        }
        self.counters.requests_timed_out.add(1);
        if !self.can_respond(slot) {
            return self.fail_tls(slot);
        }
        self.scratch.clear();
        Response::new(&mut self.scratch, 408)
            .header("Connection", "close")
            .text("The request did not arrive in time.");
        self.respond(slot)
    }

    /// Ends a request that is not answered yet, because the broker stops.
    pub(super) fn stop_requests(&mut self, slot: u32) -> io::Result<()> {
        if let Phase::Answering { .. } = self.slots[slot as usize].phase {
            return self.wind_up(slot);
        }
        if !self.can_respond(slot) {
            return self.kill(slot);
        }
        self.scratch.clear();
        let retry = self.retry_ms().div_ceil(1000);
        Response::new(&mut self.scratch, 503)
            .header("Connection", "close")
            .header("Retry-After", retry)
            .text("The broker is stopping.");
        self.respond(slot)
    }
}

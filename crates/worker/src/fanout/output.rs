//! The face that a [`Fanout`] shows to the broker.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use tidecast_broker::auth::{Event, Grant};
use tidecast_broker::{
    Allowance, BoundsId, Kept, Message, Output, OwnedMessage, SessionId, Slow, Withheld, WorkerSet, encode,
};
use tidecast_websocket::{Opcode, encode_compressed_header, encode_header, stored_blocks};

use super::lane::Pace;
use super::{Closing, Fanout, PRIVATE, Stalled};
use crate::asking::Asking;
use crate::authentication::unix_now;
use crate::outbox::Range;
use crate::rendition::{Form, MODERN};

impl Output for Fanout {
    type Encoded = Range;

    #[inline]
    fn spend(&mut self, session: SessionId, octets: usize) -> Allowance {
        match &mut self.meter {
            None => Allowance::Within,
            // A command that has waited for permission was counted when it came.
            Some(_) if self.asking.as_mut().is_some_and(Asking::take_again) => Allowance::Within,
            Some(meter) => meter.spend(session.0, octets),
        }
    }

    fn reply(&mut self, session: SessionId, payload: &[u8], text: bool) {
        // For one connection only, so deflating it would cost more than it saves.
        let form = self.lanes[session.0 as usize].form;
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        let header = |version| encode_header(version, opcode, true, payload.len(), None);
        let range = match form {
            Form::Stream(version) => {
                join(&mut self.frame, &header(version), payload);
                self.deflated.clear();
                stored_blocks(&self.frame, &mut self.deflated);
                self.outbox.append(PRIVATE, &[&self.deflated])
            }
            Form::Plain(version) => self.outbox.append(PRIVATE, &[&header(version), payload]),
            Form::PerMessage(_) => self.outbox.append(PRIVATE, &[&header(MODERN), payload]),
            Form::Chunks => {
                chunk(&mut self.frame, payload);
                self.outbox.append(PRIVATE, &[&self.frame])
            }
        };
        self.appended += range.len();
        self.push(session.0, range, Slow::Close, self.usual);
    }

    fn encode(&mut self, rendition: u8, message: &Message<'_>, kept: Option<&Kept>, compress: bool) -> Range {
        let (form, encoding) = Form::of_rendition(rendition);
        let log = usize::from(rendition);
        // Another worker has deflated it already.
        if let Some(bytes) = kept.and_then(|kept| kept.get(rendition)) {
            return self.append(log, &[bytes]);
        }
        let (payload, text) = encode(message, encoding, &mut self.scratch);
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        let header = |version| encode_header(version, opcode, true, payload.len(), None);
        self.deflated.clear();
        let range = match form {
            Form::PerMessage(bits) if compress && self.deflater.message(payload, bits, &mut self.deflated) => {
                let header = encode_compressed_header(MODERN, opcode, true, self.deflated.len(), None);
                self.deflated_bytes.0 += payload.len() as u64;
                self.deflated_bytes.1 += self.deflated.len() as u64;
                self.outbox.append(log, &[&header, &self.deflated])
            }
            Form::Plain(version) => self.outbox.append(log, &[&header(version), payload]),
            Form::PerMessage(_) => self.outbox.append(log, &[&header(MODERN), payload]),
            Form::Chunks => {
                chunk(&mut self.frame, payload);
                self.outbox.append(log, &[&self.frame])
            }
            Form::Stream(version) => {
                join(&mut self.frame, &header(version), payload);
                if compress {
                    self.deflater.stream(&self.frame, &mut self.deflated);
                    self.deflated_bytes.0 += self.frame.len() as u64;
                    self.deflated_bytes.1 += self.deflated.len() as u64;
                } else {
                    stored_blocks(&self.frame, &mut self.deflated);
                }
                self.outbox.append(log, &[&self.deflated])
            }
        };
        self.appended += range.len();
        if let (Some(kept), Form::PerMessage(_) | Form::Stream(_)) = (kept, form) {
            kept.keep(rendition, self.outbox.bytes(range));
        }
        range
    }

    fn join(earlier: Range, later: Range) -> Option<Range> {
        earlier.joined(later)
    }

    #[inline]
    fn deliver(
        &mut self,
        session: SessionId,
        whole: Range,
        messages: u32,
        parts: impl Iterator<Item = (Range, Slow)>,
        bounds: BoundsId,
    ) {
        let lane = &mut self.lanes[session.0 as usize];
        lane.delivered = lane.delivered.wrapping_add(messages);
        if lane.pace == Pace::Blocked || lane.backlog.is_some() {
            for (range, slow) in parts {
                self.push(session.0, range, slow, bounds);
            }
        } else {
            // It reads fast enough for messages to be nothing but bytes.
            self.push(session.0, whole, Slow::Close, bounds);
        }
    }

    fn forward(&mut self, workers: WorkerSet, message: Arc<OwnedMessage>) {
        if let Some(stalled) = &mut self.stalled {
            // Behind what the same publisher published before.
            stalled.0.push_back((message, workers));
            return;
        }
        let mut stalled = Stalled(VecDeque::from([(message, workers)]));
        if !self.forward_stalled(&mut stalled) {
            self.stalled = Some(stalled);
        }
    }

    fn try_forward(&mut self, worker: u16, message: Arc<OwnedMessage>) -> bool {
        self.send_to(worker, message)
    }

    fn permit(&mut self, session: SessionId, event: Event, name: &str, grant: &Grant) -> Result<(), Withheld> {
        let Some(asking) = &mut self.asking else {
            return Ok(());
        };
        asking.consult(session.0, event, name, grant).map(drop)
    }

    fn authenticate(&mut self, session: SessionId, token: &str) -> Result<Arc<Grant>, Withheld> {
        let refused = |reason: String| Withheld::Refused(reason.into());
        if !self.authenticator.takes_tokens() {
            let reason = "no tokens are taken here: what a client may do does not depend on them";
            return Err(refused(reason.to_owned()));
        }
        self.count_proof();
        let grant = self.authenticator.authenticate(token, unix_now());
        let mut grant = grant.map_err(|denied| refused(denied.to_string()))?;
        if let Some(asking) = &mut self.asking
            && let Some(changes) = asking.consult(session.0, Event::Connect, "", &grant)?
        {
            grant = Arc::new(changes.apply(&grant));
        }
        if !self.identify(session.0, grant.identity.as_deref()) {
            let reason = "whose token that is has as many connections as there may be of one identity";
            return Err(Withheld::Full(reason.into()));
        }
        self.regranted = true;
        Ok(grant)
    }

    fn close(&mut self, session: SessionId, code: u16, reason: &str) {
        self.closing.push(Closing {
            slot: session.0,
            code,
            reason: reason.to_owned(),
        });
    }
}

/// Makes `chunk` one of the chunks of an HTTP response.
pub(crate) fn chunk(chunk: &mut Vec<u8>, payload: &[u8]) {
    chunk.clear();
    write!(chunk, "{:x}\r\n", payload.len()).expect("writing to memory cannot fail");
    chunk.extend_from_slice(payload);
    chunk.extend_from_slice(b"\r\n");
}

/// Makes `frame` a whole one, as it has to be to be deflated.
fn join(frame: &mut Vec<u8>, header: &[u8], payload: &[u8]) {
    frame.clear();
    frame.extend_from_slice(header);
    frame.extend_from_slice(payload);
}

//! Streams of server-sent events: how they begin, what keeps them open, and how they end.
//!
//! To the broker, one is a raw session that only receives. What it is sent are the chunks of an HTTP response that goes on; what
//! the client sends after its request is dropped.

use tidecast_broker::wire::events;
use tidecast_websocket::Millis;

use super::Worker;
use crate::connection::Phase;
use crate::fanout::chunk;
use crate::rendition::Form;
use crate::timers::spread;

/// What ends a response in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Worker {
    /// Makes the connection in `slot` a stream of events, by the response head in `scratch`.
    pub(super) fn open_events(&mut self, slot: u32) {
        self.fanout.send_response(slot, &self.scratch, false);
        self.fanout.set_form(slot, Form::Chunks);
        self.slots[slot as usize].phase = Phase::Events {
            ping: self.next_ping(slot),
        };
        self.note_late(slot);
        self.counters.events_opened.add(1);
        self.counters.event_streams.add(1);
        self.ledger.upgrade(slot);
        self.set_expiry(slot);
        // Should the broker be gone all of a sudden, not all come back at once.
        let retry = self.retry_ms();
        self.say_event(slot, |out| events::retry(out, retry));
    }

    /// When `slot` is to be sent something next, so that nobody takes its stream for dead.
    fn next_ping(&self, slot: u32) -> Millis {
        self.now + spread(self.config.timing.ping_interval, slot)
    }

    /// Queues a chunk of what `write` writes.
    fn say_event(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let mut event = Vec::new();
        write(&mut event);
        chunk(&mut self.scratch, &event);
        self.broker.settle(&mut self.fanout);
        self.fanout.send_frames(slot, &self.scratch);
    }

    /// Says something, should it be time for that. To somebody who does not read it need not be said: that something waits for it
    /// already keeps the connection from being taken for dead.
    pub(super) fn keep_events_alive(&mut self, slot: u32) {
        let next = self.next_ping(slot);
        if let Phase::Events { ping } = &mut self.slots[slot as usize].phase
            && self.now >= *ping
        {
            *ping = next;
            if self.fanout.lane(slot).is_empty() {
                self.say_event(slot, |out| out.extend_from_slice(events::KEEP_ALIVE));
            }
        }
        self.arm_by_state(slot);
    }

    /// Ends a stream with what a WebSocket would be closed with.
    pub(super) fn end_events(&mut self, slot: u32, code: u16, reason: &str) {
        let retry = self.retry_ms();
        self.say_event(slot, |out| events::bye(out, code, reason, retry));
        self.fanout.send_frames(slot, LAST_CHUNK);
        self.fanout.seal(slot);
        self.end_session(slot);
        // What was just queued has to go out first, so it cannot be finished yet.
        let deadline = self.now + self.config.timing.close_timeout;
        self.slots[slot as usize].phase = Phase::Finishing { deadline };
        self.arm(slot, deadline);
    }
}

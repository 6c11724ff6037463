//! What arrives on open connections: frames to messages, messages to packets, packets to what they mean for the run.

use tidecast_websocket::{Event, Input};

use crate::error::Error;
use crate::exchange::{Exchange, millis};
use crate::peer::Stage;
use crate::probe::{Probe, Taken};
use crate::protocol::{Framing, Next, Packet, unpack};
use crate::scenario::Role;
use crate::slow::Slow;
use crate::tally::Tally;

/// What the broker says to a command of a connection that subscribes and unsubscribes.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The connection, by its number in the thread.
    pub(crate) churner: usize,
    /// The command, in the words of the protocol; the oldest one if it does not say.
    pub(crate) reference: Option<u64>,
    /// Why not, if it was refused.
    pub(crate) refused: Option<String>,
    /// When, in nanoseconds of the clock.
    pub(crate) at: u64,
}

/// Listens to one connection for the length of one read.
struct Ear<'a> {
    role: Role,
    number: usize,
    topic: u32,
    /// Answers still awaited before the connection is open.
    awaited: u32,
    now: u64,
    tally: &'a mut Tally,
    slow: &'a mut Slow,
    answered: &'a mut Vec<Answered>,
    probe: Option<&'a mut Probe>,
    taken: &'a mut Vec<Taken>,
    foreign: &'a mut u64,
    pings: u32,
    trouble: Option<String>,
}

impl Ear<'_> {
    /// Whether `message` is a delivery of the run, which is then accounted for.
    #[inline]
    fn deliver(&mut self, message: &[u8]) -> bool {
        self.role.is_measured() && self.tally.deliver(self.number, message).is_ok()
    }

    /// Takes in all packets of `bytes`, and returns how many bytes those are.
    #[inline]
    fn hear_all(&mut self, next: Next, bytes: &[u8]) -> usize {
        let mut position = 0;
        loop {
            match next(&bytes[position..]) {
                Ok(Some((packet, length))) => {
                    position += length;
                    match packet {
                        Packet::Delivery(payload) if self.deliver(payload) => {}
                        other => self.hear(other),
                    }
                }
                Ok(None) => return position,
                Err(reason) => {
                    self.trouble = Some(reason);
                    return bytes.len();
                }
            }
        }
    }

    /// The broker answered a ping, which had said that so many messages went before it.
    fn pong(&mut self, messages: Option<u64>) {
        if let Some(probe) = &mut self.probe {
            probe.answered(self.number, messages, self.now, self.taken);
        }
    }

    #[cold]
    fn hear(&mut self, packet: Packet<'_>) {
        match packet {
            Packet::Delivery(message) => match (self.role, self.tally.stamp(self.topic, message)) {
                (Role::Stalled, Some(stamp)) => self.slow.deliver(self.number, &stamp),
                (role, _) => *self.foreign += u64::from(role.subscribes()),
            },
            Packet::Greeted | Packet::Pong | Packet::Confirmed(_) if self.awaited > 0 => self.awaited -= 1,
            Packet::Pong => self.pong(None),
            Packet::Confirmed(reference) if self.role == Role::Churner => self.answered.push(Answered {
                churner: self.number,
                reference,
                refused: None,
                at: self.now,
            }),
            Packet::Refused { number, reason } if self.role == Role::Churner && self.awaited == 0 => {
                self.answered.push(Answered {
                    churner: self.number,
                    reference: number,
                    refused: Some(reason),
                    at: self.now,
                });
            }
            Packet::Refused { reason, .. } => self.trouble = Some(reason),
            Packet::Lag(dropped) if self.role == Role::Stalled => self.slow.lag(dropped),
            Packet::Lag(dropped) => {
                self.trouble = Some(format!("the broker dropped {dropped} messages because it was slow"));
            }
            Packet::Ping => self.pings += 1,
            Packet::Greeted | Packet::Confirmed(_) | Packet::Other => {}
        }
    }
}

impl Exchange<'_> {
    /// Bytes of frames arrived at `now`.
    pub(crate) fn frames(&mut self, slot: u32, bytes: &mut [u8], now: u64) -> Result<(), Error> {
        let Self {
            peers,
            tally,
            slow,
            answered,
            taken,
            plan,
            foreign,
            inflaters,
            recall,
            ..
        } = self;
        let protocol = plan.protocol;
        let peer = &mut peers[slot as usize];
        let mut ear = Ear {
            role: peer.role,
            number: peer.number,
            topic: peer.topic,
            awaited: peer.awaited,
            now,
            tally,
            slow,
            answered,
            probe: peer.probe.as_mut(),
            taken,
            foreign,
            pings: 0,
            trouble: None,
        };
        let length = bytes.len();
        let mut position = 0;
        ear.tally.begin_batch(now);
        while ear.trouble.is_none() {
            let between = peer.connection.is_between_messages();
            if let (Some(next), true) = (&mut peer.recalls, between)
                && let Some((length, message)) = recall.find(next, &bytes[position..])
                && ear.deliver(message)
            {
                position += length;
                continue;
            }
            let start = position;
            let mut input = Input::new(&mut bytes[start..]);
            let message = match peer
                .connection
                .poll_pooled(&mut input, millis(now), inflaters, &mut peer.out.bytes)
            {
                Ok(Some(Event::Binary(message))) => message,
                Ok(Some(Event::Text(message))) => message.as_bytes(),
                Ok(Some(Event::Pong(payload))) => {
                    if let Some(messages) = payload.try_into().ok().map(u64::from_le_bytes) {
                        ear.pong(Some(messages));
                    }
                    position += input.consumed();
                    continue;
                }
                // Messages in parts are not asked for.
                Ok(Some(Event::Ping(_) | Event::TextPart { .. } | Event::BinaryPart { .. })) => {
                    position += input.consumed();
                    continue;
                }
                Ok(Some(Event::Close { code, reason })) => {
                    if peer.stage != Stage::Closing {
                        let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                        ear.trouble = Some(format!("the server closed it with {code} {reason}"));
                    }
                    position += input.consumed();
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    peer.connection.fail(&error, millis(now), &mut peer.out.bytes);
                    ear.trouble = Some(format!("the server broke the protocol: {error}"));
                    break;
                }
            };
            position += input.consumed();
            match protocol.framing() {
                Framing::Stream(next) => {
                    let residue = &mut peer.residue;
                    if residue.is_empty() {
                        let taken = ear.hear_all(next, message);
                        residue.extend_from_slice(&message[taken..]);
                    } else {
                        residue.extend_from_slice(message);
                        let taken = ear.hear_all(next, residue);
                        residue.drain(..taken);
                    }
                }
                // Several messages in one frame are none that another subscriber's frame repeats.
                Framing::Packed => {
                    for packet in unpack(message) {
                        match packet {
                            Packet::Delivery(payload) if ear.deliver(payload) => {}
                            other => ear.hear(other),
                        }
                    }
                }
                Framing::Single if ear.deliver(message) => match &mut peer.recalls {
                    Some(next) if between => {
                        let message: Box<[u8]> = message.into();
                        recall.learn(next, &bytes[start..position], &message);
                    }
                    Some(next) => recall.skip(next, message),
                    None => {}
                },
                Framing::Single => ear.hear(protocol.read(message)),
            }
        }
        let Ear {
            awaited,
            pings,
            trouble,
            ..
        } = ear;
        self.tally.end_batch(if peer.role.is_measured() { length } else { 0 });
        peer.awaited = awaited;
        for _ in 0..pings {
            peer.connection
                .send(protocol.opcode(), protocol.pong(), &mut peer.out.bytes);
        }
        // An answer to a ping or to a Close.
        self.list(slot);
        match trouble {
            Some(trouble) => self.lose(slot, &trouble),
            None => {
                self.open_if_answered(slot, now);
                Ok(())
            }
        }
    }
}

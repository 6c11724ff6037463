//! Every way of sending, on the same connections.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tidecast_driver::{Completion, Driver, Op, Token, Wait, pin_to_core, thread_cpu_time};

use crate::by_hand::{ByHand, SHAPES};
use crate::calls::{Calls, allow_zero_copy};
use crate::connections::{driver, pair, pairs};
use crate::rotation::{Turn, rotate, turn};
use crate::{PATIENCE, Plan, table};

/// A connection that did not take everything.
pub(crate) struct Rest {
    pub(crate) connection: usize,
    /// Octets, or a negated errno.
    pub(crate) result: i32,
}

/// A way of sending.
pub(crate) trait Sender {
    /// Hands the first `size` octets to every connection, and says which did not take all.
    fn send(&mut self, size: usize, rests: &mut Vec<Rest>) -> io::Result<()>;

    /// After the peers have read everything: collects what is needed to know that the octets may change.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Processor time of another thread that works for this one.
    fn helper_time(&self) -> io::Result<Duration> {
        Ok(Duration::ZERO)
    }

    /// What the reader of the table has to know.
    fn remark(&self) -> Option<String> {
        None
    }
}

/// A row of the table: its name, and what sends or why nothing does.
type Row = (&'static str, Result<Box<dyn Sender>, String>);

pub(crate) fn sends(plan: &Plan, seconds: f64) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let (servers, clients) = pairs(&listener, plan.connections)?;
    let [control, client_control] = pair(&listener).map_err(failed)?;
    let expected = Arc::new(AtomicU64::new(0));
    let client = {
        let (core, expected) = (plan.cores[1], Arc::clone(&expected));
        thread::spawn(move || reader(core, clients, client_control, &expected))
    };
    let largest = plan.sizes.iter().copied().max().unwrap_or(0);
    let payload: &'static [u8] = Box::leak(vec![b'x'; largest].into_boxed_slice());
    let sockets: Rc<[TcpStream]> = servers.into();
    let mut peers = Peers {
        sockets: Rc::clone(&sockets),
        control,
        expected,
        payload,
    };

    let copies: io::Result<Vec<TcpStream>> = sockets.iter().map(TcpStream::try_clone).collect();
    let (ring, slots) = driver(copies.map_err(failed)?)?;
    let mut senders: Vec<Row> = vec![(
        "driver",
        Ok(Box::new(Driven {
            ring,
            payload,
            slots,
            completions: Vec::new(),
        })),
    )];
    for (name, flags) in [("send(2)", 0), ("zero copy, send(2) MSG_ZEROCOPY", libc::MSG_ZEROCOPY)] {
        let calls = Calls::new(Rc::clone(&sockets), payload, flags);
        senders.push((name, Ok(Box::new(calls))));
    }
    for socket in sockets.iter() {
        allow_zero_copy(socket).map_err(failed)?;
    }
    for (name, shape) in SHAPES {
        let made = ByHand::new(shape, Rc::clone(&sockets), payload, plan.cores[0]);
        let made = made.map(|by_hand| Box::new(by_hand) as Box<dyn Sender>);
        senders.push((name, made.map_err(|error| error.to_string())));
    }

    let mut columns = Vec::new();
    for size in &plan.sizes {
        let column = rotate(seconds / plan.sizes.len() as f64, senders.len(), |row| {
            let (_, sender) = &mut senders[row];
            match sender {
                Ok(sender) => turn(plan.connections, || peers.round(&mut **sender, *size)),
                Err(why) => Ok(Turn::Refused(why.clone())),
            }
        })?;
        columns.push((format!("{size} octets"), column));
    }
    let remark = |sender: &Result<Box<dyn Sender>, String>| sender.as_ref().ok().and_then(|sender| sender.remark());
    let rows: Vec<_> = senders
        .iter()
        .map(|(name, sender)| (name.to_string(), remark(sender)))
        .collect();
    table::print("µs per send (ratio to the driver's)", &rows, &columns);
    drop((senders, peers, sockets));
    client.join().map_err(|_| "the client failed")?
}

/// What the broker uses.
struct Driven {
    ring: Driver,
    payload: &'static [u8],
    slots: Vec<u32>,
    completions: Vec<Completion>,
}

impl Sender for Driven {
    fn send(&mut self, size: usize, rests: &mut Vec<Rest>) -> io::Result<()> {
        let payload = &self.payload[..size];
        let sends = self.slots.iter().map(|slot| (Token::new(Op::Send, *slot, 0), payload));
        self.ring.turn(sends, Wait::No, &mut self.completions)?;
        rests.extend(self.completions.drain(..).map(|completion| Rest {
            // Slots were given in order, from 0.
            connection: completion.token.slot() as usize,
            result: completion.result,
        }));
        Ok(())
    }
}

/// What the server has of the connections, whoever sends.
struct Peers {
    sockets: Rc<[TcpStream]>,
    control: TcpStream,
    expected: Arc<AtomicU64>,
    payload: &'static [u8],
}

impl Peers {
    /// One round: the processor time it took, or why it does not count. What it left out is sent as well.
    fn round(&mut self, sender: &mut dyn Sender, size: usize) -> io::Result<Result<Duration, String>> {
        let mut rests = Vec::new();
        self.expected
            .fetch_add((size * self.sockets.len()) as u64, Ordering::Release);
        let before = thread_cpu_time() + sender.helper_time()?;
        sender.send(size, &mut rests)?;
        let sent = thread_cpu_time() + sender.helper_time()?;
        for rest in &rests {
            let mut socket = &self.sockets[rest.connection];
            socket.write_all(&self.payload[rest.result.max(0) as usize..size])?;
        }
        self.control.read_exact(&mut [0])?;
        let read = thread_cpu_time() + sender.helper_time()?;
        sender.settle()?;
        let settled = thread_cpu_time() + sender.helper_time()?;
        Ok(match rests.first() {
            None => Ok((sent - before) + (settled - read)),
            // With no room for all of it, another thing is measured.
            Some(rest) if rest.result >= 0 => Err(format!("a send took {} octets of {size}", rest.result)),
            Some(rest) => Err(io::Error::from_raw_os_error(-rest.result).to_string()),
        })
    }
}

/// The client while the server sends: reads everything, and says so each time that it has read as much as `expected`.
fn reader(core: usize, sockets: Vec<TcpStream>, mut control: TcpStream, expected: &AtomicU64) -> Result<(), String> {
    pin_to_core(core).map_err(|error| format!("core {core}: {error}"))?;
    let (mut ring, slots) = driver(sockets)?;
    let failed = |error: io::Error| format!("the client: {error}");
    for slot in slots {
        ring.receive(Token::new(Op::Receive, slot, 0)).map_err(failed)?;
    }
    let (mut received, mut completions) = (0, Vec::new());
    loop {
        ring.turn([], Wait::AtMost(PATIENCE), &mut completions)
            .map_err(failed)?;
        for completion in completions.drain(..) {
            match completion.result {
                0 => return Ok(()),
                octets if octets > 0 => received += octets as u64,
                error if -error == libc::ENOBUFS => {}
                error => return Err(failed(io::Error::from_raw_os_error(-error))),
            }
            if !completion.more {
                ring.receive(completion.token).map_err(failed)?;
            }
        }
        if received == expected.load(Ordering::Acquire) {
            control.write_all(&[0]).map_err(failed)?;
        }
    }
}

pub(crate) fn copies(notifications: u64, copied: u64) -> Option<String> {
    (notifications > 0).then(|| {
        let share = copied as f64 / notifications as f64 * 100.0;
        format!("{share:.0} % of the notifications say that the octets were copied after all")
    })
}

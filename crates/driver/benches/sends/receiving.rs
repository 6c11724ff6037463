//! Every way of receiving, each on connections of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use socket2::SockRef;
use tidecast_driver::{pin_to_core, thread_cpu_time};

use crate::buffers::{Groups, pages};
use crate::by_hand::BY_HAND;
use crate::connections::{pair, pairs};
use crate::ring::ring;
use crate::rotation::{rotate, turn};
use crate::{PATIENCE, Plan, table};

/// `IOU_PBUF_RING_INC`: receives fill a buffer piece by piece. Since Linux 6.12.
const INCREMENTAL: u16 = 2;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;

pub(crate) fn receives(plan: &Plan, seconds: f64) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let [mut control, client_control] = pair(&listener).map_err(failed)?;
    let (mut receivers, mut clients) = (Vec::new(), Vec::new());
    for (name, intake) in INTAKES {
        let (servers, client) = pairs(&listener, plan.connections)?;
        for server in &servers {
            // As on connections that talk in both directions; else who acknowledges, sender or receiver, goes to and fro.
            SockRef::from(server).set_tcp_quickack(false).map_err(failed)?;
        }
        receivers.push(Receiver::new(intake, &servers).map_err(|error| format!("{name}: {error}"))?);
        clients.push(client);
    }
    thread::scope(|scope| {
        // Ends when the control connection does, with this closure.
        let client = scope.spawn(move || writer(plan, &mut clients, client_control));
        let mut columns = Vec::new();
        for (index, load) in LOADS.iter().enumerate() {
            let octets = (load.connections)(plan) * load.repeat * load.size;
            let column = rotate(seconds / LOADS.len() as f64, receivers.len(), |row| {
                turn((load.units)(plan), || {
                    control.write_all(&[row as u8, index as u8])?;
                    control.read_exact(&mut [0])?;
                    let before = thread_cpu_time();
                    let taken = receivers[row].take(octets)?;
                    Ok(taken.map(|()| thread_cpu_time() - before))
                })
            })?;
            columns.push((load.name.to_owned(), column));
        }
        let rows: Vec<_> = INTAKES.iter().map(|(name, _)| (name.to_string(), None)).collect();
        table::print("receiving (ratio to by hand)", &rows, &columns);
        drop(control);
        client.join().map_err(|_| "the client failed")?
    })
}

/// What is received in a round.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    /// Of all connections, so many.
    connections: fn(&Plan) -> usize,
    /// Sends to each, in a round, and octets of each.
    repeat: usize,
    size: usize,
    /// What the cost is of: a MiB, or a connection.
    units: fn(&Plan) -> usize,
}

#[rustfmt::skip]
const LOADS: [Load; 2] = [
    // 128-octet frames back to back.
    Load { name: "µs per MiB, one connection busy", connections: |_| 1, repeat: 64, size: 16 << 10, units: |_| 1 },
    // One frame: 8 octets of header, 128 of payload.
    Load { name: "µs per connection, a message each", connections: |plan| plan.connections, repeat: 1, size: 136, units: |plan| plan.connections },
];

/// The buffers that receives fill, and how.
#[derive(Clone, Copy)]
struct Intake {
    /// A completion may be for several buffers.
    bundle: bool,
    /// `IOU_PBUF_RING_INC` or none.
    flags: u16,
    size: usize,
    count: u16,
    /// Completions to ask for, though none are waited for: the kernel runs at least so many receives in one call.
    wanted: u32,
}

/// What the driver does.
const INTAKE: Intake = Intake {
    bundle: false,
    flags: 0,
    size: 16 << 10,
    count: 512,
    wanted: 1,
};

/// The rows of the table of receiving.
#[rustfmt::skip]
const INTAKES: [(&str, Intake); 8] = [
    ("by hand", INTAKE),
    ("by hand, asking for 1,024 completions", Intake { wanted: 1024, ..INTAKE }),
    ("2,048 buffers of 4 KiB", Intake { size: 4 << 10, count: 2048, ..INTAKE }),
    ("2,048 buffers of 4 KiB, asking for 1,024", Intake { size: 4 << 10, count: 2048, wanted: 1024, ..INTAKE }),
    ("bundles", Intake { bundle: true, ..INTAKE }),
    ("bundles, 2,048 buffers of 4 KiB", Intake { bundle: true, size: 4 << 10, count: 2048, ..INTAKE }),
    ("incremental, 64 buffers of 128 KiB", Intake { flags: INCREMENTAL, size: 128 << 10, count: 64, ..INTAKE }),
    ("incremental, asking for 1,024", Intake { flags: INCREMENTAL, size: 128 << 10, count: 64, wanted: 1024, ..INTAKE }),
];

/// A ring that receives, on connections of its own.
struct Receiver {
    uring: IoUring,
    intake: Intake,
    groups: Groups,
    memory: NonNull<u8>,
}

impl Receiver {
    fn new(intake: Intake, sockets: &[TcpStream]) -> io::Result<Receiver> {
        let uring = ring(BY_HAND.set_up, 0)?;
        let descriptors: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        // The table holds references of its own to the sockets.
        uring.submitter().register_files(&descriptors)?;
        let mut receiver = Receiver {
            groups: Groups::register(&uring, 1, intake.count, intake.flags)?,
            memory: pages(usize::from(intake.count) * intake.size),
            uring,
            intake,
        };
        for id in 0..intake.count {
            receiver.give_back(id);
        }
        for slot in 0..sockets.len() {
            receiver.arm(slot as u64)?;
        }
        receiver.uring.submit()?;
        Ok(receiver)
    }

    fn give_back(&mut self, id: u16) {
        let start = self.memory.as_ptr().wrapping_add(usize::from(id) * self.intake.size);
        self.groups.offer(0, id, start, self.intake.size);
    }

    fn arm(&mut self, slot: u64) -> io::Result<()> {
        let entry = match self.intake.bundle {
            true => opcode::RecvMultiBundle::new(Fixed(slot as u32), 0).build(),
            false => opcode::RecvMulti::new(Fixed(slot as u32), 0).build(),
        };
        if self.uring.submission().is_full() {
            self.uring.submit()?;
        }
        // SAFETY: the entry points at nothing, and the buffers of its group are never freed.
        unsafe { self.uring.submission().push(&entry.user_data(slot)) }.expect("there is room: it was just made");
        Ok(())
    }

    /// Receives until there were so many octets, and leaves every receive armed; or says why one failed.
    fn take(&mut self, octets: usize) -> io::Result<Result<(), String>> {
        let timeout = Timespec::from(Duration::ZERO);
        let args = SubmitArgs::new().timespec(&timeout);
        let (mut taken, mut filled, mut ended) = (0, Vec::new(), Vec::new());
        let deadline = Instant::now() + PATIENCE;
        while taken < octets || !ended.is_empty() {
            for slot in ended.drain(..) {
                self.arm(slot)?;
            }
            let pending = self.uring.submission().len() as u32;
            let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
            // SAFETY: `args` and what it points at outlive the call, and the flags say how to read them.
            let entered = unsafe {
                self.uring
                    .submitter()
                    .enter(pending, self.intake.wanted, flags, Some(&args))
            };
            match entered {
                Err(error) if error.raw_os_error() != Some(libc::ETIME) => return Err(error),
                _ if Instant::now() > deadline => return Err(io::ErrorKind::TimedOut.into()),
                _ => {}
            }
            for entry in self.uring.completion() {
                let (result, flags) = (entry.result(), entry.flags());
                if result <= 0 && result != -libc::ENOBUFS {
                    return Ok(Err(format!("a receive ended with {result}")));
                }
                let received = result.max(0) as usize;
                taken += received;
                if let Some(id) = cqueue::buffer_select(flags).filter(|_| !cqueue::buffer_more(flags)) {
                    // Buffers are given back in the order they were taken, so those of a bundle have names in a row.
                    let more = match self.intake.bundle {
                        true => received.div_ceil(self.intake.size),
                        false => 1,
                    };
                    filled.extend((0..more as u16).map(|next| (id + next) % self.intake.count));
                }
                if !cqueue::more(flags) {
                    ended.push(entry.user_data());
                }
            }
            for id in filled.drain(..) {
                self.give_back(id);
            }
        }
        Ok(Ok(()))
    }
}

/// The client while the server receives: sends what it is asked for, and says so.
fn writer(plan: &Plan, connections: &mut [Vec<TcpStream>], mut control: TcpStream) -> Result<(), String> {
    pin_to_core(plan.cores[1]).map_err(|error| error.to_string())?;
    let octets = vec![b'x'; LOADS.iter().map(|load| load.size).max().unwrap_or(0)];
    let mut asked = [0; 2];
    while control.read_exact(&mut asked).is_ok() {
        let [row, load] = asked.map(usize::from);
        let load = &LOADS[load];
        for socket in connections[row].iter_mut().take((load.connections)(plan)) {
            for _ in 0..load.repeat {
                socket
                    .write_all(&octets[..load.size])
                    .map_err(|error| error.to_string())?;
            }
        }
        control.write_all(&[0]).map_err(|error| error.to_string())?;
    }
    Ok(())
}

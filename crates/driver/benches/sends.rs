//! Which way of sending pays: one buffer handed to each of N TCP connections, in every way this kernel offers.
//!
//! ```text
//!   server core   one send to each connection, timed ──────▶ wait ──▶ the next round, by and by in every way
//!                      │ N times the same octets              ▲ one octet: all read
//!   client core   ─────▼──── reads all N connections ─────────┘
//! ```
//!
//! The methods take turns, all on the same connections, so what else the machine does hits them alike. The first round of a turn warms the caches and is not counted. What counts is the processor time of the thread
//! that sends, from the first entry written to the last buffer known to be free again; waiting for the client does not.
//! Over loopback that includes the receiver's half of TCP, which the kernel runs inside the send: the same few
//! microseconds for all.
//!
//! ```console
//! $ cargo bench -p tidecast-driver --bench sends -- --seconds 300 --sizes 130,4096 --connections 1000
//! ```
//!
//! # Output
//!
//! A Markdown table, a row for each method and a column for each size: microseconds of processor time per send, the
//! median over turns; behind it the ratio to the driver's way, the median of the ratios to the driver's turn of the same
//! rotation, which is steadier than the ratio of the medians. A dash: this kernel refused, or a send was not taken whole;
//! why stands below the table. Then the same for receiving.
//!
//! # Sending
//!
//! All rows but the first three change one thing about *by hand*, which writes the same entries as the driver does.
//!
//! - *driver*: [`Ring::turn`]. Up to 1,024 `IORING_OP_SEND` entries a submission, fixed files, `MSG_DONTWAIT |
//!   MSG_WAITALL`, no completion for success, on a ring with `SINGLE_ISSUER | COOP_TASKRUN | DEFER_TASKRUN`.
//! - *send(2)*: a system call for each. There is no row for `sendmmsg(2)`: it sends many messages on one socket, not one on
//!   many.
//! - *ring set-up*: without those flags, without the array of indices (`NO_SQARRAY`), and with a kernel thread that
//!   submits (`SQPOLL`): on the server's core, where its processor time is the method's, and counted.
//! - *write*: has no `MSG_WAITALL`, and needs `RWF_NOWAIT` not to be parked. Registered memory saves pinning pages for
//!   disks, whereas TCP copies out of it all the same.
//! - *two pieces*: header and payload apart, by a `msghdr` or by `IORING_SEND_VECTORIZED`.
//! - *zero copy*: a buffer is free only after a notification, which comes when the peer has acknowledged; collecting it is
//!   counted, waiting is not. Loopback copies after all when it delivers, and the notification says so: this measures
//!   what the method costs without what it gains.
//! - *provided buffers*: the entry names a group instead of an address. A send takes the group's first buffer, so one
//!   group can serve all connections, given an entry for each send. A *bundle* takes all that its group holds, so shared
//!   octets do not fit it: it needs a group, with a page of memory, for each connection.
//!
//! # Receiving
//!
//! The client has sent everything before the clock starts; what counts is to take it out of the kernel. *By hand* is the
//! driver's way: multishot receives, a buffer of 16 KiB for each completion, 512 of them. A *bundle* is one completion
//! for several buffers; *incremental* buffers are filled by several receives; *asking for 1,024* makes the kernel run up to
//! that many receives in a call, which otherwise are few.

use std::io::{self, Read, Write};
use std::mem::size_of;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::types::{BufRingEntry, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::SockRef;
use tidecast_driver::{Completion, Config, Op, Ring, Token, Wait, pin_to_core, thread_cpu_time};

/// Both ends of every connection take so much without waiting, so that the largest send goes out whole.
const SOCKET_BUFFER: usize = 1 << 20;
/// How long anything may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Counted rounds of a turn go on until so much time has gone by.
const TURN: Duration = Duration::from_millis(8);
/// Fewer rotations than that have no median worth the name.
const LEAST_ROTATIONS: usize = 3;
/// Octets that are sent apart from the rest: a server's frame header.
const HEADER: usize = 4;
/// `IORING_SEND_VECTORIZED`: address and length of the entry are those of an array of `iovec`. Since Linux 6.17.
const SEND_VECTORIZED: u16 = 1 << 5;
/// `IORING_SEND_ZC_REPORT_USAGE`: the notification says whether the octets were copied.
const REPORT_USAGE: u16 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`, in a notification's result.
const COPIED: i32 = i32::MIN;
/// `SO_EE_CODE_ZEROCOPY_COPIED`, the same of `MSG_ZEROCOPY`.
const ZEROCOPY_COPIED: u8 = 1;
/// `IOU_PBUF_RING_INC`: receives fill a buffer piece by piece. Since Linux 6.12.
const INCREMENTAL: u16 = 2;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;
const PAGE: usize = 4096;

/// What to do.
struct Plan {
    connections: usize,
    sizes: Vec<usize>,
    seconds: f64,
    /// Of the server and of the client.
    cores: [usize; 2],
}

impl Plan {
    fn from_arguments() -> Result<Plan, String> {
        let mut plan = Plan {
            connections: 1000,
            sizes: vec![130, 4 << 10, 16 << 10, 33 << 10, 256 << 10],
            seconds: 45.0,
            cores: [0, 1],
        };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} wants a value"))?;
            let wrong = |error: &dyn std::fmt::Display| format!("{name} {value}: {error}");
            let number = |text: &str| text.parse::<usize>().map_err(|error| wrong(&error));
            match &*name {
                "--connections" => plan.connections = number(&value)?,
                "--sizes" => plan.sizes = value.split(',').map(number).collect::<Result<_, _>>()?,
                "--seconds" => plan.seconds = value.parse().map_err(|error| wrong(&error))?,
                "--server-core" => plan.cores[0] = number(&value)?,
                "--client-core" => plan.cores[1] = number(&value)?,
                _ => return Err(format!("there is no {name}; see the head of benches/sends.rs")),
            }
        }
        if let Some(size) = plan
            .sizes
            .iter()
            .find(|size| !(HEADER + 1..=SOCKET_BUFFER / 2).contains(*size))
        {
            return Err(format!(
                "--sizes {size}: not between {} and {}",
                HEADER + 1,
                SOCKET_BUFFER / 2
            ));
        }
        if !(1..=8192).contains(&plan.connections) {
            return Err(format!("--connections {}: not between 1 and 8192", plan.connections));
        }
        Ok(plan)
    }
}

/// How an entry says what to send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Send,
    Write,
    WriteFixed,
    SendMsg,
    SendVectorized,
    ZeroCopy,
    ZeroCopyFixed,
    Provided,
    Bundle,
}

/// Flags of io_uring_setup(2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum SetUp {
    None,
    Coop,
    CoopSingle,
    CoopSingleDefer,
    NoArray,
    KernelThread,
}

/// Everything that one row of the table differs in from another.
#[derive(Clone, Copy)]
struct Shape {
    operation: Operation,
    set_up: SetUp,
    /// Direct descriptors, not plain ones.
    fixed_files: bool,
    /// A success posts no completion.
    silent: bool,
    /// `MSG_WAITALL`.
    whole: bool,
    /// Entries per submission.
    batch: usize,
}

/// What the driver does.
const BY_HAND: Shape = Shape {
    operation: Operation::Send,
    set_up: SetUp::CoopSingleDefer,
    fixed_files: true,
    silent: true,
    whole: true,
    batch: 1024,
};

/// By hand, but with another operation. Those with buffers that the kernel keeps or picks have to tell about each.
const fn other(operation: Operation, silent: bool) -> Shape {
    Shape {
        operation,
        silent,
        ..BY_HAND
    }
}

/// By hand, but on another ring.
const fn on(set_up: SetUp) -> Shape {
    Shape { set_up, ..BY_HAND }
}

/// Those rows of the table that are rings of our own.
#[rustfmt::skip]
const SHAPES: [(&str, Shape); 23] = [
    ("by hand", BY_HAND),
    ("by hand, 64 a submission", Shape { batch: 64, ..BY_HAND }),
    ("by hand, 8 a submission", Shape { batch: 8, ..BY_HAND }),
    ("by hand, 1 a submission", Shape { batch: 1, ..BY_HAND }),
    ("a completion for each", Shape { silent: false, ..BY_HAND }),
    ("without MSG_WAITALL", Shape { whole: false, ..BY_HAND }),
    ("plain descriptors", Shape { fixed_files: false, ..BY_HAND }),
    ("plain descriptors, a completion for each", Shape { fixed_files: false, silent: false, ..BY_HAND }),
    ("ring set-up: no DEFER_TASKRUN", on(SetUp::CoopSingle)),
    ("ring set-up: nor SINGLE_ISSUER", on(SetUp::Coop)),
    ("ring set-up: no flag", on(SetUp::None)),
    ("ring set-up: no flag, plain, a completion for each", Shape { set_up: SetUp::None, fixed_files: false, silent: false, ..BY_HAND }),
    ("ring set-up: also NO_SQARRAY", on(SetUp::NoArray)),
    ("ring set-up: SQPOLL, both threads", on(SetUp::KernelThread)),
    ("write", other(Operation::Write, true)),
    ("write, registered memory", other(Operation::WriteFixed, true)),
    ("two pieces, sendmsg", other(Operation::SendMsg, true)),
    ("two pieces, SEND_VECTORIZED", other(Operation::SendVectorized, true)),
    ("zero copy, SEND_ZC", other(Operation::ZeroCopy, false)),
    ("zero copy, SEND_ZC, registered memory", other(Operation::ZeroCopyFixed, false)),
    ("provided buffers, one group", other(Operation::Provided, true)),
    ("provided buffers, one group, a completion for each", other(Operation::Provided, false)),
    ("provided buffers, bundle, a completion for each", other(Operation::Bundle, false)),
];

/// A row of the table: its name, and what sends or why nothing does.
type Row = (&'static str, Result<Box<dyn Sender>, String>);

/// A connection that did not take everything.
struct Rest {
    connection: usize,
    /// Octets, or a negated errno.
    result: i32,
}

/// A way of sending.
trait Sender {
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

/// What the broker uses.
struct Driver {
    ring: Ring,
    payload: &'static [u8],
    slots: Vec<u32>,
    completions: Vec<Completion>,
}

impl Sender for Driver {
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

/// send(2), one after the other.
struct Calls {
    sockets: Rc<[TcpStream]>,
    payload: &'static [u8],
    /// `MSG_ZEROCOPY`, or none.
    flags: i32,
    notifications: u64,
    copied: u64,
    unsettled: Vec<usize>,
}

impl Sender for Calls {
    fn send(&mut self, size: usize, rests: &mut Vec<Rest>) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | self.flags;
        for (connection, socket) in self.sockets.iter().enumerate() {
            let result = match SockRef::from(socket).send_with_flags(&self.payload[..size], flags) {
                Ok(sent) => sent as i32,
                Err(error) => -error.raw_os_error().expect("send fails with an errno"),
            };
            if result != size as i32 {
                rests.push(Rest { connection, result });
            }
            if self.flags != 0 && result > 0 {
                self.unsettled.push(connection);
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(connection) = self.unsettled.last() {
            match notification(&self.sockets[*connection]) {
                Ok(copied) => {
                    self.unsettled.pop();
                    self.notifications += 1;
                    self.copied += u64::from(copied);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn remark(&self) -> Option<String> {
        copies(self.notifications, self.copied)
    }
}

fn copies(notifications: u64, copied: u64) -> Option<String> {
    (notifications > 0).then(|| {
        let share = copied as f64 / notifications as f64 * 100.0;
        format!("{share:.0} % of the notifications say that the octets were copied after all")
    })
}

/// Takes one `MSG_ZEROCOPY` notification off the error queue: were the octets copied?
fn notification(socket: &TcpStream) -> io::Result<bool> {
    /// `struct cmsghdr` and `struct sock_extended_err`, and room for the address behind it.
    #[repr(C, align(8))]
    struct Control {
        header: libc::cmsghdr,
        error: libc::sock_extended_err,
        rest: [u8; 64],
    }
    // SAFETY: a structure of integers and one of integers and null pointers: zeroes are values of both.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: `message` names no memory but `control`, with its length, and both outlive the call.
    let received = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &mut message,
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
        )
    };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(control.error.ee_code == ZEROCOPY_COPIED)
}

/// Rings of provided buffers, one behind the other. Never freed: the kernel may know them as long as the process lives.
struct Groups {
    /// The first entry of the first ring; every ring starts on a page.
    memory: NonNull<u8>,
    /// Entries of each, a power of two.
    entries: u16,
    tails: Vec<u16>,
}

impl Groups {
    /// Makes `count` rings, and tells `uring` of them as groups 0 and up.
    fn register(uring: &IoUring, count: usize, entries: u16, flags: u16) -> io::Result<Groups> {
        let groups = Groups {
            memory: pages(count * Groups::stride(entries)),
            entries,
            tails: vec![0; count],
        };
        for group in 0..count {
            // SAFETY: the ring's memory starts on a page, is long enough for its entries, all zeroes, and never freed.
            unsafe {
                uring.submitter().register_buf_ring_with_flags(
                    groups.ring(group).as_ptr() as u64,
                    entries,
                    group as u16,
                    flags,
                )
            }?;
        }
        Ok(groups)
    }

    /// Octets from one ring to the next.
    fn stride(entries: u16) -> usize {
        (usize::from(entries) * size_of::<BufRingEntry>()).next_multiple_of(PAGE)
    }

    fn ring(&self, group: usize) -> NonNull<BufRingEntry> {
        assert!(group < self.tails.len());
        // SAFETY: the allocation holds as many rings as there are tails.
        unsafe { self.memory.add(group * Groups::stride(self.entries)) }.cast()
    }

    /// Offers `buffer`, of `len` octets, as the next of its group, under the name `id`. A group never has more than its
    /// entries on offer.
    fn offer(&mut self, group: usize, id: u16, buffer: *const u8, len: usize) {
        let (ring, tail) = (self.ring(group), &mut self.tails[group]);
        // SAFETY: the index is below `entries`; the kernel reads no entry between the tail and the head, and only this
        // thread writes them. The tail is two octets in the first entry that are shared by atomic access alone.
        let shared = unsafe {
            let entry = ring.add(usize::from(*tail & (self.entries - 1))).as_mut();
            entry.set_addr(buffer as u64);
            entry.set_len(len as u32);
            entry.set_bid(id);
            AtomicU16::from_ptr(BufRingEntry::tail(ring.as_ptr()).cast_mut())
        };
        *tail = tail.wrapping_add(1);
        shared.store(*tail, Ordering::Release);
    }
}

/// Zeroed memory that starts on a page and is never freed.
fn pages(octets: usize) -> NonNull<u8> {
    let layout = std::alloc::Layout::from_size_align(octets, PAGE).expect("below the size of the memory");
    // SAFETY: nobody asks for no memory at all: counts of rings and of buffers are at least one.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
}

/// What an entry can point at, for one size.
struct Described {
    pieces: [libc::iovec; 2],
    message: libc::msghdr,
}

/// A ring of our own.
struct ByHand {
    uring: IoUring,
    shape: Shape,
    descriptors: Vec<RawFd>,
    /// Keeps the descriptors open.
    _sockets: Rc<[TcpStream]>,
    payload: &'static [u8],
    /// For each size that was sent.
    described: Vec<(usize, &'static Described)>,
    groups: Option<Groups>,
    /// `schedstat` of the kernel thread.
    helper: Option<String>,
    /// Sends whose buffer the kernel still holds.
    held: usize,
    notifications: u64,
    copied: u64,
}

impl ByHand {
    fn new(shape: Shape, sockets: Rc<[TcpStream]>, payload: &'static [u8], core: usize) -> io::Result<ByHand> {
        let uring = ring(shape.set_up, core)?;
        let descriptors: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        if shape.fixed_files {
            uring.submitter().register_files(&descriptors)?;
        }
        if matches!(shape.operation, Operation::WriteFixed | Operation::ZeroCopyFixed) {
            let memory = libc::iovec {
                iov_base: payload.as_ptr().cast_mut().cast(),
                iov_len: payload.len(),
            };
            // SAFETY: the octets live as long as the process, and the ring only reads them.
            unsafe { uring.submitter().register_buffers(&[memory]) }?;
        }
        let groups = match shape.operation {
            Operation::Provided => Some((1, descriptors.len().next_power_of_two() as u16)),
            Operation::Bundle => Some((descriptors.len(), 2)),
            _ => None,
        };
        Ok(ByHand {
            groups: groups
                .map(|(count, entries)| Groups::register(&uring, count, entries, 0))
                .transpose()?,
            helper: match shape.set_up {
                SetUp::KernelThread => Some(kernel_thread()?),
                _ => None,
            },
            uring,
            shape,
            descriptors,
            _sockets: sockets,
            payload,
            described: Vec::new(),
            held: 0,
            notifications: 0,
            copied: 0,
        })
    }

    fn describe(&mut self, size: usize) -> &'static Described {
        if let Some((_, described)) = self.described.iter().find(|(known, _)| *known == size) {
            return described;
        }
        let (header, payload) = self.payload[..size].split_at(HEADER);
        let piece = |octets: &[u8]| libc::iovec {
            iov_base: octets.as_ptr().cast_mut().cast(),
            iov_len: octets.len(),
        };
        let described: &'static mut Described = Box::leak(Box::new(Described {
            pieces: [piece(header), piece(payload)],
            // SAFETY: a structure of integers and pointers; zeroes are "no address, no control message".
            message: unsafe { std::mem::zeroed() },
        }));
        described.message.msg_iov = described.pieces.as_mut_ptr();
        described.message.msg_iovlen = described.pieces.len();
        self.described.push((size, described));
        described
    }

    /// The entry that sends `described`, in all `size` octets, to `connection`.
    fn entry(&mut self, connection: usize, size: usize, described: &'static Described) -> squeue::Entry {
        macro_rules! to {
            ($operation:ident $(, $argument:expr)*) => {
                match self.shape.fixed_files {
                    true => opcode::$operation::new(Fixed(connection as u32) $(, $argument)*),
                    false => opcode::$operation::new(Fd(self.descriptors[connection]) $(, $argument)*),
                }
            };
        }
        let (start, len) = (self.payload.as_ptr(), size as u32);
        let whole = if self.shape.whole { libc::MSG_WAITALL } else { 0 };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | whole;
        match self.shape.operation {
            Operation::Send => to!(Send, start, len).flags(flags).build(),
            Operation::Write => to!(Write, start, len).rw_flags(libc::RWF_NOWAIT).build(),
            Operation::WriteFixed => to!(WriteFixed, start, len, 0).rw_flags(libc::RWF_NOWAIT).build(),
            Operation::SendMsg => to!(SendMsg, &raw const described.message).flags(flags as u32).build(),
            Operation::SendVectorized => to!(Send, described.pieces.as_ptr().cast(), 2)
                .flags(flags)
                .ioprio(SEND_VECTORIZED)
                .build(),
            Operation::ZeroCopy => to!(SendZc, start, len).flags(flags).zc_flags(REPORT_USAGE).build(),
            Operation::ZeroCopyFixed => to!(SendZc, start, len)
                .flags(flags)
                .zc_flags(REPORT_USAGE)
                .buf_index(Some(0))
                .build(),
            Operation::Provided => {
                let groups = self.groups.as_mut().expect("made for this operation");
                groups.offer(0, connection as u16, start, size);
                // The entry's group is 0 where it says nothing.
                to!(Send, std::ptr::null(), 0)
                    .flags(flags)
                    .build()
                    .flags(squeue::Flags::BUFFER_SELECT)
            }
            Operation::Bundle => {
                let groups = self.groups.as_mut().expect("made for this operation");
                groups.offer(connection, 0, start, size);
                to!(SendBundle, connection as u16).flags(flags).build()
            }
        }
    }

    fn harvest(&mut self, size: usize, rests: &mut Vec<Rest>) {
        for entry in self.uring.completion() {
            let (result, flags) = (entry.result(), entry.flags());
            if cqueue::notif(flags) {
                self.held -= 1;
                self.notifications += 1;
                self.copied += u64::from(result == COPIED);
                continue;
            }
            self.held += usize::from(cqueue::more(flags));
            if result != size as i32 {
                rests.push(Rest {
                    connection: entry.user_data() as usize,
                    result,
                });
            }
        }
    }
}

impl Sender for ByHand {
    fn send(&mut self, size: usize, rests: &mut Vec<Rest>) -> io::Result<()> {
        let described = self.describe(size);
        let (count, batch) = (self.descriptors.len(), self.shape.batch);
        let by_thread = self.shape.set_up == SetUp::KernelThread;
        for start in (0..count).step_by(batch) {
            let end = count.min(start + batch);
            for connection in start..end {
                let entry = self.entry(connection, size, described).user_data(connection as u64);
                // The kernel thread works in order: the last of a batch tells that it is through with it.
                let entry = match self.shape.silent && !(by_thread && connection + 1 == end) {
                    true => entry.flags(squeue::Flags::SKIP_SUCCESS),
                    false => entry,
                };
                // SAFETY: all that an entry points at, payload, pieces, message and buffer rings, lives as long as the
                // process, and nobody writes to it while a send is under way.
                unsafe { self.uring.submission().push(&entry) }.expect("a batch is no longer than the queue");
            }
            let wanted = if by_thread { 1 } else { 0 };
            self.uring.submitter().submit_and_wait(wanted)?;
            self.harvest(size, rests);
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        let mut rests = Vec::new();
        let timeout = Timespec::from(PATIENCE);
        while self.held > 0 {
            let args = SubmitArgs::new().timespec(&timeout);
            self.uring.submitter().submit_with_args(self.held, &args)?;
            self.harvest(0, &mut rests);
            assert!(rests.is_empty(), "every send has had its completion before");
        }
        Ok(())
    }

    fn helper_time(&self) -> io::Result<Duration> {
        self.helper.as_deref().map_or(Ok(Duration::ZERO), time_on_processor)
    }

    fn remark(&self) -> Option<String> {
        copies(self.notifications, self.copied)
    }
}

/// A ring like the driver's, but for its flags.
fn ring(set_up: SetUp, core: usize) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_submit_all().setup_clamp().setup_cqsize(16_384);
    match set_up {
        SetUp::None => &mut builder,
        SetUp::Coop => builder.setup_coop_taskrun(),
        SetUp::CoopSingle => builder.setup_coop_taskrun().setup_single_issuer(),
        SetUp::CoopSingleDefer => builder.setup_coop_taskrun().setup_single_issuer().setup_defer_taskrun(),
        SetUp::NoArray => builder
            .setup_coop_taskrun()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_no_sqarray(),
        // Falls asleep after a millisecond, so that it does not spin through the other methods' turns.
        SetUp::KernelThread => builder.setup_sqpoll(1).setup_sqpoll_cpu(core as u32),
    };
    builder.build(BY_HAND.batch as u32)
}

/// The `schedstat` of the kernel thread of the one ring that has one. It takes its name when it first runs.
fn kernel_thread() -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for task in std::fs::read_dir("/proc/self/task")? {
            let path = task?.path();
            if std::fs::read_to_string(path.join("comm"))?.starts_with("iou-sqp-") {
                return Ok(format!("{}/schedstat", path.display()));
            }
        }
        // It runs on this core.
        thread::sleep(Duration::from_millis(1));
    }
    Err(io::Error::other("the kernel thread is not among the process's"))
}

/// The first number of a `schedstat`: nanoseconds on a processor.
fn time_on_processor(schedstat: &str) -> io::Result<Duration> {
    let text = std::fs::read_to_string(schedstat)?;
    let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
    first
        .map(Duration::from_nanos)
        .ok_or_else(|| io::Error::other(format!("{schedstat} has no number")))
}

/// Both ends of a connection over loopback, with room for the largest send.
fn pair(listener: &TcpListener) -> io::Result<[TcpStream; 2]> {
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(PATIENCE))?;
        SockRef::from(end).set_send_buffer_size(SOCKET_BUFFER)?;
        SockRef::from(end).set_recv_buffer_size(SOCKET_BUFFER)?;
    }
    Ok([server, client])
}

/// So many connections, as their servers' and their clients' ends.
fn pairs(listener: &TcpListener, count: usize) -> Result<(Vec<TcpStream>, Vec<TcpStream>), String> {
    let pairs: io::Result<Vec<_>> = (0..count).map(|_| pair(listener)).collect();
    let pairs = pairs.map_err(|error| format!("cannot open {count} connections: {error}"))?;
    Ok(pairs.into_iter().map(|[server, client]| (server, client)).unzip())
}

/// A driver's ring that holds `sockets`, and their slots.
fn driver(
    sockets: impl IntoIterator<Item = TcpStream, IntoIter: ExactSizeIterator>,
) -> Result<(Ring, Vec<u32>), String> {
    let sockets = sockets.into_iter();
    let config = Config {
        slots: sockets.len() as u32,
        ..Config::default()
    };
    let mut ring = Ring::new(&config).map_err(|error| error.to_string())?;
    let slots: io::Result<Vec<u32>> = sockets.map(|socket| ring.install(OwnedFd::from(socket))).collect();
    Ok((ring, slots.map_err(|error| error.to_string())?))
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

/// What the server has of the connections, whoever sends.
struct Peers {
    sockets: Rc<[TcpStream]>,
    control: TcpStream,
    expected: Arc<AtomicU64>,
    payload: &'static [u8],
}

/// How a turn ended.
enum Turn {
    /// Microseconds of processor time per send, or per unit of what was received.
    Cost(f64),
    /// Why it cannot be had.
    Refused(String),
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

/// Rounds of one method, the first of them to warm the caches: the mean cost of the others, each being `units` many.
fn turn(units: usize, mut round: impl FnMut() -> io::Result<Result<Duration, String>>) -> io::Result<Turn> {
    let (mut rounds, mut cost, mut begun) = (0, Duration::ZERO, None);
    loop {
        match (round()?, begun) {
            (Err(why), _) => return Ok(Turn::Refused(why)),
            (Ok(_), None) => begun = Some(Instant::now()),
            (Ok(time), Some(since)) => {
                rounds += 1;
                cost += time;
                if since.elapsed() >= TURN {
                    return Ok(Turn::Cost(cost.as_secs_f64() * 1e6 / (rounds * units) as f64));
                }
            }
        }
    }
}

/// One row's figures of one column.
#[derive(Default)]
struct Figures {
    /// By rotation.
    costs: Vec<f64>,
    refused: Option<String>,
}

/// Lets all of `turns` take turns for `seconds`. The first is what the others are compared with.
fn rotate(seconds: f64, count: usize, mut turn: impl FnMut(usize) -> io::Result<Turn>) -> Result<Vec<Figures>, String> {
    // Always in the same order: every row's connections have then been idle for the same time, which TCP's acknowledgements
    // depend on.
    let mut figures: Vec<Figures> = (0..count).map(|_| Figures::default()).collect();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut rotation = 0;
    while rotation < LEAST_ROTATIONS || Instant::now() < until {
        for (row, figures) in figures.iter_mut().enumerate() {
            if figures.refused.is_some() {
                continue;
            }
            match turn(row).map_err(|error| format!("row {row}: {error}"))? {
                Turn::Cost(cost) => figures.costs.push(cost),
                Turn::Refused(why) => figures.refused = Some(why),
            }
        }
        rotation += 1;
    }
    Ok(figures)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 if middle == 0 => f64::NAN,
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// A Markdown table of `columns`, whose first row the ratios are to.
fn print(head: &str, rows: &[(String, Option<String>)], columns: &[(String, Vec<Figures>)]) {
    let heads: Vec<&str> = columns.iter().map(|(head, _)| &**head).collect();
    println!("\n| {head} | {} |", heads.join(" | "));
    println!("|---|{}", "--:|".repeat(columns.len()));
    let mut notes = Vec::new();
    for (row, (name, remark)) in rows.iter().enumerate() {
        print!("| {name} |");
        for (_, figures) in columns {
            let (ours, base) = (&figures[row], &figures[0]);
            if let Some(why) = &ours.refused {
                print!(" – |");
                let note = format!("{name}: {why}");
                if !notes.contains(&note) {
                    notes.push(note);
                }
                continue;
            }
            let ratios = ours.costs.iter().zip(&base.costs).map(|(ours, base)| ours / base);
            print!(" {:.2} ({:.2}) |", median(ours.costs.clone()), median(ratios.collect()));
        }
        println!();
        notes.extend(remark.iter().map(|remark| format!("{name}: {remark}")));
    }
    if let Some((head, figures)) = columns.first() {
        notes.push(format!("rotations: {}, of {head}", figures[0].costs.len()));
    }
    println!(
        "\n{}",
        notes.iter().map(|note| format!("- {note}\n")).collect::<String>()
    );
}

fn sends(plan: &Plan, seconds: f64) -> Result<(), String> {
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
        Ok(Box::new(Driver {
            ring,
            payload,
            slots,
            completions: Vec::new(),
        })),
    )];
    for (name, flags) in [("send(2)", 0), ("zero copy, send(2) MSG_ZEROCOPY", libc::MSG_ZEROCOPY)] {
        let calls = Calls {
            sockets: Rc::clone(&sockets),
            payload,
            flags,
            notifications: 0,
            copied: 0,
            unsettled: Vec::new(),
        };
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
    print("µs per send (ratio to the driver's)", &rows, &columns);
    drop((senders, peers, sockets));
    client.join().map_err(|_| "the client failed")?
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

fn allow_zero_copy(socket: &TcpStream) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that outlives the call, as the option wants it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn receives(plan: &Plan, seconds: f64) -> Result<(), String> {
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
        print("receiving (ratio to by hand)", &rows, &columns);
        drop(control);
        client.join().map_err(|_| "the client failed")?
    })
}

fn main() -> Result<(), String> {
    let plan = Plan::from_arguments()?;
    pin_to_core(plan.cores[0]).map_err(|error| format!("core {}: {error}", plan.cores[0]))?;
    // As much time for both columns of receiving as for one of sending.
    let share = plan.seconds / (plan.sizes.len() + 1) as f64;
    sends(&plan, plan.seconds - share)?;
    receives(&plan, share)
}

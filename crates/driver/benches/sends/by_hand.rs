//! Sending on a ring of our own: the same entries as the driver writes, or others.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::PATIENCE;
use crate::buffers::Groups;
use crate::ring::{SetUp, kernel_thread, ring, time_on_processor};
use crate::sending::{Rest, Sender, copies};

/// Octets that are sent apart from the rest: a server's frame header.
pub(crate) const HEADER: usize = 4;
/// `IORING_SEND_VECTORIZED`: address and length of the entry are those of an array of `iovec`. Since Linux 6.17.
const SEND_VECTORIZED: u16 = 1 << 5;
/// `IORING_SEND_ZC_REPORT_USAGE`: the notification says whether the octets were copied.
const REPORT_USAGE: u16 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`, in a notification's result.
const COPIED: i32 = i32::MIN;

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

/// Everything that one row of the table differs in from another.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    operation: Operation,
    pub(crate) set_up: SetUp,
    /// Direct descriptors, not plain ones.
    fixed_files: bool,
    /// A success posts no completion.
    silent: bool,
    /// `MSG_WAITALL`.
    whole: bool,
    /// Entries per submission.
    pub(crate) batch: usize,
}

/// What the driver does.
pub(crate) const BY_HAND: Shape = Shape {
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
pub(crate) const SHAPES: [(&str, Shape); 23] = [
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

/// What an entry can point at, for one size.
struct Described {
    pieces: [libc::iovec; 2],
    message: libc::msghdr,
}

/// A ring of our own.
pub(crate) struct ByHand {
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
    pub(crate) fn new(
        shape: Shape,
        sockets: Rc<[TcpStream]>,
        payload: &'static [u8],
        core: usize,
    ) -> io::Result<ByHand> {
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

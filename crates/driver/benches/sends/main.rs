//! Which way of sending pays: one buffer handed to each of N TCP connections, in every way this kernel offers.
//!
//! ```text
//!   server core   one send to each connection, timed ──────▶ wait ──▶ the next round, by and by in every way
//!                      │ N times the same octets              ▲ one octet: all read
//!   client core   ─────▼──── reads all N connections ─────────┘
//! ```
//!
//! The methods take turns, all on the same connections, so what else the machine does hits them alike. The first round
//! of a turn warms the caches and is not counted. What counts is the processor time of the thread that sends, from the
//! first entry written to the last buffer known to be free again; waiting for the client does not. Over loopback that
//! includes the receiver's half of TCP, which the kernel runs inside the send: the same few microseconds for all.
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
//! - *driver*: [`Driver::turn`]. Up to 1,024 `IORING_OP_SEND` entries a submission, fixed files, `MSG_DONTWAIT |
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
//!
//! # Where to start reading
//!
//! [`sending`] and [`receiving`] make one table each. The senders other than the driver are [`by_hand`], with its rows of
//! the table, on a [`ring`] with provided [`buffers`], and [`calls`]; [`connections`] are what all of them work on. How
//! rows take turns is [`rotation`], and what comes of it a [`table`].
//!
//! [`Driver::turn`]: tidecast_driver::Driver::turn

mod buffers;
mod by_hand;
mod calls;
mod connections;
mod receiving;
mod ring;
mod rotation;
mod sending;
mod table;

use std::time::Duration;

use tidecast_driver::pin_to_core;

use crate::by_hand::HEADER;
use crate::connections::SOCKET_BUFFER;

/// How long anything may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to do.
pub(crate) struct Plan {
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
                _ => return Err(format!("there is no {name}; see the head of benches/sends/main.rs")),
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

fn main() -> Result<(), String> {
    let plan = Plan::from_arguments()?;
    pin_to_core(plan.cores[0]).map_err(|error| format!("core {}: {error}", plan.cores[0]))?;
    // As much time for both columns of receiving as for one of sending.
    let share = plan.seconds / (plan.sizes.len() + 1) as f64;
    sending::sends(&plan, plan.seconds - share)?;
    receiving::receives(&plan, share)
}

//! A ring in the ways it can be set up.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::IoUring;

use crate::PATIENCE;
use crate::by_hand::BY_HAND;

/// Flags of io_uring_setup(2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetUp {
    None,
    Coop,
    CoopSingle,
    CoopSingleDefer,
    NoArray,
    KernelThread,
}

/// A ring like the driver's, but for its flags.
pub(crate) fn ring(set_up: SetUp, core: usize) -> io::Result<IoUring> {
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
pub(crate) fn kernel_thread() -> io::Result<String> {
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
pub(crate) fn time_on_processor(schedstat: &str) -> io::Result<Duration> {
    let text = std::fs::read_to_string(schedstat)?;
    let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
    first
        .map(Duration::from_nanos)
        .ok_or_else(|| io::Error::other(format!("{schedstat} has no number")))
}

//! What the system says of this process.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the system says of this process; nothing where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// Memory that is resident, in bytes.
    pub(crate) resident: Option<u64>,
    /// Descriptors that are open.
    pub(crate) descriptors: Option<u64>,
    /// Descriptors that may be.
    pub(crate) most_descriptors: Option<u64>,
    /// Processor time that was used, in seconds.
    pub(crate) processor: Option<f64>,
}

impl Process {
    pub(crate) fn look() -> Process {
        let status = fs::read_to_string("/proc/self/status").ok();
        let resident = status.as_deref().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kibibytes * 1024)
        });
        Process {
            resident,
            descriptors: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
            most_descriptors: tidecast_driver::descriptor_limit().ok(),
            processor: processor_time(),
        }
    }
}

/// The processor time of all threads, in seconds.
fn processor_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // USER_HZ, which is part of the kernel's interface and 100 everywhere.
    Some((user + system) as f64 / 100.0)
}

/// The time, in seconds since 1970.
pub(crate) fn unix_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::look();
        assert!(process.resident.is_some_and(|bytes| bytes > 100_000), "{process:?}");
        assert!(process.descriptors.is_some_and(|count| count >= 3), "{process:?}");
        assert!(process.most_descriptors >= process.descriptors, "{process:?}");
        assert!(process.processor.is_some(), "{process:?}");
    }
}

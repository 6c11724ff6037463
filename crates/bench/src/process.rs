//! What the kernel says about the broker's processes.

use std::io;
use std::time::Duration;

/// Processor time and memory of processes at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// User and system time of all their threads, those that ended included.
    pub(crate) cpu: Duration,
    /// Memory in RAM, in bytes.
    pub(crate) resident: u64,
}

/// The unit of times in `/proc`, whatever frequency the kernel was built with: part of its ABI on every architecture
/// this runs on.
const TICK: Duration = Duration::from_millis(10);

impl Sample {
    /// Of several processes together, now; of none if there are none to look at.
    ///
    /// # Errors
    /// The process that cannot be looked at, and why.
    pub(crate) fn of(pids: &[u32]) -> Result<Option<Sample>, (u32, io::Error)> {
        let mut sum = Sample::default();
        for &pid in pids {
            let sample = Sample::take(pid).map_err(|error| (pid, error))?;
            sum.cpu += sample.cpu;
            sum.resident += sample.resident;
        }
        Ok((!pids.is_empty()).then_some(sum))
    }

    /// Of process `pid` of this machine, now.
    ///
    /// # Errors
    /// There is no such process, or it may not be looked at.
    fn take(pid: u32) -> io::Result<Sample> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        parse(&read("stat")?, &read("status")?)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat or /proc/{pid}/status is not as documented")))
    }
}

fn parse(stat: &str, status: &str) -> Option<Sample> {
    // The second field is the program's name in parentheses, which may hold anything, parentheses included.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    // Not every process has memory: none for a zombie.
    let resident = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0);
    Some(Sample {
        cpu: TICK * user + TICK * system,
        resident: resident * 1024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_found_behind_a_name_with_anything_in_it() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 1234 0 0 0 250 75 0 0 20 0 3 0 100 1000 200 184467";
        let sample = parse(stat, "Name:\ta\nVmPeak:\t  9 kB\nVmRSS:\t    2048 kB\n").unwrap();
        assert_eq!(
            sample,
            Sample {
                cpu: Duration::from_millis(3_250),
                resident: 2 << 20
            }
        );
        assert_eq!(parse("42 (zombie", ""), None);
    }

    #[test]
    fn this_very_process_has_memory_and_no_process_has_the_number_zero() {
        assert!(Sample::take(std::process::id()).unwrap().resident > 0);
        assert!(Sample::take(0).is_err());
    }

    #[test]
    fn several_processes_are_measured_together_and_the_one_that_is_missing_is_named() {
        let this = std::process::id();
        let one = Sample::of(&[this]).unwrap().unwrap();
        let twice = Sample::of(&[this, this]).unwrap().unwrap();
        assert!(twice.cpu >= one.cpu * 2 && twice.resident > one.resident);
        assert_eq!(Sample::of(&[]).unwrap(), None);
        assert_eq!(Sample::of(&[this, 0]).unwrap_err().0, 0);
    }
}

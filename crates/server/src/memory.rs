//! The memory that this process may use.

use std::fs;

/// Octets of the machine, or of the control group that the process runs in, if that may use less; none if neither tells.
pub(crate) fn memory() -> Option<usize> {
    let read = |path: &str| fs::read_to_string(path).ok();
    // In a container the group's own files are at the root of what is mounted.
    let group = read("/sys/fs/cgroup/memory.max").or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    least(&read("/proc/meminfo")?, group.as_deref())
}

fn least(meminfo: &str, group: Option<&str>) -> Option<usize> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|total| total.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    // A group without a limit says `max`.
    let group = group.and_then(|group| group.trim().parse().ok());
    [total.map(|kib| kib.saturating_mul(1024)), group]
        .into_iter()
        .flatten()
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_machine_and_control_group_counts() {
        let meminfo = "MemTotal:       16384 kB\nMemFree:        5 kB\n";
        for (meminfo, group, expected) in [
            (meminfo, None, Some(16 << 20)),
            (meminfo, Some("max\n"), Some(16 << 20)),
            (meminfo, Some("1048576\n"), Some(1 << 20)),
            (meminfo, Some("9223372036854771712"), Some(16 << 20)),
            ("", Some("4096"), Some(4096)),
            ("", None, None),
        ] {
            assert_eq!(least(meminfo, group), expected, "{group:?}");
        }
        assert!(memory().is_some_and(|memory| memory > 1 << 20));
    }
}

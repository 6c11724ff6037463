//! What a run took place on.

use std::fs;

/// The machine and the software that numbers mean little without.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Machine {
    /// The version of the generator.
    pub generator: String,
    /// Why its connections were driven by epoll, which takes more of its time, if they were.
    pub without_io_uring: Option<String>,
    /// The release of the kernel.
    pub kernel: String,
    /// The processor, in its own words.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The system's TCP congestion control.
    pub congestion_control: String,
}

impl Machine {
    /// This one. What the kernel does not tell is empty.
    pub(crate) fn this() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Machine {
            generator: format!("tidecast {}", env!("CARGO_PKG_VERSION")),
            without_io_uring: None,
            kernel: read("/proc/sys/kernel/osrelease"),
            processor: processor(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
        }
    }
}

fn processor(cpuinfo: &str) -> String {
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    };
    cpuinfo.lines().find_map(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_by_its_model() {
        assert_eq!(
            processor("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n"),
            "Fast CPU @ 3 GHz"
        );
        assert_eq!(processor(""), "");
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_core() {
        let machine = Machine::this();
        assert!(!machine.kernel.is_empty() && machine.cores > 0, "{machine:?}");
    }
}

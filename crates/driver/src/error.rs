//! Why a driver cannot be set up, and what an operator can do about it.

use std::fmt;
use std::io;

/// What this system says about io_uring, gathered to explain a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemFacts {
    /// The kernel's release, `6.18.44` for example.
    pub release: String,
    /// `kernel.io_uring_disabled`: 0 open, 1 for one group only, 2 off; `None` where the kernel has no such switch.
    pub io_uring_disabled: Option<u32>,
    /// A seccomp filter is in force for this process.
    pub seccomp: bool,
    /// `RLIMIT_MEMLOCK` in bytes; `None` is unlimited.
    pub locked_memory: Option<u64>,
}

impl SystemFacts {
    /// Reads them from this system; what cannot be read is left out.
    pub fn read() -> SystemFacts {
        let line = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let status = line("/proc/self/status").unwrap_or_default();
        let limits = line("/proc/self/limits").unwrap_or_default();
        SystemFacts {
            release: line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            io_uring_disabled: line("/proc/sys/kernel/io_uring_disabled").and_then(|value| value.parse().ok()),
            seccomp: status
                .lines()
                .find_map(|line| line.strip_prefix("Seccomp:"))
                .is_some_and(|mode| mode.trim() == "2"),
            locked_memory: limits
                .lines()
                .find_map(|line| line.strip_prefix("Max locked memory"))
                .and_then(|line| line.split_whitespace().next()?.parse().ok()),
        }
    }
}

/// What a driver cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    /// The first kernel that has it.
    pub(crate) since: &'static str,
}

pub(crate) const RING: Feature = Feature {
    name: "io_uring",
    since: "5.1",
};
pub(crate) const DEFERRED_TASK_RUN: Feature = Feature {
    name: "io_uring with SINGLE_ISSUER, COOP_TASKRUN and DEFER_TASKRUN",
    since: "6.1",
};
pub(crate) const DIRECT_DESCRIPTORS: Feature = Feature {
    name: "direct descriptors (a sparse registered file table)",
    since: "5.19",
};
pub(crate) const BUFFER_RING: Feature = Feature {
    name: "provided-buffer rings (IORING_REGISTER_PBUF_RING)",
    since: "5.19",
};
pub(crate) const SILENT_SUCCESS: Feature = Feature {
    name: "completions skipped on success (IORING_FEAT_CQE_SKIP)",
    since: "5.17",
};

pub(crate) const EPOLL: Feature = Feature {
    name: "epoll",
    since: "2.6.27",
};

/// A driver cannot be set up on this system. The message names the feature, the kernel and the remedy.
#[derive(Debug)]
pub struct SetupError {
    pub(crate) feature: Feature,
    pub(crate) source: io::Error,
    pub(crate) facts: SystemFacts,
}

impl SetupError {
    pub(crate) fn new(feature: Feature, source: io::Error) -> SetupError {
        SetupError {
            feature,
            source,
            facts: SystemFacts::read(),
        }
    }

    /// Whether io_uring is what is missing: the kernel is too old, somebody has forbidden it, or it would take more memory
    /// than is allowed.
    pub fn is_missing(&self) -> bool {
        let errno = self.source.raw_os_error();
        self.feature != EPOLL
            && matches!(
                errno,
                Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOMEM)
            )
    }

    fn remedy(&self) -> String {
        let Feature { name, since } = self.feature;
        let release = &self.facts.release;
        match self.source.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => "too many descriptors are open: raise RLIMIT_NOFILE with `ulimit -n` or LimitNOFILE= in a \
                 systemd unit, or lower the number of connections"
                .to_owned(),
            _ if self.feature == EPOLL => format!("{name} was refused on Linux {release}"),
            Some(libc::EPERM | libc::EACCES) => match self.facts.io_uring_disabled {
                Some(2) => "kernel.io_uring_disabled is 2, which switches io_uring off for everybody: allow it with \
                     `sysctl -w kernel.io_uring_disabled=0` (and in /etc/sysctl.d to keep it)"
                    .to_owned(),
                Some(1) => "kernel.io_uring_disabled is 1, which leaves io_uring to CAP_SYS_ADMIN and to one group: allow it \
                     with `sysctl -w kernel.io_uring_disabled=0`, or put this user into the group of kernel.io_uring_group"
                    .to_owned(),
                _ => seccomp_remedy(self.facts.seccomp),
            },
            Some(libc::ENOSYS) if self.facts.seccomp => seccomp_remedy(true),
            Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP) => {
                format!("{name} needs Linux {since} or later, tidecast as a whole 6.1 or later: this is {release}")
            }
            Some(libc::ENOMEM) => {
                let limit = match self.facts.locked_memory {
                    Some(bytes) => format!("{} KiB", bytes / 1024),
                    None => "unlimited".to_owned(),
                };
                format!(
                    "the kernel has no memory for it: it counts rings against RLIMIT_MEMLOCK, which is {limit} here (raise it \
                     with `ulimit -l` or LimitMEMLOCK= in a systemd unit); otherwise memory is short, or the control \
                     group's limit is reached"
                )
            }
            _ => format!("{name} was refused on Linux {release}"),
        }
    }
}

fn seccomp_remedy(filtered: bool) -> String {
    let cause = if filtered {
        "a seccomp profile is in force and most likely blocks it, as the default ones of Docker and containerd do"
    } else {
        "the kernel refused it though no seccomp profile is in force: a security module may forbid it"
    };
    format!(
        "{cause}: allow the system calls io_uring_setup, io_uring_enter and io_uring_register (Docker: \
         `--security-opt seccomp=profile.json` with those three added; Kubernetes: a Localhost seccompProfile; systemd: \
         `SystemCallFilter=@aio`)"
    )
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not available on Linux {}: {}. {}",
            self.feature.name,
            self.facts.release,
            self.source,
            self.remedy()
        )
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(feature: Feature, errno: i32, facts: SystemFacts) -> String {
        SetupError {
            feature,
            source: io::Error::from_raw_os_error(errno),
            facts,
        }
        .to_string()
    }

    fn facts(release: &str) -> SystemFacts {
        SystemFacts {
            release: release.to_owned(),
            io_uring_disabled: Some(0),
            seccomp: false,
            locked_memory: Some(65536),
        }
    }

    #[test]
    fn every_refusal_names_the_feature_the_kernel_and_the_way_out() {
        let disabled = |value| SystemFacts {
            io_uring_disabled: Some(value),
            ..facts("6.8.0")
        };
        let filtered = SystemFacts {
            seccomp: true,
            ..facts("6.8.0")
        };
        let table: [(Feature, i32, SystemFacts, &[&str]); 10] = [
            (RING, libc::ENOSYS, facts("4.19.0"), &["io_uring", "5.1", "4.19.0"]),
            (
                DEFERRED_TASK_RUN,
                libc::EINVAL,
                facts("5.15.0"),
                &["DEFER_TASKRUN", "6.1", "5.15.0"],
            ),
            (
                BUFFER_RING,
                libc::EINVAL,
                facts("5.10.0"),
                &["provided-buffer rings", "5.19", "5.10.0"],
            ),
            (
                RING,
                libc::EPERM,
                disabled(2),
                &["kernel.io_uring_disabled is 2", "sysctl -w"],
            ),
            (
                RING,
                libc::EPERM,
                disabled(1),
                &["kernel.io_uring_disabled is 1", "io_uring_group"],
            ),
            (
                RING,
                libc::EPERM,
                filtered.clone(),
                &["seccomp", "io_uring_setup", "--security-opt"],
            ),
            (RING, libc::ENOSYS, filtered, &["seccomp", "io_uring_enter"]),
            (
                RING,
                libc::ENOMEM,
                facts("5.10.0"),
                &["RLIMIT_MEMLOCK", "64 KiB", "LimitMEMLOCK"],
            ),
            (RING, libc::EMFILE, facts("6.8.0"), &["RLIMIT_NOFILE", "LimitNOFILE"]),
            (EPOLL, libc::ENFILE, facts("4.19.0"), &["epoll", "RLIMIT_NOFILE"]),
        ];
        for (feature, errno, facts, words) in table {
            let message = message(feature, errno, facts);
            for word in words {
                assert!(message.contains(word), "{word:?} is missing in: {message}");
            }
        }
    }

    #[test]
    fn io_uring_is_missing_where_another_driver_could_do_better() {
        let is_missing = |feature, errno| {
            let source = io::Error::from_raw_os_error(errno);
            SetupError::new(feature, source).is_missing()
        };
        for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM] {
            assert!(is_missing(RING, errno) && !is_missing(EPOLL, errno), "{errno}");
        }
        assert!(is_missing(DEFERRED_TASK_RUN, libc::EINVAL));
        assert!(
            !is_missing(RING, libc::EMFILE),
            "nothing else would have a descriptor either"
        );
    }

    #[test]
    fn the_facts_of_this_system_can_be_read() {
        let facts = SystemFacts::read();
        assert!(facts.release.contains('.'), "{facts:?}");
    }
}

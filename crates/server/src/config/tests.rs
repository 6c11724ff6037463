use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use tidecast_websocket::Millis;

use super::*;

/// A file of settings that is gone at the end of the test.
struct Written(PathBuf);

impl Written {
    fn new(text: &str) -> Written {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidecast-config-{}-{number}.toml", std::process::id()));
        std::fs::File::create(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        Written(path)
    }

    fn sources(&self) -> Sources {
        Sources {
            file: Some(self.0.clone()),
            ..Sources::default()
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn load(text: &str) -> Result<Loaded, String> {
    let file = Written::new(text);
    let name = file.0.display().to_string();
    file.sources()
        .load()
        .map_err(|error| error.to_string().replace(&name, "FILE"))
}

fn machine() -> Machine {
    Machine {
        cores: vec![2, 5],
        descriptors: 20_000,
        memory: Some(16 << 30),
        driver: tidecast_driver::Kind::IoUring,
    }
}

fn resolve(text: &str) -> Result<Resolved, String> {
    load(text)?.resolve(&machine(), "").map_err(|error| error.to_string())
}

#[test]
fn every_setting_has_one_name_over_all_sections_and_says_what_it_does() {
    let mut names = HashSet::new();
    for meta in SECTIONS.iter().flat_map(|section| section.metas) {
        assert!(names.insert(meta.name), "{} is there twice", meta.name);
    }
    for meta in SECTIONS.iter().chain(LISTS).flat_map(|section| section.metas) {
        assert!(meta.doc.trim().len() > 10, "{}", meta.name);
    }
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let file = Written::new("[limits]\nmax_message = 1\nmax_pending = 1\nmax_topic = 1\nmax_levels = 1");
    let mut sources = file.sources();
    sources.environment = [
        ("TIDECAST_MAX_PENDING", "2"),
        ("TIDECAST_MAX_TOPIC", "2"),
        ("HOME", "/"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec();
    sources.flags = vec![("max_topic", vec!["3".to_owned()]), ("pin", vec![])];
    let loaded = sources.load().unwrap();
    let limits = &loaded.config.limits;
    let read = (
        limits.max_message,
        limits.max_pending,
        limits.max_topic,
        limits.max_levels,
    );
    assert_eq!(read, (1, 2, 3, 1));
    assert!(!loaded.config.server.pin, "its flag is --no-pin");
    assert_eq!(
        loaded.place("max_pending"),
        Some(&Place::Variable("TIDECAST_MAX_PENDING".to_owned()))
    );
    assert_eq!(loaded.place("max_topic").unwrap().to_string(), "--max-topic 3");
    assert_eq!(loaded.place("slow"), None);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn everything_wrong_with_a_file_is_told_with_its_line_and_what_to_give() {
    let text = "\
[server]
listen = [\"localhost\"]

[limits]
max_mesage = 5
max_message = \"5X\"
slow = \"drop\"
compression = 1
max_head = 10

[listener]
[[listeners]]
origins = [\"example.com\"]
[nonsense]
";
    let error = load(text).unwrap_err();
    let said: Vec<_> = error.lines().map(str::trim).collect();
    for expected in [
        "FILE:2:10: server.listen: \"localhost\" is no address: give IP:PORT",
        "FILE:5:1: limits.max_mesage: there is no such setting; the nearest is max_message",
        "FILE:6:15: limits.max_message: give bytes as a whole number",
        "FILE:7:8: limits.slow: give one of close, drop-new, drop-old, latest",
        "FILE:8:1: limits.compression: this belongs below [websocket]",
        "FILE:9:12: limits.max_head: 10 is out of range: give 1KiB to 16MiB",
        "FILE:11:2: listener: there is no such section; the nearest is listeners",
        "FILE:12:1: listeners: this table needs the key address",
        "FILE:13:11: listeners.origins: ",
        "FILE:14:2: nonsense: there is no such section (`tidecast config example` lists all)",
    ] {
        assert!(
            said.iter().any(|line| line.starts_with(expected)),
            "{expected}\nis not in\n{error}"
        );
    }
    assert_eq!(said.len(), 10, "{error}");
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let error = load("[limits]\nmax_message = = 3").unwrap_err();
    assert!(error.starts_with("FILE:2:15: this is no TOML: "), "{error}");
    let error = load("a = 1\n[limits").unwrap_err();
    assert!(error.contains("FILE:2:"), "{error}");
    assert!(
        load("max_message = 1")
            .unwrap_err()
            .contains("this belongs below [limits]")
    );
    assert!(load("limits = 1").unwrap_err().contains("write [limits]"));
    assert!(
        load("[listeners]\naddress = \"127.0.0.1:1\"")
            .unwrap_err()
            .contains("[[listeners]]")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_its_name() {
    let sources = Sources {
        file: Some("/nonexistent/tidecast.toml".into()),
        ..Sources::default()
    };
    let error = sources.load().unwrap_err().to_string();
    assert!(error.contains("/nonexistent/tidecast.toml: cannot read"), "{error}");
}

#[test]
fn a_variable_that_is_no_setting_is_warned_of_and_a_bad_value_refused() {
    let environment = |name: &str, value: &str| Sources {
        environment: vec![(name.into(), value.into())],
        ..Sources::default()
    };
    let loaded = environment("TIDECAST_MAX_MESAGE", "1").load().unwrap();
    let warning = loaded.warnings[0].to_string();
    assert!(
        warning.contains("TIDECAST_MAX_MESAGE: ") && warning.contains("TIDECAST_MAX_MESSAGE)"),
        "{warning}"
    );
    assert!(environment("TIDECAST_CONFIG", "x").load().unwrap().warnings.is_empty());
    let error = environment("TIDECAST_SLOW", "never").load().unwrap_err().to_string();
    assert!(error.starts_with("TIDECAST_SLOW: give one of close"), "{error}");
}

#[test]
fn the_example_is_read_as_the_defaults() {
    let example = example();
    let sections = example.split("\n# [[").next().unwrap();
    let uncommented: String = sections
        .lines()
        .map(|line| {
            let is_setting = line.split_once(" = ").is_some_and(|(name, value)| {
                !name[1..].trim().contains(' ') && line.starts_with("# ") && !value.starts_with('<')
            });
            format!("{}\n", if is_setting { &line[2..] } else { line })
        })
        .collect();
    let loaded = load(&uncommented).unwrap();
    assert_eq!(format!("{:?}", loaded.config), format!("{:?}", Config::default()));
    for section in SECTIONS.iter().chain(LISTS) {
        assert!(example.contains(&format!("[{}]", section.name)));
        for meta in section.metas {
            assert!(example.contains(&format!("\n# {} = ", meta.name)), "{}", meta.name);
        }
    }
    assert!(
        example.lines().all(|line| line.chars().count() <= 120),
        "lines fit a screen"
    );
}

#[test]
fn what_is_shown_is_read_as_the_same() {
    let text = "\
[server]
listen = [\"127.0.0.1:1\", \"[::1]:2\"]
workers = 3
pin = false
[limits]
max_message = \"64K\"
slow = \"drop-old\"
[[listeners]]
address = \"127.0.0.1:3\"
origins = [\"https://*.example.com\"]
";
    let loaded = load(text).unwrap();
    let shown = loaded.show();
    assert!(
        shown.contains("max_message = \"64KiB\"") && shown.contains(":6:15: limits.max_message"),
        "{shown}"
    );
    let again = load(&shown).unwrap();
    assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config));
}

#[test]
fn every_flag_gives_the_value_that_its_default_says() {
    for flag in flags() {
        let Some(default) = flag.default.filter(|_| flag.meta.shape != Shape::Switch) else {
            continue;
        };
        let sources = Sources {
            flags: vec![(flag.name, vec![default.clone()])],
            ..Sources::default()
        };
        let loaded = sources
            .load()
            .unwrap_or_else(|error| panic!("--{} {default}: {error}", flag.flag));
        assert_eq!(
            format!("{:?}", loaded.config),
            format!("{:?}", Config::default()),
            "--{}",
            flag.flag
        );
    }
}

#[test]
fn what_is_left_open_follows_the_machine() {
    let resolved = resolve("").unwrap();
    assert_eq!(resolved.cores, [Some(2), Some(5)]);
    assert_eq!(resolved.worker.max_connections, 20_000);
    let resolved = resolve("[server]\nworkers = 3\n[timeouts]\nping_interval = 0").unwrap();
    assert_eq!(resolved.cores, [Some(2), Some(5), Some(2)]);
    assert_eq!(resolved.worker.timing.ping_interval, Millis::NEVER);
    assert_eq!(resolve("[server]\npin = false").unwrap().cores, [None, None]);
}

#[test]
fn tables_of_listeners_stand_alone_or_beside_the_simple_ones() {
    let table = "[[listeners]]\naddress = \"127.0.0.1:3\"\norigins = \"*\"\n";
    let resolved = resolve(table).unwrap();
    assert_eq!(resolved.listeners, ["127.0.0.1:3".parse().unwrap()]);
    assert_eq!(*resolved.worker.listeners[0].origins, [Origin::Any]);
    let both = resolve(&format!("[server]\nlisten = \"127.0.0.1:1\"\n{table}")).unwrap();
    assert_eq!(both.listeners.len(), 2);
    assert_eq!(
        *both.worker.listeners[0].origins,
        [Origin::SameAddress, Origin::Localhost]
    );
}

#[test]
fn what_does_not_fit_together_is_refused_where_it_was_written() {
    for (text, expected) in [
        ("[server]\nlisten = []", "server.listen: there is no address"),
        (
            "[server]\nlisten = [\"127.0.0.1:80\", \"127.0.0.1:80\"]",
            "127.0.0.1:80 is given twice",
        ),
        (
            "[websocket]\nversions = [13, 5]",
            "websocket.versions: 5 is not spoken: give some of 13, 8, 7, 6",
        ),
        ("[websocket]\nversions = []", "there is none"),
        (
            "[limits]\nmax_connections_per_worker = 30000",
            "limits.max_connections_per_worker: a ring's file table may not be larger",
        ),
        (
            "[server]\nlisten = [\"127.0.0.1:80\", \"127.0.0.2:80\"]\n[limits]\nmax_connections_per_worker = 1",
            "limits.max_connections_per_worker: a worker holds a place for each listener, which are 2: give 2 at least",
        ),
    ] {
        let error = resolve(text).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let flags = Sources {
        flags: vec![("max_connections_per_worker", vec!["30000".to_owned()])],
        ..Sources::default()
    };
    let error = flags.load().unwrap().resolve(&machine(), "").unwrap_err().to_string();
    assert!(
        error.starts_with("--max-connections-per-worker 30000: a ring's"),
        "{error}"
    );
}

#[test]
fn with_epoll_workers_share_the_descriptors_that_listeners_and_others_leave() {
    let resolve = |text: &str, descriptors| {
        let machine = Machine {
            descriptors,
            driver: tidecast_driver::Kind::Epoll,
            ..machine()
        };
        load(text)?.resolve(&machine, "").map_err(|error| error.to_string())
    };
    let two = |descriptors| resolve("[server]\nworkers = 2", descriptors);
    assert_eq!(two(20_000).unwrap().worker.max_connections, (20_000 - 192 - 2 * 3) / 2);
    // A hook takes some too, and so does every listener.
    let asking =
        "[server]\nworkers = 2\nlisten = [\"127.0.0.1:80\", \"127.0.0.2:80\"]\n[hook]\nhook_url = \"http://a/\"";
    assert_eq!(
        resolve(asking, 20_000).unwrap().worker.max_connections,
        (20_000 - 192 - 2 * 4 - 64) / 2
    );
    assert_eq!(two(u64::MAX).unwrap().worker.max_connections, 1 << 17);
    let error = two(128).unwrap_err();
    assert!(error.contains("workers") && error.contains("LimitNOFILE"), "{error}");
    let error = resolve("[limits]\nmax_connections_per_worker = 10000", 20_000).unwrap_err();
    assert!(error.contains("leaves 9901 for each of 2 workers"), "{error}");
}

#[test]
fn more_connections_than_there_is_room_for_are_warned_about() {
    let warnings = |text: &str| resolve(text).unwrap().warnings;
    assert_eq!(warnings("[limits]\nmax_connections = 40000"), []);
    let warning = &warnings("[limits]\nmax_connections = 40001")[0].to_string();
    assert!(
        warning.contains("limits.max_connections: there is room for 40000 only, 20000 at each of 2 workers"),
        "{warning}"
    );
    let few = "[limits]\nmax_connections = 1000\nmax_connections_per_worker = 100";
    assert!(warnings(few)[0].message.contains("room for 200 only"));
}

#[test]
fn values_out_of_range_are_refused_by_their_range() {
    for text in [
        "server]\nworkers = 257",
        "server]\nworkers = 0",
        "server]\nmailbox_messages = 0",
        "server]\nflush_delay = 1",
        "websocket]\ncompression = 10",
        "limits]\nmax_message = 0",
        "limits]\nmax_message = \"257M\"",
        "limits]\nmax_pending = 0",
        "limits]\nmax_head = 100",
        "limits]\nmax_connections = 0",
        "limits]\nmax_topic = 0",
        "timeouts]\nclose_timeout = 0",
    ] {
        let error = load(&format!("[{text}")).unwrap_err();
        assert!(error.contains("out of range: give "), "{text}: {error}");
    }
}

#[test]
fn a_reload_keeps_what_cannot_change_and_names_it() {
    let old = load("[server]\nworkers = 2\n[limits]\nmax_message = 5").unwrap().config;
    let mut new = load("[server]\nworkers = 3\n[limits]\nmax_message = 6\n[timeouts]\nping_interval = 1")
        .unwrap()
        .config;
    assert_eq!(new.keep_fixed(&old), ["workers"]);
    assert_eq!(new.server.workers, Some(2));
    assert_eq!(new.limits.max_message, 6);
    assert_eq!(new.timeouts.ping_interval, Duration::from_secs(1));
    assert!(new.clone().keep_fixed(&new).is_empty());
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(text in "([a-z_]{1,12}|\\[\\[?[a-z]{1,10}\\]\\]?|[ =\"\\n,.0-9{}\\[\\]#é]){0,60}") {
        crate::fuzzing::config(text.as_bytes());
    }

    #[test]
    fn what_is_read_is_written_so_that_it_is_read_again(
        message in 1usize..1 << 28,
        pending in 1usize..1 << 30,
        seconds in 0u64..100_000,
        topic in "[a-z/\"\\\\é]{1,20}",
        switch in any::<bool>(),
    ) {
        let topic = super::kind::quoted(&topic);
        let text = format!(
            "[limits]\nmax_message = {message}\nmax_pending = {pending}\n[timeouts]\nidle_timeout = {seconds}\n[server]\n\
             pin = {switch}\n[[topics]]\npattern = {topic}\ncompress = {switch}\n"
        );
        crate::fuzzing::config(text.as_bytes());
    }
}

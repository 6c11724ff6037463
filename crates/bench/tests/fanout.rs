//! Whole runs against small servers in this process, honest ones and dishonest ones: what the generator says about a broker
//! has to be believable in both cases.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidecast_bench::{Error, Extent, Load, Plan, Progress, Protocol, Report, Scenario, Version, run};
use tidecast_websocket::http::Request;
use tidecast_websocket::{Connection, Event, Input, Limits, Millis, Opcode, Upgrade, Versions, encode_frame};
use tidecast_wire::{Command, json};

/// What a server does with the messages it is given.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Faithful,
    /// Keeps every tenth message to itself.
    Lossy,
    /// Delivers each tenth message after the one that follows it.
    Reordering,
    /// Delivers every tenth message twice.
    Duplicating,
    /// Closes a subscriber with 4000 after a hundred messages.
    Closing,
    /// Delivers nothing.
    Deaf,
    /// Answers no handshake.
    Silent,
    /// Refuses every handshake.
    Refusing,
    /// Delivers also what nobody published.
    Chatty,
    /// Pings between deliveries.
    Pinging,
    /// Says nothing once the connection is open.
    Mute,
}

struct Server {
    manner: Manner,
    subscribers: Mutex<Vec<Arc<Mutex<TcpStream>>>>,
    messages: AtomicU64,
    /// What is delivered after the next message.
    held_back: Mutex<Option<Vec<u8>>>,
}

/// Starts a server and gives its URL. Its threads end with their connections.
fn serve(manner: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = Arc::new(Server {
        manner,
        subscribers: Mutex::default(),
        messages: AtomicU64::new(0),
        held_back: Mutex::default(),
    });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let server = Arc::clone(&server);
            std::thread::spawn(move || server.connection(stream.unwrap()));
        }
    });
    url
}

impl Server {
    fn connection(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let (mut buffer, mut received) = (vec![0; 1 << 16], Vec::new());
        let (mut connection, json, subscribes, mut rest) = loop {
            let count = stream.read(&mut buffer).unwrap_or(0);
            if count == 0 {
                return;
            }
            received.extend_from_slice(&buffer[..count]);
            match self.manner {
                Manner::Silent => continue,
                Manner::Refusing => {
                    let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nfull");
                    return;
                }
                _ => {}
            }
            if let Some((request, head)) = Request::parse(&received, 4096).unwrap() {
                let upgrade = Upgrade::from_request(&request, Versions::ALL).unwrap();
                let mut response = Vec::new();
                upgrade.write_response(upgrade.protocols().next(), &mut response);
                stream.write_all(&response).unwrap();
                let connection = Connection::server(upgrade.version(), Limits::default(), Millis(0));
                let subscribes = request.query().any(|pair| pair == ("mode", "sub"));
                break (
                    connection,
                    request.path() == "/ws",
                    subscribes,
                    received[head..].to_vec(),
                );
            }
        };
        let shared = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        if subscribes {
            self.subscribers.lock().unwrap().push(Arc::clone(&shared));
        }
        if json {
            let mut hello = Vec::new();
            json::hello(&mut hello, "s", 1 << 20, 25_000);
            write(&shared, connection.version(), Opcode::Text, &hello);
        }
        let version = connection.version();
        loop {
            let (mut out, mut deliveries, mut closed) = (Vec::new(), Vec::new(), false);
            let mut input = Input::new(&mut rest);
            while let Some(event) = connection.poll(&mut input, Millis(0), &mut out).unwrap() {
                match event {
                    Event::Binary(payload) => self.publish(payload, &mut |payload| {
                        encode_frame(version, Opcode::Binary, payload, None, &mut deliveries);
                    }),
                    Event::Text(text) => match json::parse(text).unwrap() {
                        Command::Sub { reference, .. } => {
                            self.subscribers.lock().unwrap().push(Arc::clone(&shared));
                            let mut ok = Vec::new();
                            json::ok(&mut ok, &reference.unwrap(), None);
                            encode_frame(version, Opcode::Text, &ok, None, &mut out);
                        }
                        Command::Pub { topic, payload, .. } => self.publish(&payload.bytes, &mut |bytes| {
                            let mut message = Vec::new();
                            json::message(&mut message, &topic, payload.kind, bytes, None);
                            encode_frame(version, Opcode::Text, &message, None, &mut deliveries);
                        }),
                        other => panic!("{other:?}"),
                    },
                    Event::Close { .. } => closed = true,
                    Event::Ping(_) | Event::Pong(_) | Event::TextPart { .. } | Event::BinaryPart { .. } => {}
                }
            }
            // One lock for the whole fan-out, so that all subscribers see one order.
            let subscribers = self.subscribers.lock().unwrap();
            if !deliveries.is_empty() && self.manner != Manner::Deaf {
                for subscriber in subscribers.iter() {
                    let _ = subscriber.lock().unwrap().write_all(&deliveries);
                }
            }
            drop(subscribers);
            let mut stream = shared.lock().unwrap();
            if self.manner != Manner::Mute {
                let _ = stream.write_all(&out);
            }
            if closed {
                let _ = stream.shutdown(Shutdown::Write);
            }
            drop(stream);
            let mut reader = match self.reader(&shared) {
                Some(reader) => reader,
                None => return,
            };
            match reader.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => rest = buffer[..count].to_vec(),
            }
        }
    }

    /// The same socket, to be read without the lock that writers take.
    fn reader(&self, stream: &Mutex<TcpStream>) -> Option<TcpStream> {
        stream.lock().unwrap().try_clone().ok()
    }

    fn publish(&self, payload: &[u8], deliver: &mut dyn FnMut(&[u8])) {
        let number = self.messages.fetch_add(1, Ordering::Relaxed) + 1;
        let tenth = number.is_multiple_of(10);
        match self.manner {
            Manner::Lossy if tenth => return,
            Manner::Reordering if tenth => {
                *self.held_back.lock().unwrap() = Some(payload.to_vec());
                return;
            }
            Manner::Duplicating if tenth => deliver(payload),
            Manner::Chatty if tenth => deliver(b"\"good morning, everybody, this is not what was published\""),
            Manner::Pinging if tenth => {
                for subscriber in self.subscribers.lock().unwrap().iter() {
                    write(subscriber, Version::V13, Opcode::Ping, b"still there?");
                }
            }
            Manner::Closing if number == 100 => {
                let subscriber = self.subscribers.lock().unwrap().pop().unwrap();
                write(&subscriber, Version::V13, Opcode::Close, b"\x0f\xa0slow consumer");
            }
            _ => {}
        }
        deliver(payload);
        if let Some(late) = self.held_back.lock().unwrap().take() {
            deliver(&late);
        }
    }
}

fn write(stream: &Mutex<TcpStream>, version: Version, opcode: Opcode, payload: &[u8]) {
    let mut frame = Vec::new();
    encode_frame(version, opcode, payload, None, &mut frame);
    let _ = stream.lock().unwrap().write_all(&frame);
}

fn plan(url: String) -> Plan {
    Plan {
        url,
        scenario: fanout(1, 20),
        load: Load::Window(8),
        extent: Extent::Count(500),
        stall: Duration::from_millis(300),
        open_timeout: Duration::from_secs(5),
        ..Plan::default()
    }
}

fn fanout(publishers: u32, subscribers: u32) -> Scenario {
    Scenario::Fanout {
        publishers,
        subscribers,
    }
}

fn report(plan: &Plan) -> Report {
    run(plan, |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

#[test]
fn an_honest_server_gets_a_good_report_whatever_the_plan() {
    let base = || plan(String::new());
    let table = [
        base(),
        Plan {
            topic: "two".into(),
            threads: count(2),
            scenario: fanout(3, 20),
            ..base()
        },
        Plan {
            topic: "more threads than publishers".into(),
            threads: count(3),
            ..base()
        },
        Plan {
            topic: "one at a time".into(),
            load: Load::Window(1),
            ..base()
        },
        Plan {
            topic: "rate".into(),
            load: Load::Rate(20_000.0),
            scenario: fanout(2, 20),
            ..base()
        },
        Plan {
            topic: "large".into(),
            size: 100_000,
            extent: Extent::Count(20),
            ..base()
        },
        Plan {
            topic: "small".into(),
            size: 24,
            ..base()
        },
        Plan {
            topic: "json".into(),
            protocol: Protocol::Json,
            threads: count(2),
            ..base()
        },
    ];
    for plan in table {
        // Each with a server of its own: the small server knows no topics.
        let plan = Plan {
            url: serve(Manner::Faithful),
            ..plan
        };
        let report = report(&plan);
        assert!(report.is_good(), "{}: {report}", plan.topic);
        let Extent::Count(messages) = plan.extent else {
            unreachable!()
        };
        let published = messages * u64::from(report.setup.publishers);
        assert_eq!(report.published, published, "{}", plan.topic);
        assert_eq!(report.deliveries, published * 20, "{}", plan.topic);
        assert_eq!(report.latency.samples, report.deliveries, "{}", plan.topic);
        assert_eq!(report.foreign, 0);
        let latency = report.latency;
        assert!(
            0.0 < latency.p50 && latency.p50 <= latency.p99 && latency.p99 <= latency.max,
            "{report}"
        );
        assert!(
            report.wire_megabytes_per_second > report.payload_megabytes_per_second,
            "{report}"
        );
    }
}

#[test]
fn every_version_of_websocket_is_spoken() {
    for version in Version::ALL {
        for protocol in [Protocol::Raw, Protocol::Json] {
            let plan = Plan {
                version,
                protocol,
                ..plan(serve(Manner::Faithful))
            };
            let report = report(&plan);
            assert!(report.is_good(), "version {version}: {report}");
            assert_eq!(report.deliveries, 500 * 20);
        }
    }
}

#[test]
fn more_bytes_at_once_than_there_are_buffers_all_arrive() {
    let plan = Plan {
        scenario: fanout(1, 100),
        size: 200_000,
        extent: Extent::Count(24),
        ..plan(serve(Manner::Faithful))
    };
    let report = report(&plan);
    assert!(report.is_good(), "{report}");
    assert_eq!(report.deliveries, 24 * 100);
}

#[test]
fn a_run_by_time_measures_its_span_and_the_server_process() {
    let plan = Plan {
        extent: Extent::Time {
            warmup: Duration::from_millis(100),
            measured: Duration::from_millis(400),
        },
        server_pids: vec![std::process::id()],
        ..plan(serve(Manner::Faithful))
    };
    let mut told = Vec::new();
    let report = run(&plan, |progress| told.push(progress)).unwrap();
    assert!(report.is_good(), "{report}");
    assert_eq!(report.seconds, 0.4);
    assert!(report.deliveries > 0 && report.published > 0);
    assert!(report.generator.cpu_seconds > 0.0);
    assert!(report.server.unwrap().resident_bytes > 0);
    let running = |progress: &Progress| matches!(progress, Progress::Running { .. });
    assert!(told.iter().any(running), "{told:?}");
}

#[test]
fn every_lost_delivery_is_counted_and_does_not_hold_the_run_up() {
    for protocol in [Protocol::Raw, Protocol::Json] {
        for threads in [1, 2] {
            let plan = Plan {
                protocol,
                threads: count(threads),
                ..plan(serve(Manner::Lossy))
            };
            let report = report(&plan);
            assert!(!report.is_good());
            assert_eq!(report.faults.lost, 50 * 20, "{report}");
            assert_eq!((report.faults.duplicated, report.faults.reordered), (0, 0));
            assert_eq!(report.published, 500);
        }
    }
}

#[test]
fn every_delivery_out_of_order_is_counted() {
    let report = report(&plan(serve(Manner::Reordering)));
    assert!(!report.is_good());
    // The last message is the fiftieth that is held back, for ever: that one is lost.
    assert_eq!((report.faults.reordered, report.faults.lost), (49 * 20, 20), "{report}");
}

#[test]
fn every_repeated_delivery_is_counted() {
    let report = report(&plan(serve(Manner::Duplicating)));
    assert!(!report.is_good());
    assert_eq!((report.faults.duplicated, report.faults.lost), (50 * 20, 0), "{report}");
}

#[test]
fn a_server_that_delivers_nothing_ends_the_run_and_everything_is_lost() {
    let report = report(&plan(serve(Manner::Deaf)));
    assert!(!report.is_good());
    assert_eq!((report.published, report.deliveries), (8, 0), "one window");
    assert_eq!(report.faults.lost, 8 * 20);
}

#[test]
fn a_subscriber_that_is_closed_is_an_error_that_names_code_and_reason() {
    let report = report(&plan(serve(Manner::Closing)));
    assert!(!report.is_good());
    assert!(
        report
            .errors
            .iter()
            .any(|error| error.contains("the server closed it with 4000 slow consumer")),
        "{report}"
    );
    assert!(report.faults.lost > 0, "what it did not get is lost: {report}");
}

#[test]
fn pings_between_deliveries_disturb_nothing() {
    for protocol in [Protocol::Raw, Protocol::Json] {
        let report = report(&Plan {
            protocol,
            ..plan(serve(Manner::Pinging))
        });
        assert!(report.is_good(), "{report}");
        assert_eq!(report.deliveries, 500 * 20);
    }
}

#[test]
fn messages_of_others_on_the_topic_are_counted_apart() {
    for protocol in [Protocol::Raw, Protocol::Json] {
        let report = report(&Plan {
            protocol,
            ..plan(serve(Manner::Chatty))
        });
        assert!(report.is_good(), "{report}");
        assert_eq!(report.foreign, 50 * 20);
    }
}

#[test]
fn a_server_without_room_fails_the_run_before_it_begins() {
    let error = run(&plan(serve(Manner::Refusing)), |_| {}).unwrap_err();
    assert!(
        matches!(&error, Error::Open { reason, .. } if reason.contains("503")),
        "{error}"
    );
    assert!(error.is_connect());
}

#[test]
fn a_server_that_answers_no_handshake_is_given_up() {
    let plan = Plan {
        open_timeout: Duration::from_millis(200),
        threads: count(2),
        ..plan(serve(Manner::Silent))
    };
    let error = run(&plan, |_| {}).unwrap_err();
    assert!(matches!(error, Error::OpenTimeout { open: 0, .. }), "{error}");
}

#[test]
fn nobody_at_the_address_is_told_with_what_to_do() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = run(&plan(format!("ws://{closed}")), |_| {}).unwrap_err();
    assert!(error.to_string().contains("is the broker running there"), "{error}");
    assert!(error.is_connect());
}

#[test]
fn a_plan_that_cannot_be_run_is_refused_before_anything_is_connected() {
    let error = run(
        &Plan {
            size: 1,
            ..plan("ws://127.0.0.1:1".into())
        },
        |_| {},
    )
    .unwrap_err();
    assert!(matches!(error, Error::Plan(_)), "{error}");
    let error = run(
        &Plan {
            server_pids: vec![0],
            ..plan("ws://127.0.0.1:1".into())
        },
        |_| {},
    )
    .unwrap_err();
    assert!(matches!(error, Error::Server { pid: 0, .. }), "{error}");
}

#[test]
fn what_is_taken_in_is_known_by_pongs_and_what_is_not_is_told() {
    let ingest = |manner, load| {
        report(&Plan {
            scenario: Scenario::Ingest { publishers: 3 },
            load,
            ..plan(serve(manner))
        })
    };
    for load in [Load::Window(1), Load::Window(100), Load::Rate(100_000.0)] {
        let report = ingest(Manner::Faithful, load.clone());
        let operations = report.operations.as_ref().unwrap();
        assert!(report.is_good(), "{load:?}: {report}");
        assert_eq!(
            (operations.count, report.published),
            (1_500, 1_500),
            "{load:?}: {report}"
        );
    }
    let report = ingest(Manner::Mute, Load::Window(100));
    assert!(!report.is_good(), "{report}");
    assert_eq!(report.operations.unwrap().unanswered, 300);
}

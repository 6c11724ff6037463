//! Every limit, reached and recovered from, while somebody else is served.

mod support;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use socket2::{Domain, Socket, Type};
use support::*;

const OTHER: &str = "127.0.0.9";

/// Connects from `source`, an address of the loopback.
fn connect_from(source: &str, to: SocketAddr) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: IpAddr = source.parse().unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Peer(stream)
}

/// The head that a request gets, or nothing if the connection is closed without one.
fn ask_head(mut peer: Peer, path: &str, headers: &str) -> Option<(Peer, String)> {
    peer.say(upgrade(path, &format!("Sec-WebSocket-Version: 13\r\n{headers}")).as_bytes());
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match peer.0.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    (!head.is_empty()).then(|| (peer, String::from_utf8(head).unwrap()))
}

/// Opens a WebSocket from `source`, unless the connection is refused.
fn open_from(source: &str, broker: &Broker) -> Option<Peer> {
    let (peer, head) = ask_head(connect_from(source, broker.address), "/t/a", "")?;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    Some(peer)
}

/// Whatever is said to the peer comes back to it.
fn is_served(peer: &mut Peer) {
    peer.say(&masked(0x81, b"still here"));
    peer.hears(b"\x81\x0astill here");
}

/// Reads frames until the broker's Close and gives what was said before, and its code.
fn until_close(peer: &mut Peer) -> (Vec<String>, u16) {
    let mut said = Vec::new();
    loop {
        let (first, payload) = peer.frame();
        if first == 0x88 {
            return (said, u16::from_be_bytes([payload[0], payload[1]]));
        }
        said.push(String::from_utf8_lossy(&payload).into_owned());
    }
}

/// Bytes of the process that are in memory.
fn resident(broker: &Broker) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn ten_thousand_connections_of_one_address_are_refused_while_another_is_served() {
    let broker = Broker::start(&["--max-connections-per-ip", "10", "--exempt", "192.0.2.0/24"]);
    let mut other = open_from(OTHER, &broker).expect("it has none yet");
    let mut open: Vec<Peer> = (0..10)
        .map(|_| open_from("127.0.0.2", &broker).expect("it may have ten"))
        .collect();
    for attempt in 0..10_000 {
        let refused = connect_from("127.0.0.2", broker.address).0.read(&mut [0]);
        assert!(
            matches!(&refused, Ok(0)) || matches!(&refused, Err(error) if error.kind() == ErrorKind::ConnectionReset),
            "{refused:?}"
        );
        if attempt % 1000 == 0 {
            is_served(&mut other);
        }
    }
    // Those that it has are left alone, and one that it gives up makes room.
    open.pop();
    let mut again = eventually("there is room for one more", || open_from("127.0.0.2", &broker));
    drop(other);
    is_served(&mut again);
    assert!(broker.stop().get("refused_address") >= 10_000);
}

#[test]
fn other_limits_are_taken_over_while_clients_stay() {
    let limits = |per_ip: u32, rate: u32| {
        format!("[limits]\nexempt = []\nmax_connections_per_ip = {per_ip}\nmessage_rate = {rate}\n")
    };
    let settings = Settings::new("reload-limits", &limits(1, 0));
    let broker = Broker::start(&["--config", settings.0.to_str().unwrap()]);
    let mut stays = open_from("127.0.0.2", &broker).expect("it may have one");
    assert!(open_from("127.0.0.2", &broker).is_none());
    fs::write(&settings.0, limits(2, 5)).unwrap();
    broker.signal("HUP");
    broker.line("configuration reloaded");
    let mut second = eventually("there is room for one more", || open_from("127.0.0.2", &broker));
    assert!(open_from("127.0.0.2", &broker).is_none());
    is_served(&mut second);
    stays.0.set_read_timeout(Some(DEADLINE)).unwrap();
    stays.say(&masked(0x81, b"x").repeat(50));
    assert_eq!(until_close(&mut stays).1, 4002);
}

#[test]
fn at_the_descriptor_limit_clients_wait_and_are_served_when_descriptors_return() {
    const ROOM: usize = 4;
    let broker = Broker::start(&["--driver", "epoll", "--workers", "1"]);
    let open: Vec<usize> = fs::read_dir(format!("/proc/{}/fd", broker.pid()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    // The limit is one of numbers, of which the lowest that is free is taken.
    let last = (0..).filter(|number| !open.contains(number)).nth(ROOM - 1).unwrap();
    let set = Command::new("prlimit")
        .args(["--pid", &broker.pid().to_string(), &format!("--nofile={}:", last + 1)])
        .status()
        .unwrap();
    assert!(set.success());
    let mut peers: Vec<Peer> = (0..3 * ROOM).map(|_| connect_from(OTHER, broker.address)).collect();
    eventually("there is no descriptor left", || {
        fs::symlink_metadata(format!("/proc/{}/fd/{last}", broker.pid())).ok()
    });
    for peer in &mut peers {
        peer.say(upgrade("/t/a", "Sec-WebSocket-Version: 13\r\n").as_bytes());
    }
    // In the order in which they came, as those before them leave.
    for mut peer in peers {
        assert!(peer.head().starts_with("HTTP/1.1 101 "));
        is_served(&mut peer);
    }
    assert_eq!(broker.stop().get("accepted"), 3 * ROOM as u64);
}

#[test]
fn the_loopback_is_exempt_unless_told_otherwise() {
    let broker = Broker::start(&["--max-connections-per-ip", "1"]);
    let open: Vec<_> = (0..5).map(|_| open_from("127.0.0.2", &broker)).collect();
    assert!(open.iter().all(Option::is_some));
}

#[test]
fn there_are_only_so_many_connections_in_all_and_newcomers_are_told_at_once() {
    let broker = Broker::start(&["--workers", "2", "--max-connections", "20"]);
    let mut open: Vec<Peer> = (0..20)
        .map(|_| open_from("127.0.0.1", &broker).expect("there is room"))
        .collect();
    for _ in 0..10 {
        assert!(open_from(OTHER, &broker).is_none());
    }
    is_served(&mut open[0]);
    open.truncate(1);
    let mut later = eventually("there is room again", || open_from(OTHER, &broker));
    drop(open);
    is_served(&mut later);
    assert!(broker.stop().get("refused_full") >= 10);
}

#[test]
fn an_address_that_connects_too_fast_has_to_wait_and_no_other() {
    let broker = Broker::start(&[
        "--connection-rate",
        "2",
        "--connection-burst",
        "5",
        "--exempt",
        "192.0.2.0/24",
    ]);
    // One after the other, each gone before the next comes.
    let began = Instant::now();
    let mut let_in = 0;
    while open_from("127.0.0.2", &broker).is_some() {
        let_in += 1;
        assert!(
            let_in < 5 + 2 * (1 + began.elapsed().as_secs()),
            "at most two a second after the burst"
        );
    }
    assert!(let_in >= 5, "{let_in} of a burst");
    assert!(open_from(OTHER, &broker).is_some());
    eventually("it may connect again", || open_from("127.0.0.2", &broker));
    assert!(broker.stop().get("refused_rate") >= 1);
}

#[test]
fn whom_a_trusted_proxy_names_is_limited_and_not_the_proxy() {
    let broker = Broker::start(&[
        "--max-connections-per-ip",
        "2",
        "--allow-anonymous",
        "--trusted-proxies",
        "127.0.0.0/24",
        "--exempt",
        "192.0.2.0/24",
    ]);
    let ask = |source: &str, client: &str| {
        let header = format!("X-Forwarded-For: 6.6.6.6, {client}\r\n");
        ask_head(connect_from(source, broker.address), "/t/a", &header)
    };
    let mut open = Vec::new();
    for client in ["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::ffff"] {
        for _ in 0..if client.contains(':') { 1 } else { 2 } {
            let (peer, head) = ask("127.0.0.2", client).unwrap();
            assert!(head.starts_with("HTTP/1.1 101 "), "{client}: {head}");
            open.push(peer);
        }
    }
    for client in ["203.0.113.1", "203.0.113.2", "2001:db8::2"] {
        let (_, head) = ask("127.0.0.2", client).unwrap();
        assert!(head.starts_with("HTTP/1.1 429 "), "{client}: {head}");
        assert!(head.contains("\r\nRetry-After: "), "{head}");
    }
    // Who is no proxy may say what it likes.
    let strangers: Vec<_> = ["203.0.113.8", "203.0.113.9"]
        .map(|client| ask("127.0.1.1", client))
        .into();
    assert!(
        strangers
            .iter()
            .flatten()
            .all(|(_, head)| head.starts_with("HTTP/1.1 101 "))
    );
    assert!(ask("127.0.1.1", "203.0.113.7").is_none());
    drop(open);
    eventually("there is room again", || {
        let (_, head) = ask("127.0.0.2", "203.0.113.1")?;
        head.starts_with("HTTP/1.1 101 ").then_some(())
    });
    assert!(broker.stop().get("refused_address") >= 4);
}

/// A file of settings, gone at the end of the test.
struct Settings(PathBuf);

impl Settings {
    fn new(name: &str, text: &str) -> Settings {
        let path = std::env::temp_dir().join(format!("tidecast-{name}-{}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        Settings(path)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn behind_a_proxy_that_passes_octets_on_its_header_names_the_client() {
    let settings = Settings::new(
        "proxy",
        "[auth]\nallow_anonymous = true\n[server]\ntrusted_proxies = [\"127.0.0.2\"]\n\
         [limits]\nmax_connections_per_ip = 2\n\
         [timeouts]\nhandshake_timeout = \"1s\"\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\nproxy = true\n",
    );
    let broker = Broker::start(&["--config", settings.0.to_str().unwrap(), "--workers", "1"]);
    let address: SocketAddr = eventually("the listener for proxies is there", || {
        let lines = broker.lines("listening on http://");
        let mut addresses = lines.iter().filter_map(|line| {
            let (address, _) = line.strip_prefix("listening on http://")?.split_once('/')?;
            address.parse().ok()
        });
        addresses.find(|address| *address != broker.address)
    });
    let connect = |source: &str, header: &[u8]| {
        let mut peer = connect_from(source, address);
        // One octet at a time, and then more than the header at once.
        for octet in header {
            peer.say(std::slice::from_ref(octet));
        }
        peer
    };
    let two = |client: [u8; 4]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10".to_vec();
        header.extend(client);
        header.extend(b"\x7f\0\0\x01\x12\x34\0\x50\x04\0\x01\xff");
        header
    };
    let one = |client: &str| format!("PROXY TCP4 {client} 127.0.0.1 4711 80\r\n").into_bytes();
    let mut open = Vec::new();
    for header in [
        two([203, 0, 113, 1]),
        one("203.0.113.1"),
        one("203.0.113.2"),
        b"PROXY UNKNOWN\r\n".to_vec(),
    ] {
        let (peer, head) = ask_head(connect("127.0.0.2", &header), "/t/a", "").expect("it is let in");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        open.push(peer);
    }
    is_served(&mut open[0]);
    assert!(ask_head(connect("127.0.0.2", &two([203, 0, 113, 1])), "/t/a", "").is_none());
    // Without a header, with a broken one, or from somebody else, there is nothing to be had; nor without end.
    assert!(ask_head(connect("127.0.0.2", b""), "/t/a", "").is_none());
    assert!(ask_head(connect("127.0.0.2", b"PROXY TCP4 x\r\n"), "/t/a", "").is_none());
    assert!(ask_head(connect("127.0.0.3", &one("203.0.113.3")), "/t/a", "").is_none());
    assert_eq!(connect("127.0.0.2", b"PROXY TCP4 ").0.read(&mut [0]).unwrap_or(0), 0);
    // On other listeners a header is no request.
    let mut plain = connect_from("127.0.0.2", broker.address);
    plain.say(&one("203.0.113.3"));
    assert!(plain.head().starts_with("HTTP/1.1 505 "));
    let totals = broker.stop();
    assert_eq!(totals.get("refused_proxy"), 3);
    assert_eq!(totals.get("refused_address"), 1);
    assert_eq!(totals.get("requests_timed_out"), 1);
}

#[test]
fn a_client_that_says_too_much_is_refused_then_closed_and_one_that_pauses_is_heard_again() {
    let broker = Broker::start(&["--message-rate", "20", "--message-burst", "40"]);
    let mut hasty = json_client(&broker);
    for _ in 0..60 {
        hasty.queue_text(r#"["ping"]"#).unwrap();
    }
    hasty.flush().unwrap();
    let answers: Vec<String> = (0..60).map(|_| text(&mut hasty)).collect();
    let pongs = answers.iter().filter(|answer| *answer == r#"["pong"]"#).count();
    assert!((40..60).contains(&pongs), "{pongs} of a burst of 40");
    let refused = answers.iter().find(|answer| answer.contains("rate_limited")).unwrap();
    assert!(refused.starts_with(r#"["err",null,"rate_limited","#), "{refused}");
    eventually("it is heard again", || {
        (ask(&mut hasty, r#"["ping"]"#) == r#"["pong"]"#).then_some(())
    });

    let mut flooder = Peer::open(&broker, "/ws", 13);
    flooder.frame();
    flooder.say(&masked(0x81, br#"["ping"]"#).repeat(2_000));
    let (said, code) = until_close(&mut flooder);
    assert_eq!(code, 4002);
    assert!(said.last().unwrap().starts_with(r#"["bye",4002,"#), "{said:?}");
    assert!(said.len() < 300, "it is not answered for ever: {}", said.len());
    flooder.rest();

    let mut raw = Peer::open(&broker, "/t/a?mode=pub", 13);
    raw.say(&masked(0x81, b"x").repeat(100));
    assert_eq!(until_close(&mut raw).1, 4002);
    let totals = broker.stop();
    assert_eq!(totals.get("flooders"), 2);
    assert!(totals.get("rate_limited") >= 100);
}

#[test]
fn an_identity_is_limited_wherever_it_connects_from() {
    // The hashes are those of `alice-token` and `bob-token`.
    let settings = Settings::new(
        "identity",
        r##"
        [limits]
        max_connections_per_identity = 2
        identity_message_rate = 20
        [[tokens]]
        hash = "sha256:9c220f200955d76c0a38d308225e0ef10c5f971acaf2f8d1d8f732affa5bd1dc"
        identity = "alice"
        publish = ["#"]
        subscribe = ["#"]
        [[tokens]]
        hash = "sha256:97dd3707015dcf069cf73022ed7173b1165db6eff24b441cb57fd069a8c4e525"
        identity = "bob"
        publish = ["#"]
        subscribe = ["#"]
        "##,
    );
    let broker = Broker::start(&["--config", settings.0.to_str().unwrap()]);
    let connect = |source: &str, token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        ask_head(connect_from(source, broker.address), "/ws", &header).expect("it is answered")
    };
    let open = |source: &str, token: &str| {
        let (mut peer, head) = connect(source, token);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let (_, hello) = peer.frame();
        assert!(hello.starts_with(b"[\"hello\""));
        peer
    };
    let mut alice = [open("127.0.0.2", "alice-token"), open("127.0.0.3", "alice-token")];
    let (_, head) = connect("127.0.0.4", "alice-token");
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    let mut bob = open("127.0.0.4", "bob-token");

    // What one says leaves less for the other.
    let ping = masked(0x81, br#"["ping"]"#);
    let mut pongs = 0;
    for peer in &mut alice {
        peer.say(&ping.repeat(20));
        for _ in 0..20 {
            pongs += usize::from(peer.frame().1 == br#"["pong"]"#);
        }
    }
    assert!((20..40).contains(&pongs), "{pongs} of a burst of 20");
    bob.say(&ping);
    assert_eq!(bob.frame().1, br#"["pong"]"#);

    // Nor can a connection become one of somebody who has enough of them; whose own it is may have a new token.
    bob.say(&masked(0x81, br#"["auth","alice-token",{"ref":1}]"#));
    let refused = String::from_utf8(bob.frame().1).unwrap();
    assert!(
        refused.starts_with(r#"["err",1,"overloaded","#) && refused.contains("as many connections"),
        "{refused}"
    );
    bob.say(&masked(0x81, br#"["auth","bob-token",{"ref":2}]"#));
    assert_eq!(bob.frame().1, br#"["ok",2,{}]"#);
    drop(alice);
    eventually("there is room", || {
        bob.say(&masked(0x81, br#"["auth","alice-token",{"ref":3}]"#));
        (bob.frame().1 == br#"["ok",3,{}]"#).then_some(())
    });
    assert_eq!(broker.stop().get("refused_identity"), 1);
}

#[test]
fn octets_are_limited_as_messages_are() {
    let broker = Broker::start(&["--byte-rate", "100K", "--workers", "1"]);
    let mut client = json_client(&broker);
    let large = format!(r#"["pub","t","{}",{{"ref":1}}]"#, "x".repeat(60_000));
    assert_eq!(ask(&mut client, &large), r#"["ok",1,{}]"#);
    let refused = ask(&mut client, &large);
    assert!(refused.starts_with(r#"["err",1,"rate_limited","#), "{refused}");
    eventually("it is paid off", || {
        (ask(&mut client, &large) == r#"["ok",1,{}]"#).then_some(())
    });
    // Whoever has said nothing may say more at once than it may in a second.
    let mut patient = json_client(&broker);
    let larger = format!(r#"["pub","t","{}",{{"ref":1}}]"#, "x".repeat(500_000));
    assert_eq!(ask(&mut patient, &larger), r#"["ok",1,{}]"#);
}

/// Opens a WebSocket where memory can be short for a moment, in which newcomers are refused.
fn open_at_last(broker: &Broker, path: &str, headers: &str) -> Peer {
    eventually("it is let in", || {
        let (peer, head) = ask_head(Peer::connect(broker), path, headers)?;
        head.starts_with("HTTP/1.1 101 ").then_some(peer)
    })
}

/// What the broker may need beyond its budget: receive buffers, logs, code, and what a turn produces.
const BEYOND: usize = 64 << 20;

#[test]
fn half_messages_of_many_fill_the_budget_and_no_more() {
    let broker = Broker::start(&["--memory", "32M", "--max-message", "4M", "--workers", "2"]);
    let mut other = Peer::open(&broker, "/t/b", 13);
    let whole = masked(0x82, &vec![7; 4 << 20]);
    let mut closed = 0;
    let mut waiting: Vec<Peer> = (0..200)
        .map(|_| {
            let mut peer = open_at_last(&broker, "/t/a?mode=pub", "");
            peer.say(&whole[..1 << 20]);
            peer
        })
        .collect();
    // 200 MiB have been said. Whoever asked for more than there was is told so.
    for peer in &mut waiting {
        peer.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut header = [0; 4];
        match peer.0.peek(&mut header) {
            Ok(4) => {
                assert_eq!((header[0], &header[2..]), (0x88, &4003u16.to_be_bytes()[..]));
                closed += 1;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(closed >= 100, "{closed} of 200 were refused");
    other.say(&masked(0x81, b"small"));
    other.hears(b"\x81\x05small");
    assert!(
        resident(&broker) < (32 << 20) + BEYOND,
        "{} MiB",
        resident(&broker) >> 20
    );
    // When they go, large messages are taken again.
    drop(waiting);
    eventually("a large message is taken", || {
        let subscriber = Peer::open(&broker, "/t/large?mode=sub", 13);
        let mut publisher = Peer::open(&broker, "/t/large?mode=pub", 13);
        publisher.say(&masked(0x82, &vec![7; 1 << 20]));
        publisher.say(&masked(0x88, &1000u16.to_be_bytes()));
        let (first, _) = publisher.frame();
        assert_eq!(first, 0x88);
        subscriber.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        matches!(subscriber.0.peek(&mut [0; 1]), Ok(1)).then_some(())
    });
    assert!(broker.stop().get("overloaded") >= 100);
}

#[test]
fn a_crowd_with_half_messages_costs_no_subscriber_its_place_and_keeps_no_small_message_from_being_said() {
    let arguments = ["--memory", "32M", "--max-pending", "16M", "--max-message", "4M"];
    let broker = Broker::start(&[&arguments[..], &["--workers", "2"]].concat());
    let mut subscriber = Peer::open(&broker, "/t/news?mode=sub", 13);
    let mut publisher = json_client(&broker);
    let whole = masked(0x82, &vec![7; 4 << 20]);
    let crowd: Vec<Peer> = (0..300)
        .map(|number| {
            let mut peer = Peer::open(&broker, "/t/a?mode=pub", 13);
            // Those who say more than they may are closed, those who say less stay.
            peer.say(&whole[..1 << (14 + number % 7)]);
            peer
        })
        .collect();
    // More than sockets hold, for one that does not read yet, said by one whose messages come in part.
    const MESSAGES: usize = 1500;
    for number in 0..MESSAGES {
        let payload = "x".repeat(8_000);
        publisher
            .queue_text(&format!(r#"["pub","news","{number} {payload}",{{"ref":{number}}}]"#))
            .unwrap();
        if number % 10 == 9 {
            publisher.flush().unwrap();
            for number in number - 9..=number {
                assert_eq!(text(&mut publisher), format!(r#"["ok",{number},{{}}]"#));
            }
        }
    }
    for number in 0..MESSAGES {
        let (first, payload) = subscriber.frame();
        assert_eq!(first, 0x81, "{}", String::from_utf8_lossy(&payload));
        assert!(
            payload.starts_with(format!("\"{number} ").as_bytes()),
            "message {number}"
        );
    }
    drop(crowd);
    let totals = broker.stop();
    assert!(totals.get("overloaded") >= 20, "those who asked for too much");
}

#[test]
fn subscriptions_take_a_part_of_the_budget_and_no_more() {
    let broker = Broker::start(&["--memory", "8M", "--max-subscriptions", "10000"]);
    let mut greedy = json_client(&broker);
    let filter = |number: usize| format!("{number:05}{}", "/+".repeat(15));
    let mut count = 0;
    let refused = loop {
        let answer = ask(
            &mut greedy,
            &format!(r#"["sub","{}",{{"ref":{count}}}]"#, filter(count)),
        );
        if answer != format!(r#"["ok",{count},{{}}]"#) {
            break answer;
        }
        count += 1;
        assert!(count < 5000, "3 MiB of filters with 16 levels");
    };
    assert!(
        refused.starts_with(&format!(r#"["err",{count},"overloaded","the broker has no memory"#)),
        "{refused}"
    );
    assert!(count > 1000, "{count} of filters with 16 levels");
    let mut raw = Peer::open(&broker, "/t/other", 13);
    assert_eq!(until_close(&mut raw).1, 4003);
    // Whoever wants nothing is served, and what one gives up another may have.
    let mut other = json_client(&broker);
    assert_eq!(ask(&mut other, r#"["pub","a",1,{"ref":1}]"#), r#"["ok",1,{}]"#);
    for number in 0..100 {
        let answer = ask(&mut greedy, &format!(r#"["unsub","{}",{{"ref":1}}]"#, filter(number)));
        assert_eq!(answer, r#"["ok",1,{}]"#);
    }
    assert_eq!(ask(&mut other, r#"["sub","a",{"ref":2}]"#), r#"["ok",2,{}]"#);
    drop(greedy);
    assert!(broker.stop().get("commands_refused") >= 2);
}

/// A frame, the first of a message that goes on, of so many zeros deflated.
fn bomb(zeros: usize) -> Vec<u8> {
    let mut deflate = Compress::new(Compression::best(), false);
    let mut deflated = Vec::with_capacity(zeros / 100 + 1024);
    deflate
        .compress_vec(&vec![0; zeros], &mut deflated, FlushCompress::Sync)
        .unwrap();
    masked(0x42, &deflated)
}

#[test]
fn compression_bombs_of_many_fill_the_budget_and_no_more() {
    let broker = Broker::start(&["--memory", "32M", "--max-message", "8M", "--workers", "2"]);
    let mut other = Peer::open(&broker, "/t/b", 13);
    let bomb = bomb(7 << 20);
    assert!(bomb.len() < 16 << 10, "{} octets", bomb.len());
    let mut bombers: Vec<Peer> = (0..300)
        .map(|_| {
            let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
            let mut peer = open_at_last(&broker, "/t/a?mode=pub", extension);
            peer.say(&bomb);
            peer
        })
        .collect();
    is_served(&mut other);
    // Each says something more that grows what it holds, and hears what became of it.
    let codes: Vec<u16> = bombers
        .iter_mut()
        .filter_map(|peer| {
            peer.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut header = [0; 4];
            let count = peer.0.peek(&mut header).unwrap_or(0);
            (count == 4).then(|| u16::from_be_bytes([header[2], header[3]]))
        })
        .collect();
    assert!(
        codes.len() >= 250 && codes.iter().all(|code| *code == 4003),
        "{}: {codes:?}",
        codes.len()
    );
    assert!(
        resident(&broker) < (32 << 20) + BEYOND,
        "{} MiB",
        resident(&broker) >> 20
    );
    drop(bombers);
    assert!(broker.stop().get("overloaded") >= 250);
}

#[test]
fn queues_of_many_slow_readers_fill_the_budget_and_no_more() {
    const SLEEPERS: usize = 40;
    let broker = Broker::start(&["--memory", "24M", "--max-pending", "16M", "--workers", "2"]);
    // Each hears something of its own, so that what waits for one is of no use to another.
    let mut sleepers: Vec<Peer> = (0..SLEEPERS)
        .map(|number| Peer::open(&broker, &format!("/t/{number}?mode=sub"), 13))
        .collect();
    let mut publisher = json_client(&broker);
    let payload = "x".repeat(100_000);
    for round in 0..80 {
        for number in 0..SLEEPERS {
            publisher
                .queue_text(&format!(r#"["pub","{number}","{payload}"]"#))
                .unwrap();
        }
        // In step, so that nothing but the sleepers' queues can grow.
        assert_eq!(
            ask(&mut publisher, &format!(r#"["pub","none",0,{{"ref":{round}}}]"#)),
            format!("[\"ok\",{round},{{}}]")
        );
    }
    assert!(
        resident(&broker) < (24 << 20) + BEYOND,
        "{} MiB",
        resident(&broker) >> 20
    );
    // Once they read, those that were given up hear why.
    let close = [&4003u16.to_be_bytes()[..], b"overloaded"].concat();
    let mut heard = vec![Vec::new(); SLEEPERS];
    for sleeper in &sleepers {
        sleeper.0.set_nonblocking(true).unwrap();
    }
    eventually("somebody was given up", || {
        for (sleeper, heard) in sleepers.iter_mut().zip(&mut heard) {
            // It ends, or there is nothing more for now.
            let _ = sleeper.0.read_to_end(heard);
        }
        heard.iter().any(|heard| heard.ends_with(&close)).then_some(())
    });
    let mut newcomer = Peer::open(&broker, "/t/new", 13);
    is_served(&mut newcomer);
    assert!(broker.stop().get("overloaded") > 0);
}

#[test]
fn a_connection_that_is_as_old_as_it_may_be_is_told_to_come_again() {
    let broker = Broker::start(&["--max-age", "2s"]);
    let mut old = Peer::open(&broker, "/ws", 13);
    old.frame();
    let (said, code) = until_close(&mut old);
    assert!(said.last().unwrap().starts_with(r#"["bye",1001,"#), "{said:?}");
    assert_eq!(code, 1001);
    old.say(&masked(0x88, &1001u16.to_be_bytes()));
    old.rest();
    let totals = broker.stop();
    assert_eq!((totals.get("aged"), totals.get("silent")), (1, 0));
}

#[test]
fn a_message_that_is_not_finished_in_time_ends_its_connection_and_a_slow_one_does_not() {
    let broker = Broker::start(&["--message-timeout", "4s", "--ping-interval", "0s"]);
    let whole = masked(0x82, &[7; 200_000]);
    let mut json = Peer::open(&broker, "/ws", 13);
    json.frame();
    json.say(&masked(0x01, b"[\"ping\""));
    let mut raw = Peer::open(&broker, "/t/a?mode=pub", 13);
    raw.say(&whole[..100_000]);
    let mut slow = Peer::open(&broker, "/t/slow", 13);
    slow.say(&whole[..1]);
    // As long as it goes on, it is not hurried: this takes longer than there is for a piece.
    let began = Instant::now();
    for piece in whole[1..].chunks(8_000) {
        slow.say(piece);
        let pause = Duration::from_millis(200);
        slow.0.set_read_timeout(Some(pause)).unwrap();
        // It waits for a whole message, so nothing can be heard before the last piece.
        let heard = slow.0.peek(&mut [0]).map_err(|error| error.kind());
        assert!(matches!(heard, Err(ErrorKind::WouldBlock) | Ok(1)), "{heard:?}");
    }
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    slow.0.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(slow.frame(), (0x82, vec![7; 200_000]));
    let (said, code) = until_close(&mut json);
    assert_eq!(code, 1008);
    assert!(
        said.last()
            .unwrap()
            .starts_with(r#"["bye",1008,"a message that was begun"#),
        "{said:?}"
    );
    assert_eq!(until_close(&mut raw).1, 1008);
    raw.rest();
    is_served(&mut slow);
    assert_eq!(broker.stop().get("messages_timed_out"), 2);
}

#[test]
fn whoever_answers_neither_ping_nor_close_is_counted_once() {
    let arguments = [
        "--ping-interval",
        "200ms",
        "--pong-timeout",
        "200ms",
        "--close-timeout",
        "200ms",
    ];
    let broker = Broker::start(&arguments);
    let mut silent = Peer::open(&broker, "/t/a", 13);
    assert_eq!(silent.frame().0, 0x89);
    assert_eq!(until_close(&mut silent).1, 1011);
    silent.rest();
    assert_eq!(broker.stop().get("silent"), 1);
}

#[test]
fn whoever_takes_nothing_of_what_it_is_sent_is_given_up_in_time() {
    let settings = Settings::new("unacknowledged", "[timeouts]\nunacknowledged_timeout = \"1s\"\n");
    let broker = Broker::start(&[
        "--config",
        settings.0.to_str().unwrap(),
        "--max-connections",
        "1",
        "--workers",
        "1",
    ]);
    let newcomer = || open_from(OTHER, &broker);
    let deafen = |mut peer: Peer| {
        // What it says comes back, more than sockets hold, and it reads nothing of that.
        for _ in 0..200 {
            peer.say(&masked(0x82, &[7; 100_000]));
        }
        peer
    };
    let open = || {
        eventually("there is room", || {
            let (peer, _) = ask_head(Peer::connect(&broker), "/t/echo?slow=drop-old", "")?;
            Some(deafen(peer))
        })
    };
    let given_up = open();
    drop(eventually("it makes room", newcomer));
    // A running broker takes another time over, for those who come.
    fs::write(&settings.0, "[timeouts]\nunacknowledged_timeout = 0\n").unwrap();
    broker.signal("HUP");
    broker.line("configuration reloaded");
    let deaf = open();
    let began = Instant::now();
    eventually("it would have been given up", || {
        assert!(newcomer().is_none(), "after {:?}", began.elapsed());
        (began.elapsed() > Duration::from_secs(4)).then_some(())
    });
    drop((given_up, deaf));
    assert_eq!(broker.stop().get("unacknowledged"), 1);
}

#[test]
fn there_are_only_so_many_subscriptions_in_all() {
    let broker = Broker::start(&["--max-all-subscriptions", "3"]);
    let mut greedy = json_client(&broker);
    for filter in ["a", "b/+", "$share/g/c"] {
        assert_eq!(
            ask(&mut greedy, &format!(r#"["sub","{filter}",{{"ref":1}}]"#)),
            r#"["ok",1,{}]"#
        );
    }
    let refused = ask(&mut greedy, r#"["sub","d",{"ref":2}]"#);
    assert!(refused.starts_with(r#"["err",2,"overloaded","#), "{refused}");
    let mut raw = Peer::open(&broker, "/t/e", 13);
    assert_eq!(until_close(&mut raw).1, 4003);
    assert_eq!(ask(&mut greedy, r#"["unsub","a",{"ref":3}]"#), r#"["ok",3,{}]"#);
    assert_eq!(ask(&mut greedy, r#"["sub","d",{"ref":4}]"#), r#"["ok",4,{}]"#);
}

//! What the kernel allows: fan-out without a broker.
//!
//! ```text
//!   client core   one connection that says "go", N that receive, all read to the end, then "go" again
//!                      │ as many octets as WINDOW publishes          ▲ N sends of WINDOW frames each, prepared before
//!   server core   ─────▼─────────────────────────────────────────────┘
//! ```
//!
//! The server does what every broker has to: it reads what was published, and hands the kernel one buffer for each
//! connection, of as many octets as the frames have. It parses nothing, looks nothing up and keeps no queues. So no
//! broker on this kernel can be faster with as few sends, and `tidecast bench fanout` with the same numbers tells what
//! share of it is reached.
//!
//! ```console
//! $ cargo bench --bench ceiling -- --subscribers 1000 --size 128 --window 32 --method ring --seconds 3
//! ```
//!
//! `--method send` uses send(2), `ring` the io_uring of `tidecast-driver`. Output: one line of JSON.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use tidecast_driver::{Config, Driver, Kind, Op, Token, Wait, pin_to_core, thread_cpu_time};

/// Errno of a receive that ended for want of buffers.
const ENOBUFS: i32 = 105;
/// Octets before the payload of a client's frame: two, the length, the key.
const MASKED_HEADER: usize = 2 + 2 + 4;

/// What to do.
#[derive(Debug, Clone)]
struct Plan {
    subscribers: usize,
    size: usize,
    window: usize,
    seconds: f64,
    by_ring: bool,
    /// Of the server and of the client.
    cores: [usize; 2],
}

impl Plan {
    fn from_arguments() -> Result<Plan, String> {
        let mut plan = Plan {
            subscribers: 1000,
            size: 128,
            window: 1,
            seconds: 2.0,
            by_ring: true,
            cores: [0, 1],
        };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} wants a value"))?;
            let number = || value.parse().map_err(|error| format!("{name} {value}: {error}"));
            match &*name {
                "--subscribers" => plan.subscribers = number()?,
                "--size" => plan.size = number()?,
                "--window" => plan.window = number()?,
                "--server-core" => plan.cores[0] = number()?,
                "--client-core" => plan.cores[1] = number()?,
                "--seconds" => plan.seconds = value.parse().map_err(|error| format!("{name} {value}: {error}"))?,
                "--method" => plan.by_ring = value == "ring",
                _ => return Err(format!("there is no {name}; see the head of benches/ceiling.rs")),
            }
        }
        Ok(plan)
    }

    /// What one connection is sent in a round: as many octets as so many frames of a server.
    fn round(&self) -> Vec<u8> {
        let header = match self.size {
            0..126 => 2,
            126..65_536 => 4,
            _ => 10,
        };
        vec![b'x'; (header + self.size) * self.window]
    }

    /// What is published in a round.
    fn published(&self) -> usize {
        (MASKED_HEADER + self.size) * self.window
    }
}

/// Both ends of a connection over loopback.
fn pair(listener: &TcpListener) -> std::io::Result<[TcpStream; 2]> {
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    Ok([server, client])
}

fn ring(slots: usize) -> Driver {
    let config = Config {
        slots: slots as u32 + 1,
        ..Config::default()
    };
    Driver::new(Kind::IoUring, &config).unwrap_or_else(|error| panic!("{error}"))
}

/// The client: says go, and reads everything. Gives the rounds of the measured time, and that time.
fn client(plan: &Plan, mut go: TcpStream, receivers: Vec<TcpStream>, start: &Barrier) -> (u64, Duration) {
    let mut ring = ring(receivers.len());
    let slots: Vec<_> = receivers
        .into_iter()
        .map(|socket| ring.install(OwnedFd::from(socket)).expect("there are slots for all"))
        .collect();
    for slot in &slots {
        ring.receive(Token::new(Op::Receive, *slot, 0)).expect("the ring works");
    }
    let (publishes, round) = (vec![b'p'; plan.published()], plan.round().len() * slots.len());
    let mut completions = Vec::new();
    start.wait();
    let (mut rounds, mut begun) = (0, Instant::now());
    let (warm_up, measured) = (
        Duration::from_secs_f64(plan.seconds / 5.0),
        Duration::from_secs_f64(plan.seconds),
    );
    let mut warm = false;
    loop {
        go.write_all(&publishes).expect("the server listens");
        let mut missing = round;
        while missing > 0 {
            ring.turn([], Wait::AtMost(Duration::from_secs(5)), &mut completions)
                .expect("the ring works");
            assert!(!completions.is_empty(), "the server is silent");
            for completion in completions.drain(..) {
                missing -= completion.result.max(0) as usize;
                let starved = completion.result == -ENOBUFS;
                assert!(
                    completion.result > 0 || starved,
                    "a connection ended: {}",
                    completion.result
                );
                if !completion.more {
                    ring.receive(completion.token).expect("the ring works");
                }
            }
        }
        rounds += 1;
        match (warm, begun.elapsed()) {
            (false, time) if time >= warm_up => (warm, rounds, begun) = (true, 0, Instant::now()),
            (true, time) if time >= measured => return (rounds, time),
            _ => {}
        }
    }
}

/// The server: for each round of publishes, one send to each connection. Gives the processor time it took per round.
fn server(plan: &Plan, mut go: TcpStream, mut senders: Vec<TcpStream>, start: &Barrier, stop: &AtomicBool) -> f64 {
    let round = plan.round();
    let mut published = vec![0; plan.published()];
    let mut uring = plan.by_ring.then(|| {
        let mut ring = ring(senders.len());
        let install = |socket| ring.install(OwnedFd::from(socket)).expect("there are slots for all");
        let slots: Vec<u32> = senders.drain(..).map(install).collect();
        (ring, slots, Vec::new())
    });
    start.wait();
    let (mut rounds, mut begun) = (0_u64, thread_cpu_time());
    let warm_up = Instant::now() + Duration::from_secs_f64(plan.seconds / 5.0);
    let mut warm = false;
    while !stop.load(Ordering::Relaxed) && go.read_exact(&mut published).is_ok() {
        if let Some((ring, slots, completions)) = &mut uring {
            let mut rest: Vec<(u32, usize)> = slots.iter().map(|slot| (*slot, 0)).collect();
            while !rest.is_empty() {
                let sends = rest
                    .iter()
                    .map(|(slot, sent)| (Token::new(Op::Send, *slot, 0), &round[*sent..]));
                ring.turn(sends, Wait::No, completions).expect("the ring works");
                // What did not go out whole goes on.
                let mut again = Vec::new();
                for completion in completions
                    .drain(..)
                    .filter(|completion| completion.token.op() == Op::Send)
                {
                    let slot = completion.token.slot();
                    let (_, sent) = rest.iter().find(|(other, _)| *other == slot).expect("it was sent");
                    again.push((slot, sent + completion.result.max(0) as usize));
                }
                rest = again;
            }
        } else {
            for socket in &mut senders {
                socket.write_all(&round).expect("the client listens");
            }
        }
        rounds += 1;
        if !warm && Instant::now() >= warm_up {
            (warm, rounds, begun) = (true, 0, thread_cpu_time());
        }
    }
    (thread_cpu_time() - begun).as_secs_f64() / rounds.max(1) as f64
}

fn main() -> Result<(), String> {
    let plan = Plan::from_arguments()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let pairs: Result<Vec<_>, _> = (0..=plan.subscribers).map(|_| pair(&listener)).collect();
    let mut pairs = pairs.map_err(|error| format!("cannot open {} connections: {error}", plan.subscribers))?;
    let [go_server, go_client] = pairs.pop().expect("there is one more");
    let (senders, receivers): (Vec<_>, Vec<_>) = pairs.into_iter().map(|[server, client]| (server, client)).unzip();
    let (start, stop) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(false)));
    let served = {
        let (plan, start, stop) = (plan.clone(), Arc::clone(&start), Arc::clone(&stop));
        thread::spawn(move || {
            pin_to_core(plan.cores[0]).expect("the server's core can be used");
            server(&plan, go_server, senders, &start, &stop)
        })
    };
    pin_to_core(plan.cores[1]).map_err(|error| format!("core {}: {error}", plan.cores[1]))?;
    let (rounds, time) = client(&plan, go_client, receivers, &start);
    stop.store(true, Ordering::Relaxed);
    let processor_per_round = served.join().map_err(|_| "the server failed")?;
    let deliveries = (plan.subscribers * plan.window) as f64;
    println!(
        r#"{{"method":"{}","subscribers":{},"size":{},"window":{},"deliveries_per_second":{:.0},"deliveries_per_cpu_second":{:.0},"cpu_seconds_per_million":{:.4}}}"#,
        if plan.by_ring { "ring" } else { "send" },
        plan.subscribers,
        plan.size,
        plan.window,
        rounds as f64 * deliveries / time.as_secs_f64(),
        deliveries / processor_per_round,
        processor_per_round / deliveries * 1e6,
    );
    Ok(())
}

//! One thread of the generator: opens its connections, publishes, receives, and closes.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::Sender;
use std::time::Duration;

use hdrhistogram::Histogram;
use tidecast_driver::{Config, Ring, RingHandle, Wait, descriptor_limit, pin_to_core, thread_cpu_time};

use crate::check::Faults;
use crate::clock::{Span, nanoseconds, wake_on_time};
use crate::error::Error;
use crate::exchange::Exchange;
use crate::payload::Locator;
use crate::peer::Target;
use crate::plan::{Load, Plan, Protocol, Role};
use crate::publisher::Publisher;
use crate::shared::{Shared, connections, owners};
use crate::tally::{Tally, Totals};

/// Handshakes one thread has in flight: enough to keep a server busy, few enough for its backlog.
const OPENING: usize = 64;

/// The longest sleep: states of other threads are looked at this often.
const NAP: Duration = Duration::from_millis(20);

/// How long the closing handshakes of all connections may take.
const CLOSING: Duration = Duration::from_secs(5);

/// What a thread measured.
pub(crate) struct Outcome {
    pub(crate) faults: Faults,
    pub(crate) latency: Histogram<u64>,
    pub(crate) totals: Totals,
    pub(crate) published: u64,
    pub(crate) foreign: u64,
    /// Processor time in the span.
    pub(crate) cpu: Duration,
    pub(crate) errors: Vec<String>,
}

/// A thread that has opened all its connections.
pub(crate) struct Ready {
    pub(crate) thread: usize,
    pub(crate) ring: RingHandle,
}

/// Runs thread `index`; says on `ready` when its connections are open, and then waits for [`Shared::begin`].
///
/// # Errors
/// A connection could not be opened, or the ring failed.
pub(crate) fn run(index: u32, plan: &Plan, shared: &Shared, ready: &Sender<Ready>) -> Result<Outcome, Error> {
    if !plan.cores.is_empty() {
        let core = plan.cores[index as usize % plan.cores.len()];
        pin_to_core(core).map_err(|source| Error::Pin { core, source })?;
    }
    if let Load::Rate(_) = plan.load {
        wake_on_time();
    }
    let mut thread = Thread::new(index, plan, shared)?;
    thread.open()?;
    let ring = thread.exchange.ring.handle().map_err(Error::Ring)?;
    // The receiver gives up only after another thread failed.
    let announced = ready.send(Ready {
        thread: index as usize,
        ring,
    });
    announced.map_err(|_| Error::Stopped)?;
    thread.wait()?;
    thread.work()?;
    thread.close()?;
    Ok(thread.finish())
}

struct Thread<'a> {
    index: usize,
    plan: &'a Plan,
    shared: &'a Shared,
    exchange: Exchange<'a>,
    publishers: Vec<Publisher>,
    /// By publisher, the thread it belongs to.
    owners: Vec<usize>,
    cpu: Stopwatch,
}

/// Processor time of this thread at the ends of the span.
#[derive(Debug, Default)]
struct Stopwatch {
    begin: Option<Duration>,
    end: Option<Duration>,
}

impl Stopwatch {
    fn look(&mut self, now: u64, span: &Span) {
        if self.begin.is_none() && now >= span.start {
            self.begin = Some(thread_cpu_time());
        }
        if self.end.is_none() && now >= span.end {
            self.end = Some(thread_cpu_time());
        }
    }

    /// The time between; until now if the span did not end by the clock.
    fn elapsed(&self) -> Duration {
        let begin = self.begin.unwrap_or_default();
        self.end.unwrap_or_else(thread_cpu_time).saturating_sub(begin)
    }
}

impl<'a> Thread<'a> {
    fn new(index: u32, plan: &'a Plan, shared: &'a Shared) -> Result<Self, Error> {
        let subscribers = connections(plan, Role::Subscriber, index).len();
        let total = subscribers + connections(plan, Role::Publisher, index).len();
        // The file table may not be larger than the descriptor limit, which this raises as far as it goes.
        descriptor_limit().map_err(Error::Ring)?;
        let ring = Ring::new(&Config {
            slots: total.max(1) as u32,
            ..Config::default()
        })?;
        let protocols: &[&str] = match plan.protocol {
            Protocol::Raw => &[],
            Protocol::Json => &[tidecast_wire::json::SUBPROTOCOL],
        };
        let target = |role| {
            Ok::<_, Error>(Target {
                url: plan.target(role)?,
                version: plan.version,
                protocols,
                // What publishers send is masked, which nothing compresses.
                extensions: match role {
                    Role::Subscriber => plan.compression.offers(),
                    Role::Publisher => &[],
                },
            })
        };
        let publishers = plan.publishers.get() as usize;
        let locator = Locator::new(plan.protocol, &plan.topic);
        let tally = Tally::new(shared.run, subscribers as u32, publishers, plan.in_flight(), locator);
        let exchange = Exchange::new(
            plan,
            shared.clock,
            ring,
            tally,
            target(Role::Subscriber)?,
            target(Role::Publisher)?,
        );
        Ok(Thread {
            index: index as usize,
            plan,
            shared,
            exchange,
            publishers: Vec::new(),
            owners: owners(plan),
            cpu: Stopwatch::default(),
        })
    }

    /// Opens all connections, a bounded number at a time.
    fn open(&mut self) -> Result<(), Error> {
        let addresses = self.addresses()?;
        let of = |role| connections(self.plan, role, self.index as u32);
        // Subscribers are numbered within the thread, as its counters are; publishers within the run.
        let wanted: Vec<(Role, usize)> = (0..of(Role::Subscriber).len())
            .map(|number| (Role::Subscriber, number))
            .chain(of(Role::Publisher).map(|number| (Role::Publisher, number as usize)))
            .collect();
        let total = wanted.len();
        let (mut opened, mut progress) = (0, self.shared.clock.now());
        let mut wanted = wanted.into_iter().enumerate();
        while self.exchange.opened < total {
            while self.exchange.peers.len() - self.exchange.opened < OPENING {
                let Some((at, (role, number))) = wanted.next() else {
                    break;
                };
                let socket = self.connect(&addresses).map_err(|(address, source)| Error::Connect {
                    number: at + 1,
                    total,
                    address: address.to_string(),
                    remedy: remedy(&source),
                    source,
                })?;
                let slot = self.exchange.add(role, number, socket)?;
                if role == Role::Publisher {
                    let publisher = Publisher::new(self.plan, self.shared.run, number, slot);
                    self.publishers.push(publisher);
                }
            }
            self.exchange.turn(Wait::AtMost(NAP))?;
            if self.shared.is_stopped() {
                return Err(Error::Stopped);
            }
            let now = self.shared.clock.now();
            if self.exchange.opened > opened {
                (opened, progress) = (self.exchange.opened, now);
            } else if now - progress > nanoseconds(self.plan.open_timeout) {
                return Err(Error::OpenTimeout {
                    open: opened,
                    total,
                    timeout: self.plan.open_timeout,
                });
            }
        }
        Ok(())
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        let url = &self.exchange.target(Role::Subscriber).url;
        let unresolved = |source| Error::Resolve {
            host: url.host().to_owned(),
            source,
        };
        let addresses: Vec<_> = (url.host(), url.port())
            .to_socket_addrs()
            .map_err(unresolved)?
            .collect();
        if addresses.is_empty() {
            return Err(unresolved(io::ErrorKind::NotFound.into()));
        }
        Ok(addresses)
    }

    /// A connection to the first address that takes one, or the last address and why it did not.
    fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, (SocketAddr, io::Error)> {
        let mut failure = None;
        for address in addresses {
            let connected = TcpStream::connect_timeout(address, self.plan.open_timeout)
                .and_then(|stream| stream.set_nodelay(true).map(|()| stream));
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some((*address, error)),
            }
        }
        Err(failure.expect("there is an address"))
    }

    /// Keeps the connections alive until all threads are ready.
    fn wait(&mut self) -> Result<(), Error> {
        loop {
            if self.shared.is_stopped() {
                return Err(Error::Stopped);
            }
            if let Some((start, span)) = self.shared.span() {
                self.exchange.tally.measure(span.clone());
                for publisher in &mut self.publishers {
                    publisher.begin(self.plan, start, span.clone());
                }
                return Ok(());
            }
            self.exchange.turn(Wait::AtMost(NAP))?;
        }
    }

    /// Publishes and receives until every message of all threads has landed, or nothing moves any more.
    fn work(&mut self) -> Result<(), Error> {
        let (_, span) = self.shared.span().expect("the run has begun");
        let stall = nanoseconds(self.plan.stall);
        let (mut delivered, mut progress) = (0, self.shared.clock.now());
        loop {
            let now = self.shared.clock.now();
            self.cpu.look(now, &span);
            let wait = self.publish(now);
            self.exchange.turn(wait)?;
            self.tell()?;
            if self.exchange.has_failed() {
                self.shared.stop();
            }
            if self.shared.all_finished() && self.shared.all_landed() && self.has_sent_all() {
                return Ok(());
            }
            // Time without deliveries counts only while some are outstanding.
            let all = self.shared.all_delivered();
            if all > delivered || self.shared.all_landed() {
                (delivered, progress) = (all, now);
            } else if now.saturating_sub(progress) > stall && now >= span.start {
                self.shared.stop();
                self.finish_publishers();
                return Ok(());
            }
        }
    }

    /// Sends all that is to be sent at `now`, and returns how long the thread may sleep.
    fn publish(&mut self, now: u64) -> Wait {
        if self.shared.is_stopped() {
            self.finish_publishers();
        }
        let mut nap = NAP;
        for publisher in &mut self.publishers {
            if publisher.is_finished() {
                continue;
            }
            let landed = self.shared.landings.landed(publisher.number);
            let out = &mut self.exchange.peers[publisher.slot as usize].out;
            // What the socket has not taken yet comes first; the messages behind it keep their intended times.
            if out.is_empty() {
                publisher.publish(landed, now, &mut out.bytes);
                self.shared.issued(publisher.number, publisher.sent());
                if publisher.is_finished() {
                    self.shared.finished(publisher.number);
                }
                self.exchange.list(publisher.slot);
            }
            if !self.exchange.peers[publisher.slot as usize].out.blocked
                && let Some(wait) = publisher.wait(landed, now)
            {
                nap = nap.min(wait);
            }
        }
        if nap.is_zero() { Wait::No } else { Wait::AtMost(nap) }
    }

    fn finish_publishers(&mut self) {
        for publisher in &mut self.publishers {
            publisher.finish();
            self.shared.finished(publisher.number);
        }
    }

    fn has_sent_all(&self) -> bool {
        self.publishers
            .iter()
            .all(|publisher| self.exchange.peers[publisher.slot as usize].out.is_empty())
    }

    /// Tells the other threads what this one has received, and wakes those that can send because of it.
    fn tell(&mut self) -> Result<(), Error> {
        let Self {
            index,
            shared,
            exchange,
            owners,
            ..
        } = self;
        let delivered = exchange.tally.totals().all_deliveries;
        if delivered == 0 {
            return Ok(());
        }
        shared.delivered(*index, delivered);
        let mut wake = BTreeSet::new();
        for (publisher, &completed) in exchange.tally.completed().iter().enumerate() {
            if shared.landings.publish(*index, publisher, completed) && owners[publisher] != *index {
                wake.insert(owners[publisher]);
            }
        }
        let rings = shared
            .rings
            .get()
            .expect("all threads were ready before the first delivery");
        for thread in wake {
            exchange.ring.wake(&rings[thread]).map_err(Error::Ring)?;
        }
        Ok(())
    }

    /// Closes every connection in order.
    fn close(&mut self) -> Result<(), Error> {
        self.exchange.close_all();
        let deadline = self.shared.clock.now() + nanoseconds(CLOSING);
        while self.exchange.gone < self.exchange.peers.len() {
            self.exchange.turn(Wait::AtMost(NAP))?;
            if self.shared.clock.now() > deadline {
                let left = self.exchange.peers.len() - self.exchange.gone;
                self.exchange.error(format!(
                    "{left} connections were not closed by the server within {CLOSING:?}"
                ));
                break;
            }
        }
        Ok(())
    }

    fn finish(self) -> Outcome {
        let published = self.publishers.iter().map(Publisher::published).sum();
        let cpu = self.cpu.elapsed();
        let sent = self.shared.sent();
        let foreign = self.exchange.foreign;
        let (tally, errors) = self.exchange.into_parts();
        let (faults, latency, totals) = tally.finish(&sent);
        Outcome {
            faults,
            latency,
            totals,
            published,
            foreign,
            cpu,
            errors,
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "; is the broker running there, and listening on that address and port?",
        io::ErrorKind::AddrNotAvailable => {
            "; all local ports towards it are in use: widen net.ipv4.ip_local_port_range, or use fewer connections"
        }
        io::ErrorKind::TimedOut => "; is a firewall in the way, or the backlog of the server full?",
        _ => "",
    }
}

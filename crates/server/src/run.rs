//! A broker from start to stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use tidecast_broker::Shared;
use tidecast_driver::{Kind, SetupError, allowed_cores, descriptor_limit};
use tidecast_worker::{Budget, Census, Counters, Journal, Mesh, Order, Parts, Totals, Worker, WorkerError};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::admin::{self, Control, Readiness, State};
use crate::config::{ConfigError, Listen, Loaded, Machine, Problem, Resolved, Sources};
use crate::handover::{Predecessor, UpgradeError, hand_over};
use crate::heart::Heart;
use crate::hook::{Present, Questions};
use crate::http::{Http, HttpSetupError};
use crate::judge::Judge;
use crate::jwks::{Fetched, keep};
use crate::local;
use crate::log::{self, Keeper, say};
use crate::memory::memory;
use crate::sockets::{Given, Sockets, SocketsError};
use crate::stop::StopSettings;
use crate::systemd;
use crate::tls::{Tls, TlsError};

/// The page at `/`.
const PAGE: &str = include_str!("../page/index.html");

/// How long answers of a control plane that goes to another process may take to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Why the broker could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to listen with.
    #[error(transparent)]
    Listen(#[from] SocketsError),
    /// The broker that has started this one has given it up.
    #[error("the broker that this one was to replace does not hear from it: {0}")]
    Predecessor(#[source] io::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing can drive sockets.
    #[error(transparent)]
    Driver(#[from] SetupError),
    /// A worker could not start.
    #[error("worker {number} could not start: {source}")]
    Start {
        /// The worker's number.
        number: usize,
        /// Why.
        source: WorkerError,
    },
    /// A worker ended without being told to.
    #[error("worker {number} failed: {reason}; the broker stops")]
    Worker {
        /// The worker's number.
        number: usize,
        /// Why.
        reason: String,
    },
    /// Workers did not end when they were told to.
    #[error("{running} of the workers did not end within {limit:?}")]
    Stuck {
        /// How many.
        running: usize,
        /// What they were given.
        limit: Duration,
    },
    /// Other servers cannot be asked.
    #[error(transparent)]
    Http(#[from] HttpSetupError),
    /// Threads, signals or limits of the process.
    #[error("cannot set up the process: {0}")]
    Process(#[from] io::Error),
}

/// Reads a configuration and checks it as [`run`] does before it starts.
///
/// # Errors
/// Whatever is wrong with it.
pub fn check(sources: &Sources) -> Result<Loaded, Error> {
    let mut loaded = sources.load()?;
    let driver = choose_driver(&mut loaded)?;
    let mut resolved = resolve(&mut loaded, driver)?;
    secure(&mut resolved, &mut loaded, None)?;
    Ok(loaded)
}

fn choose_driver(loaded: &mut Loaded) -> Result<Kind, SetupError> {
    let (kind, warning) = loaded.config.server.driver.choose()?;
    loaded
        .warnings
        .extend(warning.map(|message| Problem { place: None, message }));
    Ok(kind)
}

fn resolve(loaded: &mut Loaded, driver: Kind) -> Result<Resolved, Error> {
    let mut resolved = loaded.resolve(&machine(driver)?, PAGE)?;
    loaded.warnings.append(&mut resolved.warnings);
    Ok(resolved)
}

fn machine(driver: Kind) -> io::Result<Machine> {
    Ok(Machine {
        cores: allowed_cores()?,
        descriptors: descriptor_limit()?,
        memory: memory(),
        driver,
    })
}

/// Reads what listeners with TLS need, and gives it to them. Tickets of `before` stay good.
fn secure(resolved: &mut Resolved, loaded: &mut Loaded, before: Option<&Tls>) -> Result<Option<Tls>, TlsError> {
    let Some(settings) = resolved.tls.take() else {
        return Ok(None);
    };
    let (tls, warnings) = Tls::new(settings, before, SystemTime::now())?;
    let (listeners, configs) = (&resolved.listeners, &mut resolved.worker.listeners);
    for (_, config) in listeners.iter().zip(configs).filter(|(listen, _)| listen.tls) {
        config.tls = Some(tls.terms());
    }
    loaded.warnings.extend(warnings.iter().map(|warning| Problem {
        place: None,
        message: warning.to_string(),
    }));
    Ok(Some(tls))
}

/// Runs a broker until SIGTERM or SIGINT, then says goodbye to every client. A second signal ends the process at once.
/// SIGHUP makes it read its configuration again, SIGUSR2 has it replaced by a new process.
///
/// Prints to standard output what listens where, and totals at the end.
///
/// # Errors
/// It cannot start, or a worker failed. Whatever was started is stopped before this returns.
pub fn run(sources: &Sources) -> Result<(), Error> {
    // Signals first, so that none takes the process down unprepared.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut signals = Signals::new()?;
    drop(entered);
    let mut predecessor = Predecessor::find()?;
    let ended = follow(sources, &mut predecessor, &runtime, &mut signals);
    if let (Err(error), Some(predecessor)) = (&ended, predecessor) {
        predecessor.give_up(&error.to_string());
    }
    log::flush();
    ended
}

/// Runs a broker, which takes over from `predecessor`, if there is one, when it serves.
fn follow(
    sources: &Sources,
    predecessor: &mut Option<Predecessor>,
    runtime: &Runtime,
    signals: &mut Signals,
) -> Result<(), Error> {
    let given = match predecessor {
        Some(predecessor) => Given::from_predecessor(predecessor.receive().map_err(Error::Predecessor)?),
        None => Given::from_systemd()?,
    };
    let mut loaded = sources.load()?;
    let driver = choose_driver(&mut loaded)?;
    let mut resolved = resolve(&mut loaded, driver)?;
    let mut tls = secure(&mut resolved, &mut loaded, None)?;
    log::begin(resolved.log)?;
    tell_warnings(&loaded);
    runtime.block_on(async {
        let mut hook = Present::default();
        let questions = hook.change(resolved.hook.clone(), resolved.worker.topics)?;
        resolved.worker.hook = hook.hook();
        let judge = Arc::new(Judge::new(resolved.worker.clone(), resolved.credentials.clone()));
        let opened = async {
            fetch_keys(&resolved, &judge).await?;
            Ok::<_, Error>(Sockets::open(&resolved, given).await?)
        };
        let sockets = tokio::select! {
            sockets = opened => Arc::new(sockets?),
            name = signals.stop() => {
                info!("{name}: ending before anybody was served");
                return Ok(());
            }
        };
        let mut workers = Workers::start(&resolved, &judge, &sockets).await?;
        workers.ask(questions);
        let keeper = Arc::new(Keeper::new(Arc::clone(&workers.journal), resolved.log));
        let kept = Arc::clone(&keeper);
        tokio::spawn(async move { kept.keep().await });
        let (state, mut controls) = State::new(workers.parts(&resolved));
        let admin = sockets.admin()?;
        let address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let mut served = admin
            .map(|listener| admin::serve(listener, Arc::clone(&state)))
            .transpose()?;
        if let Err(error) = local::listen(state.control()) {
            warn!("`tidecast upgrade --pid` cannot be used: {error}");
        }
        // The last thing: whoever hears that this process has taken over may want something of it at once.
        if let Some(predecessor) = predecessor.take() {
            predecessor.take_over().map_err(Error::Predecessor)?;
        }
        workers.announce(address);
        state.set_readiness(Readiness::Ready);
        systemd::ready(&workers.status());
        workers.watch();
        let mut stop = resolved.stop;
        let mut upgrade_timeout = resolved.upgrade_timeout;
        let mut upgrade: Option<Upgrade> = None;
        let ended = loop {
            let caught = tokio::select! {
                // A new process that has been told to go on is the broker, whatever else this one is told.
                biased;
                outcome = Upgrade::outcome(&mut upgrade) => Caught::Upgraded(outcome),
                caught = next(signals, &mut controls) => caught,
                failed = workers.next_end() => {
                    // Never half alive: the others are all that is left of it.
                    systemd::stopping();
                    drop((upgrade.take(), sockets));
                    workers.drain(&stop, false);
                    let _ = workers.join(stop.limit()).await;
                    break Err(failed);
                }
            };
            match caught {
                Caught::Reload(answer) => {
                    systemd::reloading();
                    let reloaded = workers.reload(sources, &mut loaded, (&mut tls, &mut hook), &judge);
                    let told = reloaded.map(|(text, resolved)| {
                        stop = resolved.stop;
                        upgrade_timeout = resolved.upgrade_timeout;
                        keeper.configure(resolved.log);
                        state.configure(
                            resolved.admin.map(|admin| admin.access).unwrap_or_default(),
                            resolved.worker.max_message as usize,
                        );
                        text
                    });
                    systemd::ready(&workers.status());
                    let by = if answer.is_some() { CONTROL_PLANE } else { "SIGHUP" };
                    match &told {
                        Ok(text) => info!("{by}: {text}"),
                        Err(text) => error!("{by}: {text}"),
                    }
                    if let Some(answer) = answer {
                        // Whoever asked may have gone.
                        let _ = answer.send(told);
                    }
                }
                Caught::Upgrade(answer) => {
                    let by = if answer.is_some() { CONTROL_PLANE } else { "SIGUSR2" };
                    if upgrade.is_some() {
                        if let Some(answer) = answer {
                            let _ = answer.send(Err("another new process is coming up already".to_owned()));
                        }
                        continue;
                    }
                    info!("{by}: starting a new process to take over");
                    let sockets = Arc::clone(&sockets);
                    let process = tokio::spawn(async move { hand_over(&sockets, upgrade_timeout).await });
                    upgrade = Some(Upgrade { process, answer });
                }
                Caught::Upgraded((answer, Ok(pid))) => {
                    let text = format!("process {pid} has taken over");
                    info!("{text}; saying goodbye here, for at most {:?}", stop.time());
                    systemd::succeeded_by(pid);
                    if let Some(answer) = answer {
                        let _ = answer.send(Ok(text));
                    }
                    state.set_readiness(Readiness::Draining);
                    state.close();
                    drop((sockets, controls));
                    workers.drain(&stop, true);
                    let ended = workers.end(&stop, signals, &hook, true).await;
                    if let Some(served) = served.take() {
                        let _ = tokio::time::timeout(LAST_ANSWERS, served).await;
                    }
                    break ended;
                }
                Caught::Upgraded((answer, Err(reason))) => {
                    let text = format!("no new process has taken over, this one goes on: {reason}");
                    error!("{text}");
                    if let Some(answer) = answer {
                        let _ = answer.send(Err(text));
                    }
                }
                Caught::Stop(name, answer) => {
                    info!(
                        "{name}: saying goodbye, for at most {:?}; once more ends at once",
                        stop.time()
                    );
                    systemd::stopping();
                    state.set_readiness(Readiness::Draining);
                    // A new process that is coming up is not wanted, and whoever wants something else hears that it is too late.
                    drop((upgrade.take(), sockets, controls));
                    workers.drain(&stop, false);
                    if let Some(answer) = answer {
                        let _ = answer.send(());
                    }
                    break workers.end(&stop, signals, &hook, false).await;
                }
            }
        };
        keeper.finish();
        workers.report();
        ended
    })
}

/// A new process that comes up to take over.
struct Upgrade {
    process: JoinHandle<Result<u32, UpgradeError>>,
    answer: Option<oneshot::Sender<Result<String, String>>>,
}

/// Whom to tell what came of it, and that: the new process, or why there is none.
type Upgraded = (Option<oneshot::Sender<Result<String, String>>>, Result<u32, String>);

impl Upgrade {
    /// What becomes of `upgrade`, if there is one.
    async fn outcome(upgrade: &mut Option<Upgrade>) -> Upgraded {
        let Some(under_way) = upgrade else {
            return std::future::pending().await;
        };
        let outcome = match (&mut under_way.process).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let answer = under_way.answer.take();
        *upgrade = None;
        (answer, outcome)
    }
}

impl Drop for Upgrade {
    fn drop(&mut self) {
        self.process.abort();
    }
}

/// Fetches keys from now on, if there is a key set to fetch. If the first ones come in time they are waited for, so that no
/// client is refused for coming early.
async fn fetch_keys(resolved: &Resolved, judge: &Arc<Judge>) -> Result<(), Error> {
    let Some(settings) = resolved.key_set.clone() else {
        return Ok(());
    };
    let http = Http::new(&settings.url, None)?;
    let first = Arc::new(Notify::new());
    let (judge, tried) = (Arc::clone(judge), Arc::clone(&first));
    let limit = settings.timeout;
    tokio::spawn(async move {
        let wanted = Arc::clone(judge.wanted());
        let take = |fetched| {
            tried.notify_one();
            match fetched {
                Fetched::New(document) => {
                    judge.take_keys(document)?;
                    info!("the key set has changed");
                }
                Fetched::Failed(reason) => warn!("the key set cannot be had: {reason}"),
            }
            Ok(())
        };
        keep(http, settings, &wanted, take).await;
    });
    // Whether they have come or not is told above.
    let _ = tokio::time::timeout(limit, first.notified()).await;
    Ok(())
}

/// Tells what is odd about the configuration, for whoever watches.
fn tell_warnings(loaded: &Loaded) {
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
}

/// Who wants something, if it is an operator by the control plane.
const CONTROL_PLANE: &str = "control plane";

/// What a signal asks for, or the control plane; that one is to be answered.
enum Caught {
    /// Read the configuration again.
    Reload(Option<oneshot::Sender<Result<String, String>>>),
    /// Have a new process take over.
    Upgrade(Option<oneshot::Sender<Result<String, String>>>),
    /// One has, or has not.
    Upgraded(Upgraded),
    /// Stop, for a reason.
    Stop(&'static str, Option<oneshot::Sender<()>>),
}

/// The next signal, or wish of the control plane.
async fn next(signals: &mut Signals, controls: &mut mpsc::Receiver<Control>) -> Caught {
    tokio::select! {
        caught = signals.next() => caught,
        // Its other end is held by the caller.
        Some(control) = controls.recv() => match control {
            Control::Reload(answer) => Caught::Reload(Some(answer)),
            Control::Upgrade(answer) => Caught::Upgrade(Some(answer)),
            Control::Drain(answer) => Caught::Stop(CONTROL_PLANE, Some(answer)),
        },
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.hangup.recv() => Caught::Reload(None),
            _ = self.user.recv() => Caught::Upgrade(None),
            name = stop(&mut self.terminate, &mut self.interrupt) => Caught::Stop(name, None),
        }
    }

    /// The next signal to stop; the others stay for [`Signals::next`].
    async fn stop(&mut self) -> &'static str {
        stop(&mut self.terminate, &mut self.interrupt).await
    }
}

/// The next of the signals to stop.
async fn stop(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// What a worker's thread tells the control plane.
enum News {
    Started,
    Failed(WorkerError),
    /// With the reason, if it was not an order.
    Ended(Option<String>),
}

/// The running workers.
struct Workers {
    mesh: Arc<Mesh>,
    budget: Arc<Budget>,
    counters: Vec<Arc<Counters>>,
    journal: Arc<Journal>,
    driver: Kind,
    cores: Vec<Option<usize>>,
    addresses: Vec<Listen>,
    news: mpsc::UnboundedReceiver<(usize, News)>,
    running: usize,
    /// They have been told to end.
    draining: Arc<AtomicBool>,
}

impl Workers {
    async fn start(resolved: &Resolved, judge: &Judge, sockets: &Sockets) -> Result<Workers, Error> {
        let count = resolved.cores.len();
        let mesh = Arc::new(Mesh::new(count, resolved.mailbox));
        let shared = Arc::new(Shared::with_strategy(resolved.share_strategy));
        let census = Arc::new(Census::new(count * resolved.worker.max_connections as usize));
        let budget = Arc::new(Budget::new(resolved.memory));
        sockets.set_user_timeout(resolved.worker.unacknowledged_timeout)?;
        let listen = |(listen, address): (&Listen, SocketAddr)| Listen { address, ..*listen };
        let addresses = resolved.listeners.iter().zip(sockets.addresses()).map(listen).collect();
        let (sender, news) = mpsc::unbounded_channel();
        let mut workers = Workers {
            mesh: Arc::clone(&mesh),
            budget: Arc::clone(&budget),
            counters: (0..count).map(|_| Arc::default()).collect(),
            journal: Arc::default(),
            driver: resolved.worker.driver,
            cores: resolved.cores.clone(),
            addresses,
            news,
            running: 0,
            draining: Arc::default(),
        };
        let common = judge.config();
        let mut starts = Vec::new();
        for (number, listeners) in sockets.shares(count).into_iter().enumerate() {
            let config = tidecast_worker::Config {
                core: resolved.cores[number],
                ..tidecast_worker::Config::clone(&common)
            };
            let parts = Parts {
                number: number as u16,
                listeners,
                mesh: Arc::clone(&mesh),
                shared: Arc::clone(&shared),
                census: Arc::clone(&census),
                budget: Arc::clone(&budget),
                counters: Arc::clone(&workers.counters[number]),
                journal: Arc::clone(&workers.journal),
            };
            let sender = sender.clone();
            let (start, started) = std::sync::mpsc::channel();
            starts.push(start);
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let tell = |news| {
                    // Nobody listens any more once the process is about to end.
                    let _ = sender.send((number, news));
                };
                match Worker::new(config, parts) {
                    Ok(worker) => {
                        tell(News::Started);
                        // Nobody is accepted by a broker that does not come up.
                        if started.recv().is_err() {
                            return;
                        }
                        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
                        tell(News::Ended(match ended {
                            Ok(Ok(())) => None,
                            Ok(Err(error)) => Some(error.to_string()),
                            Err(_) => Some("it panicked (see above)".to_owned()),
                        }));
                    }
                    Err(error) => tell(News::Failed(error)),
                }
            })?;
        }
        for _ in 0..count {
            match workers.news.recv().await {
                Some((_, News::Started)) => workers.running += 1,
                Some((number, News::Failed(source))) => return Err(Error::Start { number, source }),
                Some((number, News::Ended(reason))) => return Err(ended(number, reason)),
                None => unreachable!("a sender is held by this function"),
            }
        }
        judge.attach(&mesh, &common);
        for start in starts {
            // It waits for that.
            let _ = start.send(());
        }
        Ok(workers)
    }

    /// What the control plane sees of them.
    fn parts(&self, resolved: &Resolved) -> admin::Parts {
        admin::Parts {
            counters: self.counters.clone(),
            budget: Arc::clone(&self.budget),
            cores: self.cores.clone(),
            mesh: Arc::clone(&self.mesh),
            topics: resolved.worker.topics,
            max_message: resolved.worker.max_message as usize,
            access: resolved
                .admin
                .as_ref()
                .map(|admin| admin.access.clone())
                .unwrap_or_default(),
        }
    }

    /// Says what listens where, and what to try.
    fn announce(&self, admin: Option<SocketAddr>) {
        let count = self.cores.len();
        let cores: Vec<String> = self.cores.iter().flatten().map(ToString::to_string).collect();
        let place = match cores.len() {
            0 => String::new(),
            1 => format!(" on core {}", cores[0]),
            _ => format!(" on cores {}", cores.join(", ")),
        };
        let workers = if count == 1 { "worker" } else { "workers" };
        let driver = match self.driver {
            Kind::IoUring => "",
            Kind::Epoll => ", with epoll",
        };
        say(format_args!(
            "tidecast {}: {count} {workers}{place}{driver}",
            env!("CARGO_PKG_VERSION")
        ));
        for Listen { address, tls } in &self.addresses {
            let s = if *tls { "s" } else { "" };
            say(format_args!(
                "listening on http{s}://{address}/ (page), ws{s}://{address}/ws and ws{s}://{address}/t/<topic>"
            ));
        }
        if let Some(address) = admin {
            say(format_args!(
                "control plane on http://{address}/ (console), /metrics and /v1"
            ));
        }
        if let Some(Listen { address, .. }) = self.addresses.iter().find(|listen| !listen.tls) {
            let host = reachable(*address);
            let url = if host.port() == 8080 && host.ip().is_loopback() && host.is_ipv4() {
                String::new()
            } else {
                format!(" --url ws://{host}")
            };
            say(format_args!(
                "try: open http://{host}/, then run: tidecast pub{url} demo/hello '\"hi\"'"
            ));
        }
    }

    /// Asks questions from now on, if there is anybody who is asked, and takes the answers to who waits for them.
    fn ask(&self, questions: Option<Questions>) {
        if let Some(questions) = questions {
            let mesh = Arc::clone(&self.mesh);
            let answer = move |asker, verdict| mesh.answer(asker, verdict);
            tokio::spawn(questions.serve(answer, |text| warn!("{text}")));
        }
    }

    /// What they do, in a line.
    fn status(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        format!("serving with {} workers on {}", self.cores.len(), addresses.join(", "))
    }

    /// Tells systemd from now on that they live, if it wants to hear that, as long as they do. A stop has its own limit, so
    /// that it is told it as well while they end.
    fn watch(&self) {
        let Some(interval) = systemd::heartbeat() else {
            return;
        };
        let mut heart = Heart::new(Arc::clone(&self.mesh), self.counters.clone());
        let draining = Arc::clone(&self.draining);
        tokio::spawn(async move {
            systemd::alive();
            loop {
                tokio::time::sleep(interval).await;
                heart.beat();
                let silent = heart.silent(1);
                if silent.is_empty() || draining.load(Ordering::Relaxed) {
                    systemd::alive();
                } else {
                    error!(
                        "workers that do nothing for {interval:?}: {silent:?}; systemd is not told that all is well"
                    );
                }
            }
        });
    }

    /// Has them say goodbye to everybody.
    fn drain(&self, stop: &StopSettings, succeeded: bool) {
        self.draining.store(true, Ordering::Relaxed);
        let connections = self.totals().connections;
        self.order(&Order::Drain(stop.order(connections, succeeded)));
    }

    /// Waits until they have ended, or somebody has had enough of that: a signal besides the one that it began with. Where another
    /// process goes on it began with none, and the first may be meant for both.
    async fn end(
        &mut self,
        stop: &StopSettings,
        signals: &mut Signals,
        hook: &Present,
        succeeded: bool,
    ) -> Result<(), Error> {
        let limit = stop.limit();
        let ended = async {
            let until = tokio::time::Instant::now() + limit;
            let ended = self.join(limit).await;
            // Those that are told by then are told, and the others not.
            let _ = tokio::time::timeout_at(until, hook.settle()).await;
            ended
        };
        let enough = async {
            if succeeded {
                signals.stop().await;
            }
            signals.stop().await
        };
        tokio::select! {
            ended = ended => ended,
            name = enough => {
                warn!("{name}: ending at once");
                log::flush();
                process::exit(1);
            }
        }
    }

    fn order(&self, order: &Order) {
        for worker in 0..self.mesh.workers() {
            self.mesh.order(worker, order.clone());
        }
    }

    /// Reads the configuration again and hands it to the workers, as far as it can change. Says what was done, or what is
    /// wrong: a configuration that cannot be used changes nothing.
    fn reload(
        &self,
        sources: &Sources,
        running: &mut Loaded,
        (tls, hook): (&mut Option<Tls>, &mut Present),
        judge: &Judge,
    ) -> Result<(String, Resolved), String> {
        let mut read = || -> Result<_, Error> {
            let mut loaded = sources.load()?;
            let kept = loaded.keep_fixed(running);
            let mut resolved = resolve(&mut loaded, self.driver)?;
            let secured = secure(&mut resolved, &mut loaded, tls.as_ref())?;
            // The last, for this changes something.
            let questions = hook.change(resolved.hook.take(), resolved.worker.topics)?;
            resolved.worker.hook = hook.hook();
            Ok((resolved, loaded, kept, secured, questions))
        };
        match read() {
            Ok((resolved, loaded, kept, secured, questions)) => {
                tell_warnings(&loaded);
                self.budget.set_limit(resolved.memory);
                *tls = secured;
                self.ask(questions);
                judge.configure(resolved.worker.clone(), resolved.credentials.clone());
                *running = loaded;
                let text = match &kept[..] {
                    [] => "configuration reloaded".to_owned(),
                    kept => format!(
                        "configuration reloaded; to change {}, start the broker anew",
                        kept.join(", ")
                    ),
                };
                Ok((text, resolved))
            }
            Err(error) => Err(format!(
                "the configuration cannot be used, nothing is changed:\n  {error}"
            )),
        }
    }

    /// Waits until a worker ends that was not told to.
    async fn next_end(&mut self) -> Error {
        loop {
            if let Some((number, News::Ended(reason))) = self.news.recv().await {
                self.running -= 1;
                return ended(number, reason);
            }
        }
    }

    /// Waits until all workers have ended as they were told.
    async fn join(&mut self, limit: Duration) -> Result<(), Error> {
        let all = async {
            let mut first = Ok(());
            while self.running > 0 {
                let Some((number, News::Ended(reason))) = self.news.recv().await else {
                    break;
                };
                self.running -= 1;
                if reason.is_some() && first.is_ok() {
                    first = Err(ended(number, reason));
                }
            }
            first
        };
        match tokio::time::timeout(limit, all).await {
            Ok(result) => result,
            Err(_) => Err(Error::Stuck {
                running: self.running,
                limit,
            }),
        }
    }

    /// What they have counted together.
    fn totals(&self) -> Totals {
        self.counters.iter().map(|counters| counters.totals()).sum()
    }

    /// Says what was done.
    fn report(&self) {
        let words: Vec<String> = self
            .totals()
            .values()
            .filter(|(series, value)| *value > 0 && series.name != "busy")
            .map(|(series, value)| format!("{} {value}", series.name))
            .collect();
        say(format_args!(
            "stopped: {}",
            if words.is_empty() {
                "nothing happened".to_owned()
            } else {
                words.join(", ")
            }
        ));
    }
}

fn ended(number: usize, reason: Option<String>) -> Error {
    Error::Worker {
        number,
        reason: reason.unwrap_or_else(|| "it ended without being told to".to_owned()),
    }
}

/// An address to connect to for one that was listened on: the unspecified one is reached by the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

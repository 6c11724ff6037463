//! The control plane: HTTP for operators and for what watches the broker, on a thread of its own.
//!
//! ```text
//!   /healthz /readyz ──────────────┐
//!   /metrics ── counters, sums ────┤            ┌─ counters: read where they are
//!   /v1/stats ◀── Sampler ─────────┼── State ───┼─ Crew: tasks to the workers, each answered within a time
//!   /v1/connections, publish, … ───┤            └─ Control: reload, drain, by whoever runs the broker
//!   / (the console) ───────────────┘
//! ```
//!
//! Workers are asked for little at a time and never wait for it.

mod answer;
mod client;
mod connections;
mod console;
mod control;
mod crew;
mod guard;
mod health;
mod metrics;
mod openapi;
mod process;
mod publish;
mod sampler;
mod search;
mod stats;
mod tap;
mod topics;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{delete, get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::{Mutex, RwLock};
use tidecast_auth::Authenticator;
use tidecast_broker::TopicLimits;
use tidecast_worker::{Budget, Counters, Mesh};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_io_timeout::TimeoutStream;

pub use client::{AdminClient, AdminClientError};
use crew::Crew;
use guard::Guard;
use metrics::Metrics;
pub use metrics::metrics_table;
pub use openapi::document as openapi;
use sampler::Sampler;

use crate::heart::Heart;

/// Requests to whoever runs the broker that may wait.
const CONTROLS: usize = 8;

/// What the control plane is made of.
#[derive(Clone, Debug)]
pub(crate) struct AdminSettings {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Who may come.
    pub(crate) access: AdminAccess,
}

/// Who may use the control plane.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdminAccess {
    /// Judges tokens; if it takes none, nobody has to bring one.
    pub(crate) tokens: Option<Arc<Authenticator>>,
    /// Names under which browsers may address it.
    pub(crate) hosts: Vec<String>,
}

/// What the control plane wants of whoever runs the broker.
#[derive(Debug)]
pub(crate) enum Control {
    /// Read the configuration again. The answer says what was done, or what is wrong.
    Reload(oneshot::Sender<Result<String, String>>),
    /// Have a new process take over. The answer says which, or why there is none.
    Upgrade(oneshot::Sender<Result<String, String>>),
    /// Say goodbye to everybody and stop. Answered when that has begun.
    Drain(oneshot::Sender<()>),
}

/// How far the broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It starts.
    Starting,
    /// It accepts connections.
    Ready,
    /// It says goodbye to everybody.
    Draining,
}

impl Readiness {
    /// The same in a word.
    fn as_str(self) -> &'static str {
        match self {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
        }
    }
}

/// What the control plane sees of the broker.
pub(crate) struct State {
    counters: Vec<Arc<Counters>>,
    budget: Arc<Budget>,
    cores: Vec<Option<usize>>,
    topics: TopicLimits,
    max_message: AtomicUsize,
    crew: Crew,
    guard: RwLock<Guard>,
    sampler: Mutex<Sampler>,
    heart: Mutex<Heart>,
    metrics: Metrics,
    control: mpsc::Sender<Control>,
    readiness: Mutex<Readiness>,
    /// Another process listens where the control plane does.
    closed: Notify,
    started: Instant,
}

/// What [`State`] is made of.
pub(crate) struct Parts {
    pub(crate) counters: Vec<Arc<Counters>>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) cores: Vec<Option<usize>>,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) topics: TopicLimits,
    pub(crate) max_message: usize,
    pub(crate) access: AdminAccess,
}

impl State {
    /// What is seen of the broker of these parts, and what is wanted of it.
    pub(crate) fn new(parts: Parts) -> (Arc<State>, mpsc::Receiver<Control>) {
        let (control, controls) = mpsc::channel(CONTROLS);
        let state = State {
            heart: Mutex::new(Heart::new(Arc::clone(&parts.mesh), parts.counters.clone())),
            counters: parts.counters,
            budget: parts.budget,
            cores: parts.cores,
            topics: parts.topics,
            max_message: AtomicUsize::new(parts.max_message),
            crew: Crew::new(parts.mesh),
            guard: RwLock::new(Guard::new(parts.access)),
            sampler: Mutex::new(Sampler::new()),
            metrics: Metrics::new(),
            control,
            readiness: Mutex::new(Readiness::Starting),
            closed: Notify::new(),
            started: Instant::now(),
        };
        (Arc::new(state), controls)
    }

    /// Says how far the broker is.
    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        *self.readiness.lock() = readiness;
    }

    /// Takes what is wanted of whoever runs the broker.
    pub(crate) fn control(&self) -> mpsc::Sender<Control> {
        self.control.clone()
    }

    /// Whoever comes from now on is for another process.
    pub(crate) fn close(&self) {
        self.closed.notify_one();
    }

    fn readiness(&self) -> Readiness {
        *self.readiness.lock()
    }

    /// From now on these may come, and messages have so many bytes at the most.
    pub(crate) fn configure(&self, access: AdminAccess, max_message: usize) {
        *self.guard.write() = Guard::new(access);
        self.max_message.store(max_message, Ordering::Relaxed);
    }

    /// How many bytes a message may have.
    fn max_message(&self) -> usize {
        self.max_message.load(Ordering::Relaxed)
    }

    /// How many bytes the body of a request may have: what is larger than a message with its JSON escapes is none.
    fn most_body(&self) -> usize {
        self.max_message().saturating_mul(2).max(1 << 20)
    }
}

/// Everything that can be asked for.
fn routes(state: Arc<State>) -> Router {
    Router::new()
        .route("/", get(console::page))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::scrape))
        .route("/v1/openapi.json", get(openapi::serve))
        .route("/v1/stats", get(stats::stats))
        .route("/v1/publish", post(publish::publish))
        .route("/v1/connections", get(connections::connections))
        .route(
            "/v1/connections/{name}",
            get(connections::connection).delete(connections::disconnect),
        )
        .route("/v1/connections/{name}/subscriptions", delete(connections::unsubscribe))
        .route("/v1/topics", get(topics::topics))
        .route("/v1/tap", get(tap::tap))
        .route("/v1/reload", post(control::reload))
        .route("/v1/upgrade", post(control::upgrade))
        .route("/v1/drain", post(control::drain))
        .route("/v1/log-level", get(control::log_level).put(control::set_log_level))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&state), guard::check))
        .with_state(state)
}

/// Serves on `listener`, on a thread of its own, as long as the process lives or until [`State::close`]; what it returns is over
/// when all that was asked until then has been answered.
///
/// # Errors
/// There can be no thread, or no runtime.
pub(crate) fn serve(listener: TcpListener, state: Arc<State>) -> io::Result<oneshot::Receiver<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(entered);
    let (over, served) = oneshot::channel();
    let run = move || {
        runtime.block_on(async move {
            tokio::spawn(sampler::sample(Arc::clone(&state)));
            accept(listener, &state, routes(Arc::clone(&state))).await;
        });
        // Nobody waits for it as long as the broker runs.
        let _ = over.send(());
    };
    thread::Builder::new().name("admin".to_owned()).spawn(run)?;
    Ok(served)
}

/// Serves connections, a bounded number at a time, until [`State::close`]; those that are there then are served to their ends.
async fn accept(listener: tokio::net::TcpListener, state: &State, routes: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let closed = state.closed.notified();
    tokio::pin!(closed);
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = &mut closed => {
                drop(listener);
                // All places are there when nobody is.
                let _ = room.acquire_many(CONNECTIONS as u32).await;
                return;
            }
        };
        let Ok((stream, _)) = accepted else {
            // No descriptors, or no memory: not worth spinning on.
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        // It does no harm if that fails.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let _place = place;
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            // What goes wrong with a connection is its own affair.
            let _ = builder.serve_connection(TokioIo::new(Box::pin(stream)), service).await;
        });
    }
}

/// Connections that are served at a time; more wait.
const CONNECTIONS: usize = 128;
/// How long a request head may take to arrive, also on a connection that has been served before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what it is sent: it keeps a place that others wait for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting is left alone when it fails.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long workers have to answer.
const PATIENCE: Duration = Duration::from_secs(5);

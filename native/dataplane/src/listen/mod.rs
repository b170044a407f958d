//! Sockets: REST over HTTP/1.1 and HTTP/2, gRPC over TCP and a Unix socket.

mod access_log;
mod body;
mod calls;
mod connection;
mod dispatch;
mod grpc;
mod grpc_connection;
mod health;
mod inference;
mod local;
mod oip_grpc;
mod oip_rest;
mod ops;
mod path;
mod patience;
mod peeked;
mod reload;
mod repository;
mod rest;
mod settings;
mod tfs_grpc;
mod tfs_rest;
mod threads;
mod tls;
mod tokens;
mod upload;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use crate::batch::pool::Pool;
use crate::metrics::Metrics;
pub use crate::request_log::Warn;
use crate::route::{Router, Snapshot};
use crate::servable::Servable;
use crate::skew::InputSample;
use crate::{Code, Error, Result};

use access_log::AccessLog;
pub use reload::ReloadHandler;
use reload::Reloads;
use repository::Repository;
pub use repository::RepositoryHandler;
pub use settings::Settings;
use settings::thread_count;
use threads::{IoThreads, Listener};
use tls::Tls;
pub use tls::{ClientVerify, TlsSettings};
use tokens::Gate;
pub use tokens::Token;

/// What all I/O threads share.
struct Core {
    settings: Settings,
    router: Router,
    metrics: Metrics,
    pool: Pool,
    access_log: Option<AccessLog>,
    reloads: Reloads,
    repository: Repository,
    tls: Tls,
    gate: Gate,
    stopping: AtomicBool,
}

impl Core {
    /// Bytes that the tensors of one request may take: a few bytes can announce a tensor of any size.
    fn tensor_budget(&self) -> usize {
        match self.settings.max_body_bytes {
            0 => usize::MAX,
            bytes => bytes.saturating_mul(16),
        }
    }
}

/// Where the server listens.
#[derive(Clone, Debug, Serialize)]
pub struct Addresses {
    /// `host:port`; absent when REST is off.
    pub rest: Option<String>,
    pub grpc: Option<String>,
    pub grpc_socket: Option<String>,
}

/// A running server: sockets, engine threads and the routes in force.
pub struct Server {
    core: Arc<Core>,
    io: Mutex<Option<IoThreads>>,
    stop: watch::Sender<bool>,
    addresses: Addresses,
    socket_file: Option<PathBuf>,
}

impl Server {
    /// Binds the sockets and starts all threads. Until the first snapshot is applied, requests are told to come back.
    /// `reload` is called when a client sends a new list of models, `repository` when one lists or changes models.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when an address cannot be bound, a file cannot be opened or a thread cannot be started;
    /// `INVALID_ARGUMENT` when the certificates cannot be used.
    pub fn start(
        settings: Settings,
        reload: Option<ReloadHandler>,
        repository: Option<RepositoryHandler>,
    ) -> Result<Server> {
        let failed = |what: &str, error: std::io::Error| {
            Error::new(Code::FailedPrecondition, format!("{what}: {error}")).with_reason("start")
        };
        let (tls, gate) = (Tls::default(), Gate::default());
        if let Some(wanted) = &settings.tls {
            tls.set(wanted)?;
        }
        if let Some(tokens) = &settings.tokens {
            gate.set(tokens)?;
        }
        let listeners = Listener::bind_all(&settings)?;
        let addresses = Addresses {
            rest: address_of(&listeners, |listener| matches!(listener, Listener::Rest(_))),
            grpc: address_of(&listeners, |listener| matches!(listener, Listener::Grpc(_))),
            grpc_socket: address_of(&listeners, |listener| matches!(listener, Listener::GrpcSocket(..))),
        };
        let io_threads = thread_count(settings.io_threads);
        let pool = Pool::start(thread_count(settings.engine_threads))
            .map_err(|error| failed("Engine threads cannot be started", error))?;
        let access_log = AccessLog::open(&settings.access_log)
            .map_err(|error| failed(&format!("The access log {} cannot be opened", settings.access_log), error))?;
        let socket_file = addresses.grpc_socket.as_ref().map(PathBuf::from);
        let core = Arc::new(Core {
            router: Router::new(io_threads, i64::try_from(settings.max_held).unwrap_or(i64::MAX)),
            metrics: Metrics::default(),
            pool,
            access_log,
            reloads: Reloads::new(reload),
            repository: Repository::new(repository),
            tls,
            gate,
            stopping: AtomicBool::new(false),
            settings,
        });
        let stop = watch::Sender::new(false);
        let io = IoThreads::start(&core, io_threads, listeners, &stop)
            .map_err(|error| failed("I/O threads cannot be started", error))?;
        Ok(Server { core, io: Mutex::new(Some(io)), stop, addresses, socket_file })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Makes a snapshot the one in force; see [`Router::apply`].
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the snapshot contradicts itself; then the old one stays.
    pub fn apply(&self, snapshot: Snapshot, servables: &HashMap<String, Arc<Servable>>) -> Result<()> {
        self.core.router.apply(snapshot, servables, &self.core.metrics)
    }

    /// Takes other certificates, for the handshakes from now on; open connections stay.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when the server speaks in plain text; `INVALID_ARGUMENT` when the certificates cannot be
    /// used; then the old ones stay.
    pub fn set_tls(&self, settings: &TlsSettings) -> Result<()> {
        if self.core.settings.tls.is_none() {
            return Err(tls::is_off());
        }
        self.core.tls.set(settings)
    }

    /// Takes other tokens, for the requests from now on.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when the server asks for no tokens; `INVALID_ARGUMENT` when one of them cannot be read; then
    /// the old ones stay.
    pub fn set_tokens(&self, tokens: &[Token]) -> Result<()> {
        if self.core.settings.tokens.is_none() {
            return Err(tokens::are_off());
        }
        self.core.gate.set(tokens)
    }

    /// Who hears of trouble with the files of the request log, on the thread that writes them.
    pub fn on_warning(&self, warn: Warn) {
        self.core.router.logs().on_warning(warn);
    }

    /// The inputs that were kept since the last call; see [`Skew`](crate::skew::Skew).
    pub fn take_inputs(&self) -> Vec<InputSample> {
        self.core.router.skew().take()
    }

    /// What the page of metrics says of them from now on.
    pub fn set_skew_metrics(&self, page: String) {
        self.core.router.skew().set_page(page);
    }

    /// The models that requests wait for; see [`Demand::wait`](crate::demand::Demand::wait). None once stopped.
    pub fn wait_demand(&self, timeout: Duration) -> Option<Vec<String>> {
        self.core.router.demand().wait(timeout)
    }

    /// How each model that answers is used, as JSON: `{"model": {"idle_s": 1.5, "in_flight": 0}}`.
    pub fn usage(&self) -> String {
        serde_json::to_string(&self.core.router.usage()).unwrap_or_default()
    }

    /// The page that Prometheus reads.
    pub fn metrics(&self) -> String {
        ops::metrics_page(&self.core)
    }

    /// Not ready from now on; new connections are refused, what was accepted is finished within `grace`. True when
    /// everything was. A second call has no effect.
    pub fn stop(&self, grace: Duration) -> bool {
        let Some(io) = self.io.lock().unwrap_or_else(PoisonError::into_inner).take() else { return true };
        self.core.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        // Those who watch our health hear of it.
        self.core.router.wake();
        let deadline = Instant::now() + grace;
        let finished = io.join(deadline);
        self.core.pool.stop(deadline);
        self.core.router.close();
        if let Some(log) = &self.core.access_log {
            log.flush();
        }
        if let Some(file) = &self.socket_file {
            let _ = std::fs::remove_file(file);
        }
        finished
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

fn address_of(listeners: &[Listener], wanted: impl Fn(&Listener) -> bool) -> Option<String> {
    listeners.iter().find(|listener| wanted(listener)).map(Listener::address)
}

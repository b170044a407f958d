//! The threads that own sockets. One of them accepts and hands each connection to the thread with the fewest.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::local::Local;
use super::{Core, Settings, connection};
use crate::metrics::InFlight;
use crate::{Code, Error, Result, priority};

/// How long a TCP connection may be silent before the system asks whether its client is still there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Bodies that are read or written apart from their I/O thread, for each of these.
const LARGE_BODIES_AT_ONCE: usize = 2;

/// A bound socket.
pub(super) enum Listener {
    Rest(TcpListener),
    Grpc(TcpListener),
    GrpcSocket(UnixListener, PathBuf),
}

impl Listener {
    /// Binds everything that the settings name.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` naming the address that cannot be had.
    pub(super) fn bind_all(settings: &Settings) -> Result<Vec<Listener>> {
        let mut bound = Vec::new();
        if !settings.rest_address.is_empty() {
            bound.push(Listener::Rest(bind(&settings.rest_address)?));
        }
        if !settings.grpc_address.is_empty() {
            bound.push(Listener::Grpc(bind(&settings.grpc_address)?));
        }
        if !settings.grpc_socket_path.is_empty() {
            let path = PathBuf::from(&settings.grpc_socket_path);
            bound.push(Listener::GrpcSocket(bind_socket(&path)?, path));
        }
        Ok(bound)
    }

    pub(super) fn address(&self) -> String {
        match self {
            Listener::Rest(listener) | Listener::Grpc(listener) => {
                listener.local_addr().map_or_else(|_| String::new(), |address| address.to_string())
            }
            Listener::GrpcSocket(_, path) => path.display().to_string(),
        }
    }
}

fn bind(address: &str) -> Result<TcpListener> {
    let bound = std::net::ToSocketAddrs::to_socket_addrs(address)
        .and_then(|mut found| found.next().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into()))
        .and_then(listen);
    bound.map_err(|error| cannot_listen(address, &error))
}

fn listen(address: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A server that is started again must not wait for the connections of the one before.
    socket.set_reuse_address(true)?;
    // Connections inherit it: those whose client has vanished from the net do not stay for ever.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn bind_socket(path: &Path) -> Result<UnixListener> {
    // A file that nobody listens on was left behind by a server that died.
    if path.exists() && UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    UnixListener::bind(path)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| cannot_listen(&path.display().to_string(), &error))
}

fn cannot_listen(address: &str, error: &std::io::Error) -> Error {
    Error::new(Code::FailedPrecondition, format!("Cannot listen on {address}: {error}")).with_reason("cannot_listen")
}

/// An accepted connection on its way to its thread.
pub(super) enum Accepted {
    Rest(TcpStream),
    Grpc(TcpStream),
    GrpcSocket(UnixStream),
}

/// All threads that own sockets.
pub(super) struct IoThreads {
    threads: Vec<JoinHandle<()>>,
    finished: std_mpsc::Receiver<()>,
    abort: watch::Sender<bool>,
}

/// How one thread is reached by the one that accepts.
struct Door {
    send: mpsc::UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
}

impl IoThreads {
    pub(super) fn start(
        core: &Arc<Core>,
        count: usize,
        listeners: Vec<Listener>,
        stop: &watch::Sender<bool>,
    ) -> std::io::Result<IoThreads> {
        let (doors, receivers): (Vec<Door>, Vec<_>) = (0..count)
            .map(|_| {
                let (send, receive) = mpsc::unbounded_channel();
                let connections = Arc::new(AtomicUsize::new(0));
                (Door { send, connections: connections.clone() }, (receive, connections))
            })
            .unzip();
        let abort = watch::Sender::new(false);
        let (done, finished) = std_mpsc::channel();
        let mut acceptor = Some((listeners, doors));
        let mut threads = Vec::with_capacity(count);
        for (index, (accepted, connections)) in receivers.into_iter().enumerate() {
            let thread = IoThread {
                core: core.clone(),
                index,
                accepted,
                connections,
                stop: stop.subscribe(),
                abort: abort.subscribe(),
            };
            let acceptor = acceptor.take();
            let done = done.clone();
            let name = format!("servable-io-{index}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || {
                thread.run(acceptor);
                let _ = done.send(());
            })?);
        }
        Ok(IoThreads { threads, finished, abort })
    }

    /// Waits until every thread has finished its connections, at most until `deadline`; then cuts them.
    pub(super) fn join(self, deadline: Instant) -> bool {
        let mut graceful = true;
        for _ in &self.threads {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.finished.recv_timeout(left).is_err() {
                graceful = false;
                break;
            }
        }
        self.abort.send_replace(true);
        for thread in self.threads {
            let _ = thread.join();
        }
        graceful
    }
}

struct IoThread {
    core: Arc<Core>,
    index: usize,
    accepted: mpsc::UnboundedReceiver<Accepted>,
    connections: Arc<AtomicUsize>,
    stop: watch::Receiver<bool>,
    abort: watch::Receiver<bool>,
}

impl IoThread {
    fn run(self, acceptor: Option<(Vec<Listener>, Vec<Door>)>) {
        priority::prompt();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LARGE_BODIES_AT_ONCE)
            .build()
            .expect("a runtime can be made");
        let local = Local::install(self.index);
        let tasks = LocalSet::new();
        tasks.spawn_local(local.run_batches());
        if let Some((listeners, doors)) = acceptor {
            let doors = Rc::new(doors);
            for listener in listeners {
                tasks.spawn_local(accept(self.core.clone(), listener, doors.clone(), self.stop.clone()));
            }
        }
        tasks.block_on(&runtime, self.serve());
    }

    /// Serves connections until the server stops and the last one is finished, or until they are cut.
    async fn serve(mut self) {
        let mut abort = self.abort.clone();
        let serving = async {
            let mut open = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    biased;
                    accepted = self.accepted.recv() => match accepted {
                        Some(accepted) => self.open(accepted, &mut open),
                        None => break,
                    },
                    Some(_) = open.join_next() => {}
                }
            }
            while open.join_next().await.is_some() {}
        };
        tokio::select! {
            () = serving => {}
            _ = abort.wait_for(|abort| *abort) => {}
        }
    }

    fn open(&self, accepted: Accepted, open: &mut tokio::task::JoinSet<()>) {
        let (core, stop, connections) = (self.core.clone(), self.stop.clone(), self.connections.clone());
        open.spawn_local(async move {
            let _open = InFlight::new(&core.metrics.connections, 1);
            connection::serve(&core, accepted, stop).await;
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Accepts until the server stops. Dropping the doors is what tells the threads that no connection will come.
async fn accept(core: Arc<Core>, listener: Listener, doors: Rc<Vec<Door>>, mut stop: watch::Receiver<bool>) {
    let accepting = async {
        match listener {
            Listener::Rest(listener) => accept_tcp(&core, listener, &doors, Accepted::Rest).await,
            Listener::Grpc(listener) => accept_tcp(&core, listener, &doors, Accepted::Grpc).await,
            Listener::GrpcSocket(listener, _) => accept_unix(&core, listener, &doors).await,
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn accept_tcp(core: &Core, listener: TcpListener, doors: &[Door], wrap: fn(TcpStream) -> Accepted) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(stream) = stream.into_std() else { continue };
                let _ = stream.set_nodelay(true);
                hand_over(core, wrap(stream), doors);
            }
            Err(_) => pause().await,
        }
    }
}

async fn accept_unix(core: &Core, listener: UnixListener, doors: &[Door]) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(stream) = stream.into_std() else { continue };
                hand_over(core, Accepted::GrpcSocket(stream), doors);
            }
            Err(_) => pause().await,
        }
    }
}

/// Out of file descriptors, most likely: accepting again at once would spin.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn hand_over(core: &Core, accepted: Accepted, doors: &[Door]) {
    let open: usize = doors.iter().map(|door| door.connections.load(Ordering::Relaxed)).sum();
    let limit = core.settings.max_connections;
    if limit > 0 && open >= limit {
        // Closed at once, unread: a client over the limit must not cost more than that.
        core.metrics.refused("too_many_connections");
        return;
    }
    if let Some(door) = doors.iter().min_by_key(|door| door.connections.load(Ordering::Relaxed)) {
        door.connections.fetch_add(1, Ordering::Relaxed);
        let _ = door.send.send(accepted);
    }
}

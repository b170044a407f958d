//! One connection: which protocol it speaks, its limits, and its orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::body::Reply;
use super::patience::{Answering, Watch, Watched};
use super::peeked::Peeked;
use super::threads::Accepted;
use super::tls::{self, Opened, Port};
use super::{Core, grpc_connection, rest};
use crate::http2::PREFACE;

/// Bytes in flight that an HTTP/2 peer may have on one stream, and on one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Large frames spare large tensors a thousand small steps.
const FRAME_SIZE: u32 = 256 << 10;
const STREAMS: u32 = 1000;
const READ_BUFFER: usize = 32 << 10;
/// How long the rest of a request is waited for that is not answered.
const TAKE_REST: Duration = Duration::from_millis(100);
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n\
    content-length: 73\r\n\r\n{\"error\": \"The head of the request was not there in time (send_timeout)\"}";
const NOT_GRPC: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n\
    content-length: 67\r\n\r\n{\"error\": \"This port speaks gRPC only: REST has a port of its own\"}";
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n\
    content-length: 59\r\n\r\n{\"error\": \"This port speaks TLS: use https:// or grpcs://\"}";
/// A connection without an open request on which nothing happens for so long does not keep the server from stopping.
pub(super) const LINGER: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection until it ends, or, once the server stops, until its open requests are answered.
pub(super) async fn serve(core: &Arc<Core>, accepted: Accepted, stop: watch::Receiver<bool>) {
    let (port, stream) = match accepted {
        Accepted::Rest(stream) => (Port::Rest, stream),
        Accepted::Grpc(stream) => (Port::Grpc, stream),
        Accepted::GrpcSocket(stream) => {
            let Ok(stream) = UnixStream::from_std(stream) else { return };
            return match core.tls.acceptor(Port::GrpcSocket) {
                Some(acceptor) => serve_tls(core, acceptor, Port::GrpcSocket, stream, stop).await,
                None => grpc_connection::serve(core, stream, stop).await,
            };
        }
    };
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    if let Some(acceptor) = core.tls.acceptor(port) {
        return serve_tls(core, acceptor, port, stream, stop).await;
    }
    if let Some(http2) = first_words(core, speaks_http2(&stream), &stop).await {
        serve_http(core, port, http2, stream, stop).await;
    }
}

/// Boxed: a connection in plain text is not to pay for the size of this one.
fn serve_tls<'a, S>(
    core: &'a Arc<Core>,
    acceptor: tokio_rustls::TlsAcceptor,
    port: Port,
    stream: S,
    stop: watch::Receiver<bool>,
) -> Pin<Box<dyn Future<Output = ()> + 'a>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    Box::pin(async move {
        match tls::open(core, acceptor, stream, &stop).await {
            None => {}
            Some(Opened::Plain(stream)) => refuse_plain_text(core, stream).await,
            Some(Opened::Secure(mut stream)) => {
                // The preface alone decides: it is there wherever ALPN chose h2, and also where a client has no ALPN.
                let spoken = async { stream.peek_http2().await };
                if let Some(http2) = first_words(core, spoken, &stop).await {
                    serve_http(core, port, http2, *stream, stop).await;
                }
            }
        }
    })
}

async fn serve_http<S>(core: &Arc<Core>, port: Port, http2: bool, stream: S, stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match (port, http2) {
        (Port::Rest, true) => serve_http2(core, stream, stop).await,
        (Port::Rest, false) => serve_http1(core, stream, stop).await,
        (_, true) => grpc_connection::serve(core, stream, stop).await,
        (_, false) => tell(stream, NOT_GRPC).await,
    }
}

/// Tells a client that it should have begun with a TLS handshake. In HTTP/1.1 also where it speaks HTTP/2: gRPC clients
/// show that they came upon HTTP/1.1 and give up, while they come back at once after an orderly GOAWAY.
async fn refuse_plain_text<S>(core: &Core, mut stream: Peeked<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    core.metrics.refused("not_tls");
    // What it sent is taken first: closing on unread bytes would reset the connection, and lose the answer. Twice, since
    // the first time gives what was looked at.
    let mut sent = vec![0; READ_BUFFER];
    for _ in 0..2 {
        let _ = tokio::time::timeout(TAKE_REST, stream.read(&mut sent)).await;
    }
    tell(stream, NOT_TLS).await;
}

/// Sends a few last words, as far as the client takes them at once.
async fn tell(mut stream: impl AsyncWrite + Unpin, words: &[u8]) {
    let mut telling = pin!(async {
        stream.write_all(words).await?;
        stream.shutdown().await
    });
    let once = |context: &mut Context<'_>| {
        let _ = telling.as_mut().poll(context);
        Poll::Ready(())
    };
    std::future::poll_fn(once).await;
}

/// Whether a new connection speaks HTTP/2; `None` where it says nothing in time, or before the server stops.
async fn first_words(
    core: &Core,
    spoken: impl Future<Output = Option<bool>>,
    stop: &watch::Receiver<bool>,
) -> Option<bool> {
    let mut stop = stop.clone();
    let late = async {
        match core.settings.send_timeout() {
            None => std::future::pending().await,
            Some(limit) => tokio::time::sleep(limit).await,
        }
    };
    tokio::select! {
        biased;
        spoken = spoken => spoken,
        () = late => None,
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// Looks at the first bytes without taking them; `None` when the client has gone.
async fn speaks_http2(stream: &TcpStream) -> Option<bool> {
    let mut start = [0u8; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut start).await.ok()?;
        if seen == 0 {
            return None;
        }
        if start[..seen] != PREFACE[..seen] {
            return Some(false);
        }
        if seen == PREFACE.len() {
            return Some(true);
        }
        // A few bytes of the preface alone: peeking again at once would spin until the next ones come.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn serve_http1<S>(core: &Arc<Core>, stream: S, stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let watch = Rc::new(Watch::default());
    let service = service_fn(|request| answer(core.clone(), request, watch.answering()));
    let mut connection = http1::Builder::new()
        .max_header_size(core.settings.max_header_bytes)
        .serve_connection(TokioIo::new(Watched { stream, watch: watch.clone() }), service);
    let impatient = async {
        match core.settings.send_timeout() {
            None => std::future::pending().await,
            Some(limit) => out_of_patience(&watch, limit).await,
        }
    };
    let late = tokio::select! {
        biased;
        () = until_stopped(Pin::new(&mut connection), stop, &watch, |connection| connection.graceful_shutdown()) => return,
        late = impatient => late,
    };
    core.metrics.refused("send_timeout");
    if let Late::Head = late {
        tell(connection.into_parts().io.into_inner().stream, TOO_SLOW).await;
    }
}

/// What a client takes too long for.
enum Late {
    Head,
    Reading,
}

/// Returns once a client takes longer than `limit` to send a head or to read on, give or take a quarter.
async fn out_of_patience(watch: &Watch, limit: Duration) -> Late {
    let mut ticks = tokio::time::interval((limit / 4).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if watch.is_unread(limit) {
            return Late::Reading;
        }
        if watch.is_late(limit) {
            return Late::Head;
        }
    }
}

/// Reads from the socket in larger pieces than h2 would: a system call costs more than a copy.
fn buffered<S: AsyncRead + AsyncWrite>(stream: S) -> TokioIo<BufReader<S>> {
    TokioIo::new(BufReader::with_capacity(READ_BUFFER, stream))
}

async fn serve_http2<S>(core: &Arc<Core>, stream: S, stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let watch = Rc::new(Watch::default());
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(core.settings.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let service = service_fn(|request| answer(core.clone(), request, watch.answering()));
    let connection = pin!(builder.serve_connection(buffered(Watched { stream, watch: watch.clone() }), service));
    until_stopped(connection, stop, &watch, |connection| connection.graceful_shutdown()).await;
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>>>>;

/// Boxed, since hyper and tokio move a request's future several times before it first runs: a large one would be
/// copied each time.
fn answer(core: Arc<Core>, request: Request<Incoming>, answering: Answering) -> Answer {
    Box::pin(async move {
        let _answering = answering;
        Ok(rest::answer(&core, request).await)
    })
}

/// Drives a connection; when the server stops, lets it finish what it has begun.
async fn until_stopped<C: Future>(
    mut connection: Pin<&mut C>,
    mut stop: watch::Receiver<bool>,
    watch: &Watch,
    graceful_shutdown: impl FnOnce(Pin<&mut C>),
) {
    {
        let mut stopped = pin!(stop.wait_for(|stop| *stop));
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            _ = stopped.as_mut() => {}
        }
    }
    graceful_shutdown(connection.as_mut());
    tokio::select! {
        biased;
        // How it ended is the client's business: errors here are broken connections.
        _ = connection => {}
        () = watch.quiet(LINGER) => {}
    }
}

/// Runs the futures of a connection on the thread that owns its socket.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

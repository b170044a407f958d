//! One gRPC connection: bytes between the socket and `http2`, calls between `http2` and the services.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::Core;
use super::calls::Calls;
use super::connection::LINGER;
use super::grpc::{self, Outcome};
use crate::http2::{Connection, Event, Head, Limits};
use crate::{Error, Result};

/// Read at once: a few large requests, or some dozens of small ones.
const READ: usize = 64 << 10;

/// Serves a connection until it ends, or, once the server stops or the connection is old, until its open calls are
/// answered.
pub(super) async fn serve<S>(core: &Arc<Core>, socket: S, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut driver = Driver::new(core.clone(), socket);
    tokio::select! {
        biased;
        () = driver.run() => return driver.close().await,
        _ = stop.wait_for(|stop| *stop) => {}
        () = growing_old(core) => {}
    }
    driver.shut_down();
    driver.run().await;
    driver.close().await;
}

/// Ends when a connection has reached its age, which differs between connections: clients are not to come back all at
/// once.
async fn growing_old(core: &Core) {
    let Some(age) = core.settings.grpc.max_connection_age() else { return std::future::pending().await };
    let spread = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    tokio::time::sleep(age.mul_f64(0.9 + 0.2 * spread)).await;
}

/// An answer on its way to the client: what the call gave, and the request's id, which comes back.
type Answer = (Result<Outcome>, Option<Bytes>);

struct Driver<S> {
    core: Arc<Core>,
    socket: S,
    http2: Connection,
    input: BytesMut,
    calls: Calls<Answer>,
    /// Answers of any number of messages that are not at their end.
    streaming: Vec<(u32, mpsc::Receiver<Bytes>)>,
    timer: Pin<Box<Sleep>>,
    /// What this connection adds to the bytes that the server holds.
    held: usize,
    /// Since the server stops: when a client that is silent is left behind.
    leave_at: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn new(core: Arc<Core>, socket: S) -> Driver<S> {
        let settings = &core.settings;
        let limits = Limits {
            max_header_bytes: settings.max_header_bytes,
            max_body_bytes: match settings.grpc.max_message_bytes {
                0 => settings.max_body_bytes,
                bytes => bytes,
            },
            max_streams: settings.grpc.max_streams,
            ping_interval: settings.grpc.keepalive(),
            ping_timeout: settings.grpc.keepalive_timeout(),
            request_timeout: settings.send_timeout(),
            ..Limits::default()
        };
        let now = Instant::now();
        let mut http2 = Connection::new(limits, now);
        if core.gate.is_closed() {
            let core = core.clone();
            http2.admit_with(Box::new(move |head| grpc::admit(&core, head).is_ok()));
        }
        Driver {
            http2,
            core,
            socket,
            input: BytesMut::with_capacity(READ),
            calls: Calls::new(),
            streaming: Vec::new(),
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            held: 0,
            leave_at: None,
        }
    }

    fn shut_down(&mut self) {
        self.http2.shut_down();
        self.leave_at = Some(Instant::now() + LINGER);
    }

    /// Takes leave in order, where all was written.
    async fn close(&mut self) {
        if !self.http2.output().has_remaining() {
            let _ = tokio::time::timeout(LINGER, self.socket.shutdown()).await;
        }
    }

    async fn run(&mut self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }

    /// Does all that can be done now. Ready when the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            self.take_answers(context);
            self.poll_streaming(context);
            if self.poll_write(context).is_err() || self.http2.is_done() {
                return Poll::Ready(());
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => self.receive(),
                Poll::Pending => {
                    ready!(self.poll_time(context));
                    if self.left_behind() {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if !self.http2.wants_input() {
            return Poll::Pending;
        }
        self.input.reserve(READ / 2);
        poll_read_buf(Pin::new(&mut self.socket), context, &mut self.input)
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        loop {
            let output = self.http2.output();
            if !output.has_remaining() {
                // A TLS stream keeps what its socket does not take.
                let _ = Pin::new(&mut self.socket).poll_flush(context)?;
                return Ok(());
            }
            match poll_write_buf(Pin::new(&mut self.socket), context, output) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }

    fn receive(&mut self) {
        let limit = self.core.settings.max_queued_bytes;
        let others = self.core.metrics.queued_bytes.load(Ordering::Relaxed).max(0) as usize;
        let room = if limit == 0 { usize::MAX } else { (limit + self.held).saturating_sub(others) };
        self.http2.receive(&mut self.input, Instant::now(), room);
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.http2.next_event() {
            match event {
                Event::Request { stream, head, .. } if !grpc::is_grpc(&head) => self.http2.refuse_http(stream, 415),
                Event::Request { stream, head, body } => self.start(stream, head, body),
                Event::Rejected { stream, head, why } => {
                    let error = grpc::rejection(&self.core, &head, why);
                    self.refuse(stream, &error);
                }
                Event::Reset { stream } => {
                    self.calls.give_up(stream);
                    self.streaming.retain(|(open, _)| *open != stream);
                }
            }
        }
        self.account();
    }

    fn start(&mut self, stream: u32, head: Head, body: Bytes) {
        let core = self.core.clone();
        let call = async move {
            let outcome = grpc::answer(&core, &head, body).await;
            (outcome, head.request_id)
        };
        if let Some(answer) = self.calls.start(stream, call) {
            self.answer(stream, answer);
        }
    }

    fn take_answers(&mut self, context: &Context<'_>) {
        let mut answers = Vec::new();
        self.calls.poll(context, |stream, answer| answers.push((stream, answer)));
        for (stream, answer) in answers {
            self.answer(stream, answer);
        }
        self.account();
    }

    fn answer(&mut self, stream: u32, (outcome, request_id): Answer) {
        let fields: &[(&str, &[u8])] = match &request_id {
            Some(id) => &[("x-request-id", id)],
            None => &[],
        };
        match outcome {
            Ok(Outcome::Message(frame)) if fields.is_empty() => self.http2.respond(stream, grpc::seal(frame)),
            Ok(Outcome::Message(frame)) => {
                self.http2.start_stream(stream, fields);
                self.http2.send_message(stream, grpc::seal(frame));
                self.http2.finish(stream, &[]);
            }
            Ok(Outcome::Stream(messages)) => {
                self.http2.start_stream(stream, fields);
                self.streaming.push((stream, messages));
            }
            Err(error) => self.refuse(stream, &error),
        }
    }

    fn refuse(&mut self, stream: u32, error: &Error) {
        let trailers = grpc::trailers(error);
        let trailers: Vec<(&str, &[u8])> = trailers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        self.http2.refuse(stream, &trailers);
    }

    /// Passes messages on as they come; a slow client holds its own up.
    fn poll_streaming(&mut self, context: &mut Context<'_>) {
        let http2 = &mut self.http2;
        self.streaming.retain_mut(|(stream, messages)| {
            while http2.unsent(*stream) == Some(0) {
                match messages.poll_recv(context) {
                    Poll::Pending => return true,
                    Poll::Ready(Some(message)) => http2.send_message(*stream, message),
                    Poll::Ready(None) => {
                        http2.finish(*stream, &[]);
                        return false;
                    }
                }
            }
            http2.unsent(*stream).is_some()
        });
    }

    /// Pending with the timer set; ready never, unless time has made something to write.
    fn poll_time(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let wanted = [self.http2.next_deadline(), self.leave_at].into_iter().flatten().min();
            let Some(wanted) = wanted else { return Poll::Pending };
            if self.timer.deadline().into_std() > wanted || self.timer.is_elapsed() {
                self.timer.as_mut().reset(wanted.into());
            }
            ready!(self.timer.as_mut().poll(context));
            self.http2.check_time(Instant::now());
            self.take_events();
            if self.http2.output().has_remaining() || self.http2.is_done() || self.left_behind() {
                return Poll::Ready(());
            }
        }
    }

    /// Whether the server stops and this client, with nothing open, does not take its leave.
    fn left_behind(&mut self) -> bool {
        let Some(leave_at) = self.leave_at else { return false };
        let now = Instant::now();
        if self.http2.open_streams() > 0 || !self.calls.is_empty() || self.http2.output().has_remaining() {
            self.leave_at = Some(now + LINGER);
            return false;
        }
        leave_at <= now
    }

    /// Brings the server's count of held bytes up to date.
    fn account(&mut self) {
        let held = self.http2.held_bytes();
        if held != self.held {
            let change = held as i64 - self.held as i64;
            self.core.metrics.queued_bytes.fetch_add(change, Ordering::Relaxed);
            self.held = held;
        }
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.core.metrics.queued_bytes.fetch_sub(self.held as i64, Ordering::Relaxed);
    }
}

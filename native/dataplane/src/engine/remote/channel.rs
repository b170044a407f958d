//! One connection to another server, made anew when it breaks.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Request, Response, header};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::address::Address;
use super::message::Arriving;
use super::status;
use crate::{Code, Error, Result};

const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Pauses between attempts to connect: the first, doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Large tensors come in few frames, and many at once.
const FRAME_BYTES: u32 = 1 << 20;
const WINDOW_BYTES: u32 = 64 << 20;

pub(super) struct Channel {
    address: Address,
    authorization: Option<HeaderValue>,
    max_message_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<SendRequest<Bytes>>,
    failures: u32,
    /// Before then nobody tries to connect.
    pause_until: Option<Instant>,
    last_failure: String,
}

impl Channel {
    /// Connects with the first call.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a token that no header can carry.
    pub(super) fn new(address: Address, token: Option<&str>, max_message_bytes: usize) -> Result<Channel> {
        let authorization = token.map(|token| HeaderValue::try_from(format!("Bearer {token}"))).transpose();
        let mut authorization =
            authorization.map_err(|_| Error::invalid("The token has characters that no header can carry"))?;
        authorization.iter_mut().for_each(|value| value.set_sensitive(true));
        Ok(Channel { address, authorization, max_message_bytes, state: Mutex::default() })
    }

    /// Sends one message and gives the one that answers it. Dropping the future gives the call up on the other side.
    ///
    /// # Errors
    /// What the other server says, with its code and message; `UNAVAILABLE` where it cannot be reached or goes away.
    pub(super) async fn call(&self, frame: Vec<Bytes>, deadline: Option<Instant>) -> Result<Bytes> {
        let mut connection = self.connection().await?;
        let request = self.request(deadline)?;
        let (response, mut body) = connection.send_request(request, false).map_err(|error| self.lost(&error))?;
        let mut parts = frame.into_iter().peekable();
        while let Some(part) = parts.next() {
            // Whoever answers before it has read everything may close the stream: its answer says why.
            if body.send_data(part, parts.peek().is_none()).is_err() {
                break;
            }
        }
        let response = response.await.map_err(|error| self.lost(&error))?;
        self.read(response).await
    }

    async fn read(&self, response: Response<h2::RecvStream>) -> Result<Bytes> {
        if let Some(Err(error)) = status::read(response.headers()) {
            return Err(error);
        }
        if response.status() != http::StatusCode::OK {
            return Err(self.unavailable(format!("answers with HTTP status {}", response.status().as_u16())));
        }
        let mut body = response.into_body();
        let mut arriving = Arriving::new(self.max_message_bytes);
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(|error| self.lost(&error))?;
            // Told before the chunk is put away: the other side can go on meanwhile.
            let _ = body.flow_control().release_capacity(chunk.len());
            if !chunk.is_empty() {
                arriving.push(chunk)?;
            }
        }
        let trailers = body.trailers().await.map_err(|error| self.lost(&error))?.unwrap_or_default();
        status::read(&trailers).unwrap_or_else(|| Err(self.unavailable("ended a call without a status".to_owned())))?;
        arriving.finish()
    }

    fn request(&self, deadline: Option<Instant>) -> Result<Request<()>> {
        let uri = format!("http://{}{PATH}", self.address.authority());
        let mut request =
            Request::post(uri).header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers");
        if let Some(token) = &self.authorization {
            request = request.header(header::AUTHORIZATION, token);
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            request = request.header("grpc-timeout", status::timeout(left));
        }
        request.body(()).map_err(|error| Error::internal(format!("The call cannot be written: {error}")))
    }

    /// A connection that takes another call; waits for one.
    async fn connection(&self) -> Result<SendRequest<Bytes>> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            if let Ok(ready) = connection.clone().ready().await {
                return Ok(ready);
            }
            state.connection = None;
        }
        if state.pause_until.is_some_and(|until| Instant::now() < until) {
            return Err(self.unavailable(state.last_failure.clone()));
        }
        match tokio::time::timeout(CONNECT_LIMIT, self.connect()).await {
            Ok(Ok(connection)) => {
                *state = State { connection: Some(connection.clone()), ..State::default() };
                Ok(connection)
            }
            failed => {
                let why = failed.map_or_else(
                    |_| "connecting takes too long".to_owned(),
                    |result| result.err().map_or_else(String::new, |error| error.to_string()),
                );
                state.note_failure(format!("cannot be reached: {why}"));
                Err(self.unavailable(state.last_failure.clone()))
            }
        }
    }

    async fn connect(&self) -> std::io::Result<SendRequest<Bytes>> {
        let stream = self.address.connect().await?;
        let mut settings = h2::client::Builder::new();
        settings
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .enable_push(false);
        let (requests, connection) = settings.handshake(stream).await.map_err(std::io::Error::other)?;
        // It ends when the last call and the channel are gone, or with an error that each of its calls is told.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        requests.ready().await.map_err(std::io::Error::other)
    }

    fn lost(&self, error: &h2::Error) -> Error {
        match error.reason().filter(|_| error.is_reset()) {
            Some(h2::Reason::CANCEL) => Error::new(Code::Cancelled, "The replica gave the call up"),
            Some(h2::Reason::ENHANCE_YOUR_CALM) => {
                Error::new(Code::ResourceExhausted, "The replica has too many calls")
            }
            _ => self.unavailable(format!("broke the call off: {error}")),
        }
    }

    fn unavailable(&self, what: String) -> Error {
        Error::new(Code::Unavailable, format!("The replica at {} {what}", self.address))
            .with_reason("replica_unavailable")
            .with_retry_after(Duration::from_secs(1))
    }
}

impl State {
    fn note_failure(&mut self, why: String) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LAST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.pause_until = Some(Instant::now() + pause);
        self.last_failure = why;
    }
}

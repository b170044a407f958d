//! An uploaded model: its archive is streamed to a file, a few pieces in memory at a time.
//!
//! A thread of its own does what may take long. It asks the handler whether the upload is welcome and for a file to fill
//! (`begin`), writes, has the handler make a version of the file (`finish`), removes the file, whatever happened, and
//! then waits for the version to be served (`uploaded`).

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use hyper::body::{Body, Incoming};
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::Core;
use super::body::{next_data, too_slow};
use super::dispatch::stopped;
use super::repository::{RepositoryHandler, apart, is_off};
use crate::{Code, Error, Result};

/// Pieces on their way to the disk.
const PIECES: usize = 4;
/// Bytes that a client has to send in each second on average, after the time to send a request.
const SLOWEST: u64 = 16 << 10;
/// How long the rest of a body is taken that was refused, so that the client comes to read the answer.
const TAKE_REST: Duration = Duration::from_secs(1);
const DIGESTS: [HeaderName; 2] = [HeaderName::from_static("repr-digest"), HeaderName::from_static("content-digest")];

enum Piece {
    Data(Bytes),
    /// All of it was there: what ends without this one was broken off.
    End,
}

/// What the handler says to `begin`.
#[derive(Deserialize)]
struct Begun {
    /// An empty file that is to be filled.
    path: PathBuf,
}

/// Takes an upload in; returns the answer of the handler.
///
/// # Errors
/// Those of the handler; 413 for an archive that is too large, 507 where the disk is full, 408 for a client that is too
/// slow, 503 while too many others upload.
pub(super) async fn receive(core: &Core, head: &Parts, request: Value, mut body: Incoming) -> Result<String> {
    let announced = body.size_hint().exact();
    let answer = match check_length(core, announced.unwrap_or(0)) {
        Ok(()) => take(core, head, request, &mut body, announced).await,
        Err(error) => Err(error),
    };
    // To read on would ask a client for its body that waits for leave to send it.
    if answer.is_err() && !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
        let rest = async { while let Ok(Some(_)) = next_data(&mut body).await {} };
        let _ = tokio::time::timeout(TAKE_REST, rest).await;
    }
    answer
}

async fn take(
    core: &Core,
    head: &Parts,
    mut request: Value,
    body: &mut Incoming,
    announced: Option<u64>,
) -> Result<String> {
    let handler = core.repository.handler.clone().ok_or_else(is_off)?;
    let permit = core.repository.uploads.clone().try_acquire_owned().map_err(|_| too_many())?;
    request["size"] = Value::from(announced);
    request["digests"] = digests(&head.headers)?;
    let (pieces, received) = mpsc::channel(PIECES);
    let (ready, is_ready) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    apart(move || {
        let stored = store(&handler, request, ready, received);
        drop(permit);
        // Nobody may be waiting any more.
        let _ = done.send(stored.and_then(|request| handler(request.to_string())));
    })?;
    let sent = match is_ready.await {
        Ok(()) => forward(core, body, &pieces).await,
        Err(_) => Ok(()), // refused: why comes below
    };
    drop(pieces);
    sent?;
    is_done.await.unwrap_or_else(|_| Err(Error::internal("The upload failed inside")))
}

fn check_length(core: &Core, length: u64) -> Result<()> {
    let limit = core.settings.max_upload_bytes;
    if limit > 0 && length > limit { Err(too_large(length, limit)) } else { Ok(()) }
}

/// Passes the body on to the thread that writes it. Ends early where that thread has given up.
async fn forward(core: &Core, body: &mut Incoming, to: &mpsc::Sender<Piece>) -> Result<()> {
    let (started, mut length) = (Instant::now(), 0);
    loop {
        let next = next_data(body);
        let data = match core.settings.send_timeout() {
            None => next.await?,
            Some(time) => {
                let until = started + time + Duration::from_secs(length / SLOWEST);
                let until = until.min(Instant::now() + time);
                tokio::time::timeout_at(until.into(), next).await.map_err(|_| too_slow(time))??
            }
        };
        let Some(data) = data else { break };
        length += data.len() as u64;
        check_length(core, length)?;
        if to.send(Piece::Data(data)).await.is_err() {
            return Ok(());
        }
    }
    // The thread may have given up meanwhile, and says why.
    let _ = to.send(Piece::End).await;
    Ok(())
}

/// Makes a version of what is received; returns the request to wait for it.
fn store(
    handler: &RepositoryHandler,
    mut request: Value,
    ready: oneshot::Sender<()>,
    received: mpsc::Receiver<Piece>,
) -> Result<Value> {
    request["action"] = Value::from("begin");
    let begun: Begun = read(&handler(request.to_string())?)?;
    let file = Temporary(begun.path);
    if ready.send(()).is_err() {
        return Err(stopped());
    }
    let (size, sha256) = write(&file.0, received)?;
    request["action"] = Value::from("finish");
    request["size"] = Value::from(size);
    request["sha256"] = Value::from(sha256);
    request["path"] = Value::from(file.0.to_string_lossy());
    let finished: Finished = read(&handler(request.to_string())?)?;
    request["action"] = Value::from("uploaded");
    request["version"] = Value::from(finished.version);
    Ok(request)
}

fn read<T: DeserializeOwned>(answer: &str) -> Result<T> {
    serde_json::from_str(answer).map_err(|error| Error::internal(format!("The upload failed inside: {error}")))
}

/// What the handler says to `finish`.
#[derive(Deserialize)]
struct Finished {
    version: i64,
}

/// A file that goes when this goes.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes the pieces as they come; returns how many bytes they were and their SHA-256 in hex.
fn write(path: &Path, mut received: mpsc::Receiver<Piece>) -> Result<(u64, String)> {
    let mut file = File::options().write(true).open(path).map_err(|error| not_written(&error))?;
    let (mut size, mut digest) = (0, Context::new(&SHA256));
    loop {
        match received.blocking_recv() {
            Some(Piece::Data(data)) => {
                file.write_all(&data).map_err(|error| not_written(&error))?;
                digest.update(&data);
                size += data.len() as u64;
            }
            Some(Piece::End) => break,
            None => {
                let message = "The client went away before the whole model was there";
                return Err(Error::new(Code::Cancelled, message).with_reason("body_broken"));
            }
        }
    }
    let hex = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((size, hex))
}

fn not_written(error: &std::io::Error) -> Error {
    let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
    if full {
        return Error::new(Code::ResourceExhausted, format!("There is no room on the disk for the upload: {error}"))
            .with_reason("disk_full")
            .with_http(507);
    }
    Error::internal(format!("The upload cannot be written: {error}")).with_reason("disk")
}

fn too_large(length: u64, limit: u64) -> Error {
    let message = format!("The upload has at least {length} bytes; the limit is {limit} (setting max_upload_size)");
    Error::new(Code::ResourceExhausted, message).with_reason("upload_too_large").with_http(413)
}

fn too_many() -> Error {
    Error::new(Code::Unavailable, "Too many uploads at one time")
        .with_reason("too_many_uploads")
        .with_retry_after(Duration::from_secs(5))
}

/// The digests that the client sent (RFC 9530), as they are written.
fn digests(headers: &HeaderMap) -> Result<Value> {
    let values = DIGESTS.into_iter().flat_map(|name| headers.get_all(name));
    let text = values.map(|value| value.to_str()).collect::<std::result::Result<Vec<_>, _>>();
    text.map(Value::from)
        .map_err(|_| Error::invalid("The digest of the upload cannot be read").with_reason("bad_digest"))
}

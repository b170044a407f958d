//! Bodies: requests are read whole and within limits, answers are one piece with or without trailers, or a stream.

use std::convert::Infallible;
use std::future::Future;
use std::io::Read;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::Core;
use crate::metrics::InFlight;
use crate::{Code, Error, Result};

/// Memory set aside at once on a client's word about the length of its body.
const TRUSTED_LENGTH: usize = 1 << 20;

/// A request body that was read, counted against the limit on held bytes while it lives.
pub(super) struct Held<'a> {
    pub(super) bytes: Bytes,
    _count: InFlight<'a>,
}

/// Reads a body whole.
///
/// # Errors
/// 413 when it is longer than allowed, 408 when the client takes too long, 503 when too much is held already, and
/// `CANCELLED` when the client goes away.
pub(super) async fn read(core: &Core, body: Incoming) -> Result<Held<'_>> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    check_length(core, announced)?;
    let mut collecting = pin!(collect(core, body, announced));
    // Most bodies are there already: only those that are not cost a timer.
    let mut context = Context::from_waker(Waker::noop());
    let bytes = match (collecting.as_mut().poll(&mut context), core.settings.send_timeout()) {
        (Poll::Ready(collected), _) => collected?,
        (Poll::Pending, None) => collecting.await?,
        (Poll::Pending, Some(limit)) => {
            tokio::time::timeout(limit, collecting).await.map_err(|_| too_slow(limit))??
        }
    };
    hold(core, bytes)
}

/// Counts the bytes as held.
///
/// # Errors
/// 503 when that is more than may be held at once.
pub(super) fn hold(core: &Core, bytes: Bytes) -> Result<Held<'_>> {
    let count = InFlight::new(&core.metrics.queued_bytes, bytes.len() as i64);
    check_held(core)?;
    Ok(Held { bytes, _count: count })
}

async fn collect(core: &Core, mut body: Incoming, announced: usize) -> Result<Bytes> {
    let Some(first) = next_data(&mut body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() || first.len() == announced && announced > 0 {
        check_length(core, first.len())?;
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(announced.max(first.len()).min(TRUSTED_LENGTH));
    // What grows here counts while it grows: many slow large bodies must not fill the memory unseen.
    let mut counts = vec![InFlight::new(&core.metrics.queued_bytes, first.len() as i64)];
    whole.extend_from_slice(&first);
    while let Some(data) = next_data(&mut body).await? {
        check_length(core, whole.len() + data.len())?;
        if whole.capacity() < whole.len() + data.len() && announced > whole.len() {
            whole.reserve(announced - whole.len());
        }
        counts.push(InFlight::new(&core.metrics.queued_bytes, data.len() as i64));
        check_held(core)?;
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

pub(super) async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn broken(error: &hyper::Error) -> Error {
    let message = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "The client went away before the whole body was there".to_owned()
    } else {
        format!("The body cannot be read: {error}")
    };
    Error::new(Code::InvalidArgument, message).with_reason("body_broken")
}

fn check_length(core: &Core, length: usize) -> Result<()> {
    let limit = core.settings.max_body_bytes;
    if limit > 0 && length > limit {
        return Err(too_large(length, limit));
    }
    Ok(())
}

pub(super) fn too_large(length: usize, limit: usize) -> Error {
    Error::new(
        Code::ResourceExhausted,
        format!("The request body has at least {length} bytes; the limit is {limit} (setting max_body_size)"),
    )
    .with_reason("body_too_large")
    .with_http(413)
}

fn check_held(core: &Core) -> Result<()> {
    let limit = core.settings.max_queued_bytes;
    if limit > 0 && core.metrics.queued_bytes.load(Ordering::Relaxed) > limit as i64 {
        return Err(no_room(limit));
    }
    Ok(())
}

pub(super) fn no_room(limit: usize) -> Error {
    Error::new(
        Code::Unavailable,
        format!("The requests being answered hold more than {limit} bytes (setting max_queued_bytes)"),
    )
    .with_reason("too_many_bytes")
    .with_retry_after(Duration::from_secs(1))
}

pub(super) fn too_slow(limit: Duration) -> Error {
    Error::new(
        Code::DeadlineExceeded,
        format!("The request was not there {} s after it began (setting send_timeout)", limit.as_secs_f64()),
    )
    .with_reason("send_timeout")
    .with_http(408)
}

/// Unpacks a gzip body; `None` when it is none. What unpacks to more than allowed is refused before it is held.
///
/// # Errors
/// 413 when the unpacked body is longer than allowed.
pub(super) fn gunzip(packed: &[u8], limit: usize) -> Result<Option<Bytes>> {
    let most = if limit == 0 { usize::MAX } else { limit };
    let mut unpacked = Vec::with_capacity(packed.len().saturating_mul(4).min(TRUSTED_LENGTH));
    let mut reader = flate2::read::MultiGzDecoder::new(packed).take(most as u64 + 1);
    match reader.read_to_end(&mut unpacked) {
        Err(_) => Ok(None),
        Ok(_) if unpacked.len() > most => Err(too_large(unpacked.len(), most)),
        Ok(_) => Ok(Some(Bytes::from(unpacked))),
    }
}

/// The body of an answer: one piece, or nothing.
pub(super) struct Reply(Option<Bytes>);

impl Reply {
    pub(super) fn bytes(data: impl Into<Bytes>) -> Reply {
        Reply(Some(data.into()))
    }

    pub(super) fn empty() -> Reply {
        Reply(None)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_gzip_body_is_unpacked_and_a_bomb_refused() {
        assert_eq!(gunzip(&gzip(b"{}"), 10).unwrap().unwrap(), "{}");
        let bomb = gzip(&vec![0; 1 << 20]);
        assert_eq!(gunzip(&bomb, 1 << 10).unwrap_err().http, Some(413));
        assert_eq!(gunzip(b"not gzip", 10).unwrap(), None);
    }
}

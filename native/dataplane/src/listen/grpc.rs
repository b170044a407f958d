//! gRPC: what a call asks for, and the answer to it. `grpc_connection` carries both.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::access_log::{Asked, Entry};
use super::body;
use super::dispatch::Account;
use super::{Core, health, oip_grpc, tfs_grpc, tokens};
use crate::http2::{Head, Rejection};
use crate::metrics::{InFlight, Protocol};
use crate::wire::tf::truncate;
use crate::{Code, Error, Result};

pub(super) const FRAME_HEAD: usize = 5;

/// A call: which method, when it is of no use any more, and its message.
pub(super) struct Call {
    pub(super) method: String,
    pub(super) deadline: Option<Instant>,
    pub(super) message: Bytes,
}

/// What a method gives: one message, or messages as they come.
pub(super) enum Outcome {
    /// The frame's head is already in front; see [`framed`].
    Message(Vec<u8>),
    Stream(tokio::sync::mpsc::Receiver<Bytes>),
}

/// A buffer for a message, with room for the frame's head in front.
pub(super) fn framed(capacity: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(FRAME_HEAD + capacity);
    buffer.extend_from_slice(&[0; FRAME_HEAD]);
    buffer
}

/// Writes the length of the message behind the frame's head.
pub(super) fn seal(mut frame: Vec<u8>) -> Bytes {
    let length = u32::try_from(frame.len() - FRAME_HEAD).unwrap_or(u32::MAX);
    frame[1..FRAME_HEAD].copy_from_slice(&length.to_be_bytes());
    Bytes::from(frame)
}

/// Whether a request is gRPC at all; what is not gets a plain 415.
pub(super) fn is_grpc(head: &Head) -> bool {
    let content_type = head.content_type.as_deref().unwrap_or_default();
    head.method == "POST" && content_type.starts_with(b"application/grpc")
}

/// Answers one call. `body` is all that the client sent.
pub(super) async fn answer(core: &Arc<Core>, head: &Head, body: Bytes) -> Result<Outcome> {
    let _in_flight = InFlight::new(&core.metrics.in_flight, 1);
    let mut account = Account::new(protocol(head));
    let outcome = handle(core, head, body, &mut account).await;
    note(core, head, &account, outcome.as_ref().err());
    outcome
}

/// Whether a call's token lets it in.
///
/// # Errors
/// See [`tokens::Gate::admit`].
pub(super) fn admit(core: &Core, head: &Head) -> Result<()> {
    let path = std::str::from_utf8(&head.path).unwrap_or_default();
    core.gate.admit(|| tokens::grpc_scope(path), head.authorization.as_deref())
}

/// What a client is told whose request was not taken.
pub(super) fn rejection(core: &Core, head: &Head, why: Rejection) -> Error {
    let settings = &core.settings;
    let predicts = why != Rejection::NotAdmitted;
    let error = match why {
        Rejection::HeadTooLarge => Error::new(
            Code::ResourceExhausted,
            format!(
                "The head of the request has more than {} bytes (setting max_header_size)",
                settings.max_header_bytes
            ),
        )
        .with_reason("head_too_large"),
        Rejection::BodyTooLarge => body::too_large(settings.max_body_bytes + 1, settings.max_body_bytes),
        Rejection::NoRoom => body::no_room(settings.max_queued_bytes),
        Rejection::NotAdmitted => admit(core, head).err().unwrap_or_else(tokens::changed),
        Rejection::TooSlow => body::too_slow(settings.send_timeout().unwrap_or_default()),
    };
    let mut account = Account::new(protocol(head));
    // Strangers are not counted among the predictions, as over REST.
    if predicts {
        account.predicts();
    }
    note(core, head, &account, Some(&error));
    error
}

fn protocol(head: &Head) -> Protocol {
    if head.path.starts_with(oip_grpc::PREFIX.as_bytes()) { Protocol::OipGrpc } else { Protocol::Grpc }
}

/// Counts and logs an answered call.
fn note(core: &Core, head: &Head, account: &Account, error: Option<&Error>) {
    let code = error.map_or(Code::Ok, |error| error.code);
    account.close(core, code);
    if let Some(error) = error.filter(|error| !error.reason.is_empty()) {
        core.metrics.refused(error.reason);
    }
    if let Some(log) = &core.access_log {
        log.write(&Entry::new(&Asked::from(head), account, code.name(), error));
    }
}

/// The trailers that say what went wrong.
pub(super) fn trailers(error: &Error) -> Vec<(&'static str, Vec<u8>)> {
    let mut trailers = vec![
        ("grpc-status", (error.code as u8).to_string().into_bytes()),
        ("grpc-message", percent_encoded(&truncate(&error.message)).into_bytes()),
    ];
    if let Some(after) = error.retry_after {
        trailers.push(("grpc-retry-pushback-ms", after.as_millis().to_string().into_bytes()));
    }
    trailers
}

/// Bytes outside printable ASCII, and the percent sign, as `%XX`.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for &byte in message.as_bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(byte as char),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

async fn handle(core: &Arc<Core>, head: &Head, body: Bytes, account: &mut Account) -> Result<Outcome> {
    let deadline = deadline(core, head, account.started)?;
    let message = unframed(&body, head, core.settings.max_body_bytes)?;
    let _unpacked = (message.len() > body.len()).then(|| body::hold(core, message.clone())).transpose()?;
    // The protocol core lets visible ASCII through, nothing else.
    let path = std::str::from_utf8(&head.path).unwrap_or_default();
    let call = |method: &str| Call { method: method.to_owned(), deadline, message };
    if let Some(method) = path.strip_prefix(tfs_grpc::PREDICTION) {
        return tfs_grpc::prediction(core, call(method), account).await.map(Outcome::Message);
    }
    if let Some(method) = path.strip_prefix(oip_grpc::PREFIX) {
        return oip_grpc::call(core, call(method), account).await.map(Outcome::Message);
    }
    if let Some(method) = path.strip_prefix(tfs_grpc::MODEL) {
        return tfs_grpc::model(core, &call(method)).await.map(Outcome::Message);
    }
    match path.strip_prefix(health::PREFIX) {
        Some(method) => health::call(core, &call(method)),
        None => Err(unknown_method(path)),
    }
}

pub(super) fn unknown_method(path: &str) -> Error {
    Error::new(Code::Unimplemented, format!("There is no method {path}")).with_reason("unknown_method")
}

/// The one message of a request's body.
fn unframed(body: &Bytes, head: &Head, limit: usize) -> Result<Bytes> {
    let broken = || Error::new(Code::Internal, "The request is not one gRPC message").with_reason("bad_frame");
    let frame: &[u8; FRAME_HEAD] = body.first_chunk().ok_or_else(broken)?;
    let length = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize;
    if body.len() != FRAME_HEAD + length {
        return Err(broken());
    }
    let message = body.slice(FRAME_HEAD..);
    if frame[0] == 0 {
        return Ok(message);
    }
    match head.encoding.as_deref() {
        Some(b"gzip") => body::gunzip(&message, limit)?.ok_or_else(broken),
        _ => Err(Error::new(Code::Unimplemented, "Only gzip compression is supported").with_reason("bad_encoding")),
    }
}

/// When the call is of no use any more: its own `grpc-timeout`, else the server's limit.
fn deadline(core: &Core, head: &Head, started: Instant) -> Result<Option<Instant>> {
    let limit = match &head.timeout {
        None => core.settings.request_timeout(),
        Some(value) => Some(timeout(value).ok_or_else(|| {
            Error::invalid(format!("The grpc-timeout {value:?} cannot be read")).with_reason("bad_timeout")
        })?),
    };
    Ok(limit.and_then(|limit| started.checked_add(limit)))
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_nonsense_is_refused() {
        assert_eq!(timeout(b"100m"), Some(Duration::from_millis(100)));
        assert_eq!(timeout(b"2S"), Some(Duration::from_secs(2)));
        assert_eq!(timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in [&b""[..], b"S", b"5", b"5x", b"-5S", b"123456789S"] {
            assert_eq!(timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn messages_travel_as_ascii() {
        assert_eq!(percent_encoded("100% 'ä'\n"), "100%25 '%C3%A4'%0A");
    }

    #[test]
    fn a_frame_must_hold_exactly_one_message() {
        let head = Head::default();
        assert_eq!(unframed(&seal([&framed(0)[..], b"abc"].concat()), &head, 100).unwrap(), "abc");
        for bad in [&b""[..], &[0, 0, 0, 0][..], &[0, 0, 0, 0, 9, 1][..], &[0, 0, 0, 0, 0, 1][..]] {
            assert!(unframed(&Bytes::copy_from_slice(bad), &head, 100).is_err(), "{bad:?}");
        }
        let compressed = Bytes::from_static(&[1, 0, 0, 0, 1, 7]);
        assert_eq!(unframed(&compressed, &head, 100).unwrap_err().code, Code::Unimplemented);
    }
}

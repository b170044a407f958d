//! The REST port: which API a path belongs to, and what all answers have in common.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::access_log::{Asked, Entry};
use super::body::{self, Reply};
use super::dispatch::Account;
use super::{Core, oip_rest, ops, tfs_rest, tokens};
use crate::metrics::{InFlight, Protocol};
use crate::wire::json;
use crate::{Code, Error, Result};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Which API answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Api {
    TfServing,
    Oip,
    Ops,
}

/// Answers one request.
pub(super) async fn answer(core: &Arc<Core>, request: Request<Incoming>) -> Response<Reply> {
    let _in_flight = InFlight::new(&core.metrics.in_flight, 1);
    let (head, incoming) = request.into_parts();
    let api = api_of(head.uri.path());
    let protocol = if api == Api::Oip { Protocol::OipRest } else { Protocol::Rest };
    let mut account = Account::new(protocol);
    let authorization = head.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let admitted = core.gate.admit(|| tokens::rest_scope(&head.method, head.uri.path()), authorization);
    let answered = match (admitted, api) {
        // Its body stays unread.
        (Err(error), _) => Err(error),
        (Ok(()), Api::TfServing) => tfs_rest::answer(core, &head, incoming, &mut account).await,
        (Ok(()), Api::Oip) => oip_rest::answer(core, &head, incoming, &mut account).await,
        (Ok(()), Api::Ops) => ops_answer(core, &head),
    };
    let code = answered.as_ref().map_or_else(|error| error.code, |_| Code::Ok);
    account.close(core, code);
    if let Some(log) = &core.access_log {
        log.write(&Entry::new(&Asked::from(&head), &account, code.name(), answered.as_ref().err()));
    }
    let mut response = answered.unwrap_or_else(|error| refuse(core, &error));
    if let Some(id) = head.headers.get(&REQUEST_ID) {
        response.headers_mut().insert(REQUEST_ID, id.clone());
    }
    if core.settings.cors {
        allow_origins(&mut response, core.gate.is_closed());
    }
    response
}

fn api_of(path: &str) -> Api {
    let starts = |prefix: &str| path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if starts("/v1/") {
        Api::TfServing
    } else if path == "/v2" || path.starts_with("/v2/") {
        Api::Oip
    } else {
        Api::Ops
    }
}

fn ops_answer(core: &Core, head: &Parts) -> Result<Response<Reply>> {
    let path = head.uri.path();
    if head.method != Method::GET && head.method != Method::HEAD {
        return Err(not_found(head));
    }
    if path == core.settings.metrics_path {
        if head.uri.query().is_some() {
            return Err(Error::invalid("Malformed request: the metrics page takes no query"));
        }
        return Ok(ops::metrics(core));
    }
    match path {
        "/livez" | "/healthz" => Ok(ops::live()),
        "/readyz" => Ok(ops::ready(core)),
        "/startupz" => Ok(ops::started(core)),
        "/metrics" => Ok(ops::metrics(core)),
        _ => Err(not_found(head)),
    }
}

fn not_found(head: &Parts) -> Error {
    let message = format!(
        "There is nothing at {} {}. Predictions: POST /v1/models/NAME:predict or /v2/models/NAME/infer",
        head.method,
        head.uri.path()
    );
    Error::new(Code::NotFound, message).with_reason("no_route")
}

/// The three headers of TensorFlow Serving; pages may send a token where the server asks for one.
fn allow_origins(response: &mut Response<Reply>, with_tokens: bool) {
    let allowed = if with_tokens { "Content-Type, Authorization" } else { "Content-Type" };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
}

/// An answer with a body.
pub(super) fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::bytes(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// `{"error": "..."}` with the status of the error's code.
pub(super) fn refuse(core: &Core, error: &Error) -> Response<Reply> {
    if !error.reason.is_empty() {
        core.metrics.refused(error.reason);
    }
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = Vec::with_capacity(64 + error.message.len());
    json::write_error(&mut body, &error.message);
    let mut response = respond(status, JSON, body);
    if error.code == Code::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, tokens::CHALLENGE);
    }
    if let Some(after) = error.retry_after {
        let seconds = after.as_secs().max(1);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The body of a request, unpacked where it is gzip. One that cannot be unpacked reads as empty, as upstream has it.
///
/// # Errors
/// See [`body::read`] and [`body::gunzip`].
pub(super) async fn read<'a>(core: &'a Core, head: &Parts, incoming: Incoming) -> Result<body::Held<'a>> {
    let held = body::read(core, incoming).await?;
    let packed = head
        .headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"gzip"));
    if !packed {
        return Ok(held);
    }
    let unpacked = body::gunzip(&held.bytes, core.settings.max_body_bytes)?.unwrap_or_default();
    body::hold(core, unpacked)
}

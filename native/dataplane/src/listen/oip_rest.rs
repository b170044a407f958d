//! The Open Inference Protocol over REST, with the binary tensor extension.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use smallvec::SmallVec;

use super::body::Reply;
use super::dispatch::{self, Account};
use super::oip_grpc::{choice, is_ready, model_metadata, model_ready, server_metadata};
use super::path::decoded;
use super::rest::{JSON, read, respond};
use super::{Core, repository};
use crate::batch::Task;
use crate::route::Version;
use crate::wire::oip::metadata::json;
use crate::wire::oip::{InferResponse, ModelReady, ServerLive, ServerReady, rest};
use crate::wire::{Budget, Text};
use crate::{Code, Error, Result};

const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

pub(super) async fn answer(
    core: &Core,
    head: &Parts,
    incoming: Incoming,
    account: &mut Account,
) -> Result<Response<Reply>> {
    let parts: SmallVec<[&str; 8]> = head.uri.path().trim_matches('/').split('/').collect();
    let (name, version, verb) = match parts[1..] {
        [] => return get(head, || Ok(respond(StatusCode::OK, JSON, json(&server_metadata(core))))),
        ["health", "live"] => return get(head, || Ok(respond(StatusCode::OK, JSON, json(&ServerLive { live: true })))),
        ["health", "ready"] => {
            let ready = is_ready(core);
            return get(head, || Ok(respond(readiness(ready), JSON, json(&ServerReady { ready }))));
        }
        // Boxed: predictions are not to pay for the size of this one.
        ["repository", ref rest @ ..] => return Box::pin(repository::answer(core, head, rest, incoming)).await,
        ["models", name] => (name, "", ""),
        ["models", name, "versions", version] => (name, version, ""),
        ["models", name, verb] => (name, "", verb),
        ["models", name, "versions", version, verb] => (name, version, verb),
        _ => return Err(no_route(head)),
    };
    let (name, version) = (decoded(name), decoded(version));
    match (&head.method, verb) {
        (&Method::GET, "") => Ok(respond(StatusCode::OK, JSON, json(&model_metadata(core, &name, &version).await?))),
        (&Method::GET, "ready") => {
            let ready = model_ready(core, &name, &version)?;
            Ok(respond(readiness(ready), JSON, ModelReady { ready }.json(&name)))
        }
        (&Method::POST, "infer") => {
            account.predicts();
            account.model = Text::from_utf8(Bytes::copy_from_slice(name.as_bytes()));
            let deadline = core.settings.request_timeout().and_then(|limit| account.started.checked_add(limit));
            let held = read(core, head, incoming).await?;
            let found = core.router.resolve(&name, choice(&version), deadline).await?;
            account.version = Some(found.clone());
            infer(core, found, &held.bytes, json_length(&head.headers)?, deadline, account).await
        }
        _ => Err(no_route(head)),
    }
}

fn get(head: &Parts, answer: impl FnOnce() -> Result<Response<Reply>>) -> Result<Response<Reply>> {
    if head.method == Method::GET { answer() } else { Err(no_route(head)) }
}

fn readiness(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn no_route(head: &Parts) -> Error {
    Error::new(Code::NotFound, format!("There is nothing at {} {}", head.method, head.uri.path()))
        .with_reason("no_route")
}

/// The length of the JSON part, where a body has binary parts behind it.
///
/// # Errors
/// `INVALID_ARGUMENT` when the header is no number.
pub(super) fn json_length(headers: &HeaderMap) -> Result<Option<usize>> {
    let Some(value) = headers.get(&JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        Error::invalid(format!("The header Inference-Header-Content-Length {value:?} is not a number"))
            .with_reason("bad_header")
    })
}

/// Reads, runs and answers one inference request.
pub(super) async fn infer(
    core: &Core,
    version: Arc<Version>,
    body: &Bytes,
    json_length: Option<usize>,
    deadline: Option<Instant>,
    account: &mut Account,
) -> Result<Response<Reply>> {
    let request = match json_length {
        Some(0) => rest::raw_request(body, &*dispatch::signature(&version, "")?)?,
        _ => {
            let (body, mut budget) = (body.clone(), Budget::new(core.tensor_budget()));
            let json = json_length.unwrap_or(body.len());
            dispatch::apart(json, move || rest::read_request(&body, json_length, &mut budget)).await?
        }
    };
    let signature = dispatch::signature(&version, request.parameters.signature_name.as_str())?;
    account.signature = Some(signature.clone());
    let wanted = SmallVec::from_vec(request.resolve_outputs(&signature)?);
    let task = Task::new(signature.clone(), request.bind_inputs(&signature)?, wanted.clone(), deadline);
    let answer = dispatch::predict(core, &version, task).await?;
    let outputs: SmallVec<[_; 4]> =
        wanted.iter().map(|&index| signature.outputs[index].name.as_str()).zip(&answer.outputs).collect();
    let response =
        InferResponse { model: &version.model, version: version.number, id: request.id.as_str(), outputs: &outputs };
    let mut out = Vec::with_capacity(256);
    let length = rest::write_response(&mut out, &response, |place| request.wants_binary(place))?;
    let mut response = respond(StatusCode::OK, if length.is_some() { BINARY } else { JSON }, out);
    if let Some(length) = length {
        response.headers_mut().insert(JSON_LENGTH, HeaderValue::from(length));
    }
    Ok(response)
}

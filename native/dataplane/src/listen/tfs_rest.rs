//! TensorFlow Serving's REST API.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use smallvec::SmallVec;

use super::Core;
use super::body::Reply;
use super::dispatch::{self, Account};
use super::inference;
use super::oip_rest;
use super::path::{self, ModelPath, PathVersion, Verb};
use super::rest::{JSON, read, respond};
use crate::batch::Task;
use crate::batch::queue::{Answer, Outputs};
use crate::route::Version;
use crate::wire::{Budget, Signature, Tensor, Text, json, npy};
use crate::{Error, Result};

const NPY: &str = "application/x-npy";
/// What a number takes as text, roughly.
pub(super) const BYTES_A_NUMBER: usize = 16;

pub(super) async fn answer(
    core: &Core,
    head: &Parts,
    incoming: Incoming,
    account: &mut Account,
) -> Result<Response<Reply>> {
    if head.method == Method::OPTIONS {
        return Ok(preflight(head));
    }
    // A query string makes a good path malformed: upstream's matching sees the whole of it.
    let path = if head.uri.query().is_some() { None } else { path::read(head.uri.path())? };
    let Some(path) = path else { return Err(malformed(head)) };
    match (&head.method, path.verb) {
        (&Method::GET | &Method::HEAD, Verb::Status) => status(core, &path),
        (&Method::GET | &Method::HEAD, Verb::Metadata) => metadata(core, &path).await,
        (&Method::POST, Verb::Predict) => predict(core, head, incoming, &path, account).await,
        (&Method::POST, Verb::Classify) => {
            inference::rest(core, head, incoming, &path, inference::Method::Classify, account).await
        }
        (&Method::POST, Verb::Regress) => {
            inference::rest(core, head, incoming, &path, inference::Method::Regress, account).await
        }
        _ => Err(malformed(head)),
    }
}

fn preflight(head: &Parts) -> Response<Reply> {
    let from_a_page = head.headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"http"));
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = if from_a_page { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    response
}

fn malformed(head: &Parts) -> Error {
    let path = head.uri.path();
    if head.method == Method::GET && head.uri.query().is_none() && path.eq_ignore_ascii_case("/v1/models") {
        return Error::invalid("Missing model name in request.").with_reason("malformed_request");
    }
    let path = head.uri.path_and_query().map_or(path, http::uri::PathAndQuery::as_str);
    Error::invalid(format!("Malformed request: {} {path}", head.method)).with_reason("malformed_request")
}

/// States of a model's versions. A label in the path is ignored, as upstream does.
fn status(core: &Core, path: &ModelPath<'_>) -> Result<Response<Reply>> {
    let number = match path.version {
        PathVersion::Number(number) => Some(number),
        PathVersion::Latest | PathVersion::Label(_) => None,
    };
    let found = core.router.routes().status(&path.model, number)?;
    let mut body = Vec::with_capacity(128 * found.len());
    json::write_status(&mut body, &found);
    Ok(respond(StatusCode::OK, JSON, body))
}

async fn metadata(core: &Core, path: &ModelPath<'_>) -> Result<Response<Reply>> {
    let version = core.router.resolve(&path.model, path.version.choice(), None).await?;
    let mut body = Vec::with_capacity(1024);
    json::write_metadata(&mut body, &version.model, version.number, version.servable().signatures());
    Ok(respond(StatusCode::OK, JSON, body))
}

/// The form of a request's body, and so of its answer.
#[derive(Clone, Copy)]
enum BodyForm {
    Json,
    Npy,
    Oip(usize),
}

fn body_form(head: &Parts) -> Result<BodyForm> {
    if let Some(length) = oip_rest::json_length(&head.headers)? {
        return Ok(BodyForm::Oip(length));
    }
    let npy = head.headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes() == NPY.as_bytes());
    Ok(if npy { BodyForm::Npy } else { BodyForm::Json })
}

async fn predict(
    core: &Core,
    head: &Parts,
    incoming: Incoming,
    path: &ModelPath<'_>,
    account: &mut Account,
) -> Result<Response<Reply>> {
    account.predicts();
    account.model = Text::from_utf8(bytes::Bytes::copy_from_slice(path.model.as_bytes()));
    let deadline = core.settings.request_timeout().and_then(|limit| account.started.checked_add(limit));
    let held = read(core, head, incoming).await?;
    let version = core.router.resolve(&path.model, path.version.choice(), deadline).await;
    if let Ok(version) = &version {
        account.version = Some(version.clone());
    }
    match body_form(head)? {
        BodyForm::Oip(length) => oip_rest::infer(core, version?, &held.bytes, Some(length), deadline, account).await,
        BodyForm::Npy => {
            let version = version?;
            let mut budget = Budget::new(core.tensor_budget());
            let (signature, inputs) = npy_inputs(&version, &held.bytes, &mut budget)?;
            let answer = run(core, &version, &signature, inputs, deadline, account).await?;
            write_npy(signature, answer).await
        }
        BodyForm::Json => {
            let request = read_json(core, held.bytes.clone(), version.clone()).await?;
            let answer = run(core, &version?, &request.signature, request.inputs, deadline, account).await?;
            write_json(request.signature, request.form, answer).await
        }
    }
}

async fn run(
    core: &Core,
    version: &Arc<Version>,
    signature: &Arc<Signature>,
    inputs: Vec<Tensor>,
    deadline: Option<std::time::Instant>,
    account: &mut Account,
) -> Result<Answer> {
    account.signature = Some(signature.clone());
    let outputs: Outputs = (0..signature.outputs.len()).collect();
    dispatch::predict(core, version, Task::new(signature.clone(), inputs, outputs, deadline)).await
}

async fn read_json(core: &Core, body: bytes::Bytes, version: Result<Arc<Version>>) -> Result<json::PredictRequest> {
    let limits = json::Limits { max_rows: core.settings.max_rows, ..json::Limits::default() };
    dispatch::apart(body.len(), move || {
        let signatures = version.as_ref().map(|version| version.servable().signatures()).map_err(Clone::clone);
        json::read_predict(&body, signatures, &limits)
    })
    .await
}

fn named<'a>(signature: &'a Signature, answer: &'a Answer) -> SmallVec<[(&'a str, &'a Tensor); 4]> {
    signature.outputs.iter().map(|spec| spec.name.as_str()).zip(&answer.outputs).collect()
}

async fn write_json(signature: Arc<Signature>, form: json::Form, answer: Answer) -> Result<Response<Reply>> {
    let elements: usize = answer.outputs.iter().map(Tensor::len).sum();
    let body = dispatch::apart(BYTES_A_NUMBER * elements, move || {
        let mut body = Vec::with_capacity(64 + BYTES_A_NUMBER * elements);
        json::write_predictions(&mut body, form, &named(&signature, &answer))?;
        Ok(body)
    })
    .await?;
    Ok(respond(StatusCode::OK, JSON, body))
}

fn npy_inputs(version: &Version, body: &bytes::Bytes, budget: &mut Budget) -> Result<(Arc<Signature>, Vec<Tensor>)> {
    let signature = version.servable().signatures().get("").cloned().ok_or_else(|| {
        Error::invalid("An npy body is for the signature serving_default, which this model does not have")
    })?;
    if signature.inputs.len() != 1 {
        let names: Vec<&str> = signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
        return Err(Error::invalid(format!(
            "An npy body holds one tensor, but the model has {} inputs: {}",
            names.len(),
            names.join(", ")
        )));
    }
    Ok((signature, vec![npy::read(body, budget)?]))
}

/// One output as npy; several cannot be one npy array, so they are answered as JSON.
async fn write_npy(signature: Arc<Signature>, answer: Answer) -> Result<Response<Reply>> {
    let [output] = answer.outputs.as_slice() else {
        return write_json(signature, json::Form::Column, answer).await;
    };
    let mut body = Vec::with_capacity(128 + output.byte_len());
    npy::write(&mut body, output)?;
    Ok(respond(StatusCode::OK, HeaderValue::from_static(NPY), body))
}

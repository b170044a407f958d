//! TensorFlow Serving's Classify, Regress and MultiInference, over REST and gRPC.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use smallvec::SmallVec;

use super::Core;
use super::body::Reply;
use super::dispatch::{self, Account};
use super::grpc::{Call, FRAME_HEAD, framed};
use super::path::ModelPath;
use super::rest::{JSON, read, respond};
use super::tfs_grpc::choice;
use super::tfs_rest::BYTES_A_NUMBER;
use crate::batch::Task;
use crate::batch::queue::{Answer, Outputs};
use crate::metrics::Api;
use crate::request_log::{Kind, Source};
use crate::route::Version;
use crate::wire::inference::{Examples, Results, find_signature};
use crate::wire::signature::DEFAULT_SIGNATURE;
use crate::wire::tf::ModelSpec;
use crate::wire::tf::inference::{
    Answered, InferenceRequest, InferenceTask, MultiInferenceRequest, write_inference_response, write_inference_result,
};
use crate::wire::{Budget, Signature, Tensor, Text, json};
use crate::{Error, Result};

pub(super) use crate::wire::inference::Method;

impl From<Method> for Api {
    fn from(method: Method) -> Api {
        match method {
            Method::Classify => Api::Classify,
            Method::Regress => Api::Regress,
        }
    }
}

impl From<Method> for Kind {
    fn from(method: Method) -> Kind {
        match method {
            Method::Classify => Kind::Classify,
            Method::Regress => Kind::Regress,
        }
    }
}

/// One method on one signature: what is run, and how its answer is read.
struct Run {
    method: Method,
    signature: Arc<Signature>,
    outputs: Outputs,
    /// What it is counted as.
    api: Api,
}

impl Run {
    /// # Errors
    /// Where the signature does not fit the method.
    fn new(core: &Core, method: Method, signature: &Arc<Signature>) -> Result<Run> {
        let outputs = method.resolve_outputs(signature, core.settings.check_method_names)?;
        Ok(Run { method, signature: signature.clone(), outputs: SmallVec::from_vec(outputs), api: method.into() })
    }

    async fn infer(
        &self,
        core: &Core,
        version: &Arc<Version>,
        examples: Tensor,
        deadline: Option<Instant>,
    ) -> Result<Answer> {
        let task = Task::new(self.signature.clone(), vec![examples], self.outputs.clone(), deadline).of_api(self.api);
        dispatch::infer(core, version, task).await
    }

    fn results<'a>(&self, answer: &'a Answer, rows: usize) -> Result<Results<'a>> {
        Results::read(self.method, &self.signature, &self.outputs, &answer.outputs, rows)
    }

    fn answered<'a>(&'a self, version: &'a Version) -> Answered<'a> {
        Answered { model: &version.model, version: version.number, signature_name: &self.signature.name }
    }
}

/// Classify or Regress over REST.
pub(super) async fn rest(
    core: &Core,
    head: &Parts,
    incoming: Incoming,
    path: &ModelPath<'_>,
    method: Method,
    account: &mut Account,
) -> Result<Response<Reply>> {
    account.asks(method.into());
    account.model = Text::from_utf8(bytes::Bytes::copy_from_slice(path.model.as_bytes()));
    let deadline = core.settings.request_timeout().and_then(|limit| account.started.checked_add(limit));
    let held = read(core, head, incoming).await?;
    // Upstream reads the whole request before it looks for the model.
    let request = read_json(core, held.bytes.clone()).await?;
    let version = core.router.resolve(&path.model, path.version.choice(), deadline).await?;
    account.version = Some(version.clone());
    let signature = find_signature(version.servable().signatures(), request.signature_name.as_str())?;
    account.signature = Some(signature.clone());
    let run = Run::new(core, method, signature)?;
    let rows = request.examples.len();
    let examples = request.examples.into_tensor();
    let sampled = version.sampled().map(|log| (log, examples.clone()));
    let answer = run.infer(core, &version, examples, deadline).await?;
    if let Some((log, examples)) = sampled {
        let mut response = Vec::new();
        write_inference_response(&mut response, &run.results(&answer, rows)?, run.answered(&version));
        log.examples(method.into(), Source::new(version.number, &run.signature), examples, response);
    }
    let elements: usize = answer.outputs.iter().map(Tensor::len).sum();
    let body = dispatch::apart(BYTES_A_NUMBER * elements, move || {
        let mut body = Vec::with_capacity(64 + BYTES_A_NUMBER * elements);
        json::write_results(&mut body, &run.results(&answer, rows)?);
        Ok(body)
    })
    .await?;
    Ok(respond(StatusCode::OK, JSON, body))
}

async fn read_json(core: &Core, body: bytes::Bytes) -> Result<json::ExamplesRequest> {
    let limits = json::Limits { max_rows: core.settings.max_rows, ..json::Limits::default() };
    let mut budget = Budget::new(core.tensor_budget());
    dispatch::apart(body.len(), move || json::read_examples(&body, &limits, &mut budget)).await
}

/// Classify or Regress over gRPC.
pub(super) async fn grpc(core: &Core, call: &Call, method: Method, account: &mut Account) -> Result<Vec<u8>> {
    let mut budget = Budget::new(core.tensor_budget());
    let request = InferenceRequest::read(&call.message, &mut budget)?;
    account.asks(method.into());
    let spec = ModelSpec::required(request.model_spec.as_ref())?;
    let version = version(core, spec, call.deadline, account).await?;
    let signature = find_signature(version.servable().signatures(), spec.signature_name.as_str())?;
    account.signature = Some(signature.clone());
    let run = Run::new(core, method, signature)?;
    let (examples, rows) = tensor(request.input.examples(&mut budget)?)?;
    let answer = run.infer(core, &version, examples, call.deadline).await?;
    let mut frame = framed(128);
    write_inference_response(&mut frame, &run.results(&answer, rows)?, run.answered(&version));
    log_message(&version, &run, method.into(), call, &frame);
    Ok(frame)
}

/// MultiInference: several signatures of one version on the same examples, in one run where the engine can do that.
pub(super) async fn multi(core: &Core, call: &Call, account: &mut Account) -> Result<Vec<u8>> {
    let mut budget = Budget::new(core.tensor_budget());
    let request = MultiInferenceRequest::read(&call.message, &mut budget)?;
    account.asks(Api::MultiInference);
    let none = ModelSpec::default();
    let spec = ModelSpec::required(Some(request.tasks.first().map_or(&none, |task| &task.model_spec)))?;
    let version = version(core, spec, call.deadline, account).await?;
    let runs = plan(core, &version, &request.tasks)?;
    account.signature = runs.first().map(|run| run.signature.clone());
    let (examples, rows) = tensor(request.input.examples(&mut budget)?)?;
    version.metrics.examples(rows);
    let mut frame = framed(128 * runs.len());
    let answers = infer_all(core, &version, &runs, examples, call.deadline).await?;
    for (run, answer) in runs.iter().zip(&answers) {
        write_inference_result(&mut frame, &run.results(answer, rows)?, run.answered(&version));
    }
    if let Some(first) = runs.first() {
        log_message(&version, first, Kind::MultiInference, call, &frame);
    }
    Ok(frame)
}

/// What several runs on the same examples give, one answer for each.
async fn infer_all(
    core: &Core,
    version: &Arc<Version>,
    runs: &[Run],
    examples: Tensor,
    deadline: Option<Instant>,
) -> Result<Vec<Answer>> {
    let signatures: Vec<&Signature> = runs.iter().map(|run| run.signature.as_ref()).collect();
    let Some(joint) = version.servable().joint(&signatures) else {
        let mut answers = Vec::with_capacity(runs.len());
        for run in runs {
            answers.push(run.infer(core, version, examples.clone(), deadline).await?);
        }
        return Ok(answers);
    };
    let mut outputs = Outputs::new();
    let mut before = 0;
    for run in runs {
        outputs.extend(run.outputs.iter().map(|index| before + index));
        before += run.signature.outputs.len();
    }
    let task = Task::new(joint, vec![examples], outputs, deadline).of_api(Api::MultiInference);
    let mut found = dispatch::infer(core, version, task).await?.outputs.into_iter();
    Ok(runs.iter().map(|run| Answer { outputs: found.by_ref().take(run.outputs.len()).collect() }).collect())
}

fn log_message(version: &Version, run: &Run, kind: Kind, call: &Call, frame: &[u8]) {
    if let Some(log) = version.sampled() {
        let source = Source::new(version.number, &run.signature);
        log.message(kind, source, call.message.clone(), &frame[FRAME_HEAD..]);
    }
}

async fn version(
    core: &Core,
    spec: &ModelSpec,
    deadline: Option<Instant>,
    account: &mut Account,
) -> Result<Arc<Version>> {
    account.model = Some(spec.name.clone());
    let version = core.router.resolve(spec.name.as_str(), choice(spec), deadline).await?;
    account.version = Some(version.clone());
    Ok(version)
}

fn tensor(examples: Examples) -> Result<(Tensor, usize)> {
    examples.check_not_empty()?;
    let rows = examples.len();
    Ok((examples.into_tensor(), rows))
}

/// What the tasks of a MultiInference come to; each signature may come once, so there are at most as many as the model
/// has.
///
/// # Errors
/// With TensorFlow Serving's texts, where tasks differ in their model, repeat a signature or cannot be done.
fn plan(core: &Core, version: &Version, tasks: &[InferenceTask]) -> Result<Vec<Run>> {
    let refused = |message: String| Error::invalid(message).with_reason("wrong_tasks");
    let mut seen = HashSet::new();
    let mut runs = Vec::new();
    for task in tasks {
        let spec = &task.model_spec;
        if spec.name.is_empty() {
            return Err(refused("Found ModelSpec with an empty model name.".to_owned()));
        }
        if spec.name != tasks[0].model_spec.name {
            return Err(refused(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name.".to_owned(),
            ));
        }
        let name = if spec.signature_name.is_empty() { DEFAULT_SIGNATURE } else { spec.signature_name.as_str() };
        if !seen.insert(name) {
            return Err(refused(format!("Duplicate evaluation of signature: {name}")));
        }
        let signature = version
            .servable()
            .signatures()
            .get(name)
            .ok_or_else(|| refused(format!("Requested signature not found in model graph: {name}")))?;
        let run = Run::new(core, Method::of_name(task.method_name.as_str())?, signature)?;
        runs.push(Run { api: Api::MultiInference, ..run });
    }
    Ok(runs)
}

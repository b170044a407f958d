//! The Open Inference Protocol over gRPC.

use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::Core;
use super::dispatch::{self, Account};
use super::grpc::{Call, framed, unknown_method};
use crate::batch::Task;
use crate::route::Choice;
use crate::wire::Budget;
use crate::wire::oip::repository::{ChangeRequest, ChangeResponse, IndexRequest, IndexResponse};
use crate::wire::oip::{
    InferResponse, ModelMetadata, ModelReady, ModelRequest, ServerLive, ServerMetadata, ServerReady, grpc,
};
use crate::wire::protobuf::append;
use crate::{Code, Error, Result};

pub(super) const PREFIX: &str = "/inference.GRPCInferenceService/";

/// A method of GRPCInferenceService.
pub(super) async fn call(core: &Core, call: Call, account: &mut Account) -> Result<Vec<u8>> {
    let mut frame = framed(128);
    match call.method.as_str() {
        "ModelInfer" => return infer(core, &call, account).await,
        "ServerLive" => append(&mut frame, &ServerLive { live: true }),
        "ServerReady" => append(&mut frame, &ServerReady { ready: is_ready(core) }),
        "ServerMetadata" => append(&mut frame, &server_metadata(core)),
        "ModelReady" => {
            let request = ModelRequest::read(&call.message)?;
            let ready = model_ready(core, &request.name, &request.version)?;
            append(&mut frame, &ModelReady { ready });
        }
        "ModelMetadata" => {
            let request = ModelRequest::read(&call.message)?;
            append(&mut frame, &model_metadata(core, &request.name, &request.version).await?);
        }
        "RepositoryIndex" => append(&mut frame, &repository_index(core, &call.message).await?),
        "RepositoryModelLoad" => append(&mut frame, &repository_change(core, &call.message, "load").await?),
        "RepositoryModelUnload" => append(&mut frame, &repository_change(core, &call.message, "unload").await?),
        _ => return Err(unknown_method(&format!("{PREFIX}{}", call.method))),
    }
    Ok(frame)
}

async fn infer(core: &Core, call: &Call, account: &mut Account) -> Result<Vec<u8>> {
    account.predicts();
    let mut budget = Budget::new(core.tensor_budget());
    let request = grpc::read_request(&call.message, &mut budget)?;
    account.model = Some(request.model.clone());
    let choice = choice(request.version.as_str());
    let version = core.router.resolve(request.model.as_str(), choice, call.deadline).await?;
    let version = account.version.insert(version).clone();
    let signature = dispatch::signature(&version, request.parameters.signature_name.as_str())?;
    account.signature = Some(signature.clone());
    let wanted = SmallVec::from_vec(request.resolve_outputs(&signature)?);
    let task = Task::new(signature.clone(), request.bind_inputs(&signature)?, wanted.clone(), call.deadline);
    let answer = dispatch::predict(core, &version, task).await?;
    let outputs: SmallVec<[_; 4]> =
        wanted.iter().map(|&index| signature.outputs[index].name.as_str()).zip(&answer.outputs).collect();
    let mut frame = framed(128);
    let response =
        InferResponse { model: &version.model, version: version.number, id: request.id.as_str(), outputs: &outputs };
    grpc::write_response(&mut frame, &response);
    Ok(frame)
}

async fn repository_index(core: &Core, message: &[u8]) -> Result<IndexResponse> {
    let request = IndexRequest::read(message)?;
    let answer = core.repository.run(request.describe()).await?;
    IndexResponse::from_json(&answer)
}

/// Loads or unloads a model. Not bound by the limit for answers, as a reload.
async fn repository_change(core: &Core, message: &[u8], action: &str) -> Result<ChangeResponse> {
    let request = ChangeRequest::read(message)?;
    core.repository.run(request.describe(action)).await?;
    Ok(ChangeResponse { model_name: request.model().to_owned(), is_done: true })
}

/// The version that an OIP request names: a number, a label, or nothing.
pub(super) fn choice(version: &str) -> Choice<'_> {
    match version {
        "" => Choice::Latest,
        text => text.parse().map_or(Choice::Label(text), Choice::Specific),
    }
}

pub(super) fn is_ready(core: &Core) -> bool {
    core.router.routes().readiness().0 && !core.stopping.load(Ordering::Relaxed)
}

pub(super) fn server_metadata(core: &Core) -> ServerMetadata {
    ServerMetadata {
        name: "servable".to_owned(),
        version: core.settings.server_version.clone(),
        extensions: vec!["binary_tensor_data".to_owned(), "model_repository".to_owned()],
    }
}

/// Whether a model, or one version of it, answers.
///
/// # Errors
/// `NOT_FOUND` when the server knows no model of that name.
pub(super) fn model_ready(core: &Core, name: &str, version: &str) -> Result<bool> {
    let routes = core.router.routes();
    let model = routes.model(name).ok_or_else(|| {
        Error::new(Code::NotFound, format!("There is no model '{name}'")).with_reason("servable_not_found")
    })?;
    Ok(match choice(version) {
        Choice::Latest => model.is_available(),
        Choice::Specific(number) => model.available().contains(&number),
        Choice::Label(label) => model.label(label).is_some_and(|number| model.available().contains(&number)),
    })
}

pub(super) async fn model_metadata(core: &Core, name: &str, version: &str) -> Result<ModelMetadata> {
    let found = core.router.resolve(name, choice(version), None).await?;
    let servable = found.servable();
    let signature = dispatch::signature(&found, "")?;
    let versions = core.router.routes().model(name).map(crate::route::Model::available).unwrap_or_default();
    Ok(ModelMetadata::new(name, &versions, servable.engine_name(), &signature))
}

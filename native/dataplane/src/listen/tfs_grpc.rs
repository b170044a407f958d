//! TensorFlow Serving's gRPC services: PredictionService and ModelService.

use smallvec::SmallVec;

use super::Core;
use super::dispatch::{self, Account};
use super::grpc::{Call, framed, unknown_method};
use super::inference;
use crate::Result;
use crate::batch::Task;
use crate::route::Choice;
use crate::wire::Budget;
use crate::wire::inference::Method;
use crate::wire::tf::{
    self, ModelSpec, PredictRequest, PredictResponse, TensorForm, VersionChoice, bind::find_signature,
};

pub(super) const PREDICTION: &str = "/tensorflow.serving.PredictionService/";
pub(super) const MODEL: &str = "/tensorflow.serving.ModelService/";

/// A method of PredictionService.
pub(super) async fn prediction(core: &Core, call: Call, account: &mut Account) -> Result<Vec<u8>> {
    match call.method.as_str() {
        "Predict" => predict(core, &call, account).await,
        "GetModelMetadata" => metadata(core, &call).await,
        "Classify" => inference::grpc(core, &call, Method::Classify, account).await,
        "Regress" => inference::grpc(core, &call, Method::Regress, account).await,
        "MultiInference" => inference::multi(core, &call, account).await,
        _ => Err(unknown_method(&format!("{PREDICTION}{}", call.method))),
    }
}

pub(super) fn choice(spec: &ModelSpec) -> Choice<'_> {
    match &spec.version {
        VersionChoice::Latest => Choice::Latest,
        VersionChoice::Number(number) => Choice::Specific(*number),
        VersionChoice::Label(label) => Choice::Label(label.as_str()),
    }
}

async fn predict(core: &Core, call: &Call, account: &mut Account) -> Result<Vec<u8>> {
    let request = PredictRequest::read(&call.message)?;
    account.predicts();
    let spec = ModelSpec::required(request.model_spec.as_ref())?;
    account.model = Some(spec.name.clone());
    let version = core.router.resolve(spec.name.as_str(), choice(spec), call.deadline).await?;
    let version = account.version.insert(version).clone();
    let signature = find_signature(version.servable().signatures(), spec.signature_name.as_str())?.clone();
    account.signature = Some(signature.clone());
    let mut budget = Budget::new(core.tensor_budget());
    let inputs = request.bind_inputs(&signature, &mut budget)?;
    let wanted = SmallVec::from_vec(request.resolve_outputs(&signature)?);
    let task = Task::new(signature.clone(), inputs, wanted.clone(), call.deadline);
    let answer = dispatch::predict(core, &version, task).await?;
    let outputs: SmallVec<[_; 4]> = wanted
        .iter()
        .zip(&answer.outputs)
        .map(|(&index, tensor)| (signature.outputs[index].name.as_str(), tensor))
        .collect();
    let mut frame = framed(128);
    let response = PredictResponse {
        model: &version.model,
        version: version.number,
        signature_name: &signature.name,
        outputs: &outputs,
    };
    let form = if core.settings.tensor_content { TensorForm::Content } else { TensorForm::Values };
    response.write(&mut frame, form);
    Ok(frame)
}

async fn metadata(core: &Core, call: &Call) -> Result<Vec<u8>> {
    let request = tf::metadata::MetadataRequest::read(&call.message)?;
    let spec = ModelSpec::required(request.model_spec.as_ref())?;
    request.check_fields()?;
    let version = core.router.resolve(spec.name.as_str(), choice(spec), call.deadline).await?;
    let mut frame = framed(1024);
    tf::metadata::write_metadata_response(&mut frame, &version.model, version.number, version.servable().signatures());
    Ok(frame)
}

/// A method of ModelService.
pub(super) async fn model(core: &Core, call: &Call) -> Result<Vec<u8>> {
    match call.method.as_str() {
        "GetModelStatus" => status(core, call),
        "HandleReloadConfigRequest" => reload(core, call).await,
        _ => Err(unknown_method(&format!("{MODEL}{}", call.method))),
    }
}

/// Not bound by the limit for answers: it waits for models to be loaded, which has a limit of its own.
async fn reload(core: &Core, call: &Call) -> Result<Vec<u8>> {
    core.reloads.run(call.message.clone()).await?;
    let mut frame = framed(16);
    tf::status::write_reload_response(&mut frame);
    Ok(frame)
}

fn status(core: &Core, call: &Call) -> Result<Vec<u8>> {
    let spec = tf::status::read_status_request(&call.message)?;
    let spec = ModelSpec::required(spec.as_ref())?;
    let number = match spec.version {
        VersionChoice::Number(number) => Some(number),
        VersionChoice::Latest | VersionChoice::Label(_) => None,
    };
    let found = core.router.routes().status(spec.name.as_str(), number)?;
    let mut frame = framed(256);
    tf::status::write_status_response(&mut frame, &found);
    Ok(frame)
}

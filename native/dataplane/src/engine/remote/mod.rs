//! The engine `remote`: a model that runs in another server, asked over the Open Inference Protocol.
//!
//! A child process on this machine, a replica on another node, or any other server that speaks the protocol: `ModelInfer`
//! over gRPC, with raw contents. Sources: <https://github.com/kserve/open-inference-protocol>,
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

mod address;
mod carrier;
mod channel;
mod message;
mod status;

use std::sync::Arc;

use serde::Deserialize;

use super::{Call, Concurrency, Engine, check_dtypes};
use crate::wire::oip::grpc::{InferCall, read_response};
use crate::wire::signature::SignatureDescription;
use crate::wire::{Budget, Signature, Signatures, Tensor};
use crate::{Error, Result};

pub use address::Address;
use channel::Channel;

/// What is asked, where, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// See [`Address`].
    pub address: String,
    /// The model's name in the other server.
    pub model: String,
    /// Empty: the other server chooses.
    #[serde(default)]
    pub version: String,
    /// The engine that runs it there.
    #[serde(default)]
    pub engine: String,
    /// Bytes that it holds there.
    #[serde(default)]
    pub footprint: u64,
    /// Calls at once.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// A bearer token; none for a server that asks for none.
    #[serde(default)]
    pub token: Option<String>,
    /// Largest message, in both directions.
    #[serde(default = "default_message_bytes")]
    pub max_message_bytes: usize,
}

fn default_concurrency() -> usize {
    8
}

/// The largest message that protobuf allows.
fn default_message_bytes() -> usize {
    i32::MAX as usize
}

/// What is to happen when nobody uses the replica any more.
pub type Farewell = Box<dyn FnOnce() + Send + Sync>;

/// A model in another server.
pub struct RemoteEngine {
    channel: Arc<Channel>,
    options: Options,
    signatures: Signatures,
    farewell: Option<Farewell>,
}

impl RemoteEngine {
    /// Takes the signatures as they are described: nothing is sent before the first run.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an address, a token or a description that is none.
    pub fn new(options: Options, described: Vec<SignatureDescription>, farewell: Farewell) -> Result<RemoteEngine> {
        let address = Address::parse(&options.address)?;
        let channel = Channel::new(address, options.token.as_deref(), options.max_message_bytes)?;
        let signatures =
            described.into_iter().map(|each| Signature::try_from(each).map(Arc::new)).collect::<Result<_>>()?;
        Ok(RemoteEngine {
            channel: Arc::new(channel),
            options,
            signatures: Signatures(signatures),
            farewell: Some(farewell),
        })
    }

    fn frame(&self, call: &Call<'_>, outputs: &[&str]) -> Result<Vec<bytes::Bytes>> {
        let Call { signature, inputs, .. } = call;
        let inputs: Vec<_> = signature.inputs.iter().map(|spec| spec.name.as_str()).zip(inputs.iter()).collect();
        let call = InferCall {
            model: &self.options.model,
            version: &self.options.version,
            id: "",
            signature_name: &signature.name,
            inputs: &inputs,
            outputs,
        };
        message::frame(&call, self.options.max_message_bytes)
    }
}

impl Engine for RemoteEngine {
    /// That of the engine that runs the model: what clients and metrics are told does not depend on where.
    fn name(&self) -> &'static str {
        ["onnx", "tensorflow", "litert", "python"]
            .into_iter()
            .find(|name| *name == self.options.engine)
            .unwrap_or("remote")
    }

    fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    fn run(&self, call: &Call<'_>) -> Result<Vec<Tensor>> {
        check_dtypes(call)?;
        let names: Vec<&str> = call.outputs.iter().map(|&index| call.signature.outputs[index].name.as_str()).collect();
        let frame = self.frame(call, &names)?;
        let (channel, deadline) = (self.channel.clone(), call.deadline);
        let work = async move { channel.call(frame, deadline.map(Into::into)).await };
        let message = carrier::wait(work, deadline, call.wanted)?;
        let mut reply = read_response(&message, &mut Budget::new(self.options.max_message_bytes))?;
        names
            .iter()
            .map(|&name| {
                let found = reply.outputs.iter().position(|(given, _)| given.as_str() == name);
                found.map(|index| reply.outputs.swap_remove(index).1).ok_or_else(|| {
                    Error::internal(format!("The replica gave no output '{name}'")).with_reason("replica_malformed")
                })
            })
            .collect()
    }

    fn footprint(&self) -> u64 {
        self.options.footprint
    }

    fn concurrency(&self) -> Concurrency {
        Concurrency::Elsewhere(self.options.concurrency.max(1))
    }
}

impl Drop for RemoteEngine {
    fn drop(&mut self) {
        if let Some(farewell) = self.farewell.take() {
            farewell();
        }
    }
}

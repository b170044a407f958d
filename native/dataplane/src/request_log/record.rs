//! One logged request as a `tensorflow.serving.PredictionLog`.
//!
//! Sources: `tensorflow_serving/apis/prediction_log.proto`, `tensorflow_serving/core/logging.proto`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::batch::queue::Outputs;
use crate::wire::protobuf::{field_len, put_bytes, put_length, put_number, put_text};
use crate::wire::tf::model_spec::put_model_spec;
use crate::wire::tf::write_tensor::tensor_len;
use crate::wire::tf::{TensorForm, put_tensor};
use crate::wire::{Data, Signature, Tensor};

/// Which call was made: the number of its field in `PredictionLog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Classify = 2,
    Regress = 3,
    MultiInference = 4,
    Predict = 6,
}

/// What answered.
#[derive(Clone, Debug)]
pub struct Source {
    pub(super) version: i64,
    pub(super) signature: Arc<Signature>,
}

impl Source {
    pub fn new(version: i64, signature: &Arc<Signature>) -> Source {
        Source { version, signature: signature.clone() }
    }

    pub(super) fn predict_response(
        &self,
        model: &str,
        wanted: &Outputs,
        outputs: &[Tensor],
        form: TensorForm,
    ) -> Vec<u8> {
        let bytes: usize = outputs.iter().map(|tensor| tensor.byte_len() + 64).sum();
        let mut response = Vec::with_capacity(bytes + 64);
        for (&index, tensor) in wanted.iter().zip(outputs) {
            put_entry(&mut response, 1, &self.signature.outputs[index].name, tensor, form);
        }
        put_model_spec(&mut response, 2, model, self.version, &self.signature.name);
        response
    }
}

/// What was asked.
pub(super) enum Request {
    /// As it came over gRPC.
    Message(Bytes),
    /// For Predict: the signature's inputs, and which of its outputs were wanted.
    Inputs { inputs: Vec<Tensor>, wanted: Outputs },
    /// For Classify and Regress: serialized `tf.Example`s.
    Examples(Tensor),
}

/// One request that waits to be written.
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) source: Source,
    pub(super) request: Request,
    /// Serialized, of the message that goes with the kind.
    pub(super) response: Vec<u8>,
    pub(super) time: SystemTime,
}

impl Entry {
    /// Bytes that it holds while it waits.
    pub(super) fn held(&self) -> usize {
        let request = match &self.request {
            Request::Message(message) => message.len(),
            Request::Inputs { inputs, .. } => inputs.iter().map(|input| input.byte_len() + size_of::<Tensor>()).sum(),
            Request::Examples(examples) => examples.byte_len(),
        };
        size_of::<Entry>() + request + self.response.len()
    }

    /// The serialized `PredictionLog`.
    pub(super) fn encode(&self, model: &str, sample: f64, form: TensorForm) -> Vec<u8> {
        let built;
        let request: &[u8] = match &self.request {
            Request::Message(message) => message,
            Request::Inputs { inputs, wanted } => {
                built = self.predict_request(model, inputs, wanted, form);
                &built
            }
            Request::Examples(examples) => {
                built = self.examples_request(model, examples);
                &built
            }
        };
        let mut log = Vec::with_capacity(request.len() + self.response.len() + 32);
        put_bytes(&mut log, 1, request);
        put_bytes(&mut log, 2, &self.response);
        let mut record = Vec::with_capacity(log.len() + 128);
        put_bytes(&mut record, 1, &self.metadata(model, sample));
        put_bytes(&mut record, self.kind as u32, &log);
        record
    }

    /// `LogMetadata`: what answered, how many are logged, and when it was.
    fn metadata(&self, model: &str, sample: f64) -> Vec<u8> {
        let mut metadata = Vec::with_capacity(64);
        put_model_spec(&mut metadata, 1, model, self.source.version, &self.source.signature.name);
        let mut sampling = vec![(1 << 3) | 1];
        sampling.extend_from_slice(&sample.to_le_bytes());
        put_bytes(&mut metadata, 2, &sampling);
        let seconds = self.time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        put_number(&mut metadata, 4, seconds);
        metadata
    }

    /// The spec of a request names no version: what is logged of one can be sent to another.
    fn spec(&self, model: &str) -> Vec<u8> {
        let mut spec = Vec::with_capacity(64);
        put_text(&mut spec, 1, model);
        put_text(&mut spec, 3, &self.source.signature.name);
        spec
    }

    fn predict_request(&self, model: &str, inputs: &[Tensor], wanted: &Outputs, form: TensorForm) -> Vec<u8> {
        let signature = &self.source.signature;
        let mut request = Vec::with_capacity(256);
        put_bytes(&mut request, 1, &self.spec(model));
        for (spec, tensor) in signature.inputs.iter().zip(inputs) {
            put_entry(&mut request, 2, &spec.name, tensor, form);
        }
        if wanted.len() < signature.outputs.len() {
            for &index in wanted {
                put_text(&mut request, 3, &signature.outputs[index].name);
            }
        }
        request
    }

    fn examples_request(&self, model: &str, examples: &Tensor) -> Vec<u8> {
        let mut list = Vec::with_capacity(examples.byte_len());
        if let Data::Strings(strings) = &examples.data {
            strings.iter().for_each(|example| put_bytes(&mut list, 1, example));
        }
        let mut input = Vec::with_capacity(list.len() + 16);
        put_bytes(&mut input, 1, &list);
        let mut request = Vec::with_capacity(input.len() + 64);
        put_bytes(&mut request, 1, &self.spec(model));
        put_bytes(&mut request, 2, &input);
        request
    }
}

/// One entry of a `map<string, TensorProto>`. Strings are always values: not every reader takes them from
/// `tensor_content`.
fn put_entry(out: &mut Vec<u8>, number: u32, name: &str, tensor: &Tensor, form: TensorForm) {
    let form = if matches!(tensor.data, Data::Strings(_)) { TensorForm::Values } else { form };
    let length = field_len(1, name.len()) + field_len(2, tensor_len(tensor, form));
    out.reserve(length + 16);
    put_length(out, number, length);
    put_bytes(out, 1, name.as_bytes());
    put_tensor(out, 2, tensor, form);
}

//! TensorFlow Serving's gRPC requests: nothing crashes or takes much memory, and what is read survives being written.
#![no_main]

use bytes::Bytes;
use dataplane::wire::tf::inference::{InferenceRequest, MultiInferenceRequest};
use dataplane::wire::tf::metadata::MetadataRequest;
use dataplane::wire::tf::status::read_status_request;
use dataplane::wire::tf::write_tensor::tensor_len;
use dataplane::wire::tf::{PredictRequest, TensorForm, put_tensor, read_tensor};
use dataplane::wire::{Budget, DType, Signature, Tensor, TensorSpec};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;

fn signature() -> Signature {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        tensor_name: name.to_owned(),
        dtype: DType::F32,
        shape: None,
    };
    Signature {
        name: "serving_default".to_owned(),
        method_name: String::new(),
        inputs: vec![spec("x"), spec("words")],
        outputs: vec![spec("a"), spec("b")],
        ..Signature::default()
    }
}

fn written(tensor: &Tensor, form: TensorForm) -> Bytes {
    let mut out = Vec::new();
    put_tensor(&mut out, 1, tensor, form);
    out.split_off(out.len() - tensor_len(tensor, form)).into()
}

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    let _ = MetadataRequest::read(&body).and_then(|request| request.check_fields());
    let _ = read_status_request(&body);
    if let Ok(request) = PredictRequest::read(&body) {
        let _ = request.bind_inputs(&signature(), &mut Budget::new(LIMIT));
        let _ = request.resolve_outputs(&signature());
    }
    let mut budget = Budget::new(LIMIT);
    let _ = InferenceRequest::read(&body, &mut budget).and_then(|request| request.input.examples(&mut budget));
    let _ = MultiInferenceRequest::read(&body, &mut Budget::new(LIMIT));
    if let Ok(tensor) = read_tensor(&body, &body, &mut Budget::new(LIMIT)) {
        for form in [TensorForm::Values, TensorForm::Content] {
            let again = written(&tensor, form);
            assert_eq!(read_tensor(&again, &again, &mut Budget::new(2 * LIMIT)).as_ref(), Ok(&tensor));
        }
    }
});

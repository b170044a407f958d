//! Whole requests and answers: each text of TensorFlow Serving, each form, and what may never happen.

use std::sync::Arc;

use super::*;
use crate::wire::{DType, Signature, Signatures, Tensor, TensorSpec};
use crate::{Code, Error};

mod answers;
mod errors;
mod random;
mod requests;

fn signature(name: &str, inputs: &[(&str, DType)]) -> Arc<Signature> {
    let spec = |&(name, dtype): &(&str, DType)| TensorSpec {
        name: name.into(),
        tensor_name: format!("{name}:0"),
        dtype,
        shape: None,
    };
    Arc::new(Signature {
        name: name.into(),
        method_name: "tensorflow/serving/predict".into(),
        inputs: inputs.iter().map(spec).collect(),
        ..Signature::default()
    })
}

fn one(dtype: DType) -> Signatures {
    Signatures(vec![signature("serving_default", &[("x", dtype)])])
}

fn two() -> Signatures {
    Signatures(vec![signature("serving_default", &[("b", DType::F32), ("a", DType::I64)])])
}

fn read(signatures: &Signatures, body: &str) -> Result<PredictRequest, Error> {
    read_predict(body.as_bytes(), Ok(signatures), &Limits::default())
}

/// The only tensor of a request for floats.
fn floats(body: &str) -> (Vec<i64>, Vec<f32>) {
    let request = read(&one(DType::F32), body).unwrap_or_else(|error| panic!("{body}: {error}"));
    let tensor = &request.inputs[0];
    (tensor.shape.to_vec(), tensor.values::<f32>().unwrap().to_vec())
}

fn complaint(signatures: &Signatures, body: &str) -> String {
    let error = read(signatures, body).expect_err(body);
    assert_eq!(error.code, Code::InvalidArgument, "{body}");
    error.message.into_owned()
}

fn text(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap()
}

fn written(form: Form, outputs: &[(&str, &Tensor)]) -> Result<String, Error> {
    let mut out = Vec::new();
    write_predictions(&mut out, form, outputs).map(|()| text(out))
}

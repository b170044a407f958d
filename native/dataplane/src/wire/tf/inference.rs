//! `tensorflow.serving.ClassificationRequest`, `RegressionRequest` and `MultiInferenceRequest`, and their responses.

use bytes::Bytes;

use super::ModelSpec;
use super::model_spec::put_model_spec;
use crate::Result;
use crate::wire::inference::{Classes, Examples, Results};
use crate::wire::protobuf::{Fields, Value, field_len, put_bytes, put_length, repeated, text};
use crate::wire::{Budget, Text};

/// A `ClassificationRequest` or a `RegressionRequest`, which look alike.
#[derive(Clone, Debug, Default)]
pub struct InferenceRequest {
    /// See [`ModelSpec::required`].
    pub model_spec: Option<ModelSpec>,
    pub input: Input,
}

impl InferenceRequest {
    /// Walks the serialized message and shares its memory. Unknown fields are ignored.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed message, `RESOURCE_EXHAUSTED` for more pieces than the budget allows.
    pub fn read(body: &Bytes, budget: &mut Budget) -> Result<InferenceRequest> {
        let mut request = InferenceRequest::default();
        for field in Fields::new(body) {
            match field? {
                (1, Value::Bytes(spec)) => request.model_spec.get_or_insert_default().merge(body, spec)?,
                (2, Value::Bytes(input)) => request.input.merge(body, input, budget)?,
                _ => {}
            }
        }
        Ok(request)
    }
}

/// One task of a `MultiInferenceRequest`.
#[derive(Clone, Debug, Default)]
pub struct InferenceTask {
    pub model_spec: ModelSpec,
    /// See [`crate::wire::inference::Method::of_name`].
    pub method_name: Text,
}

/// A `MultiInferenceRequest`: several tasks on the same examples.
#[derive(Clone, Debug, Default)]
pub struct MultiInferenceRequest {
    pub tasks: Vec<InferenceTask>,
    pub input: Input,
}

impl MultiInferenceRequest {
    /// Walks the serialized message and shares its memory. Unknown fields are ignored.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed message, `RESOURCE_EXHAUSTED` for more tasks than the budget allows.
    pub fn read(body: &Bytes, budget: &mut Budget) -> Result<MultiInferenceRequest> {
        let mut request = MultiInferenceRequest::default();
        for field in Fields::new(body) {
            match field? {
                (1, Value::Bytes(task)) => {
                    budget.take(size_of::<InferenceTask>())?;
                    request.tasks.push(read_task(body, task)?);
                }
                (2, Value::Bytes(input)) => request.input.merge(body, input, budget)?,
                _ => {}
            }
        }
        Ok(request)
    }
}

fn read_task(body: &Bytes, message: &[u8]) -> Result<InferenceTask> {
    let mut task = InferenceTask::default();
    for field in Fields::new(message) {
        match field? {
            (1, Value::Bytes(spec)) => task.model_spec.merge(body, spec)?,
            (2, Value::Bytes(name)) => task.method_name = text(body, name)?,
            _ => {}
        }
    }
    Ok(task)
}

/// `tensorflow.serving.Input`: a list of examples, with or without a context. Not decoded yet.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Number of the field of the oneof that is set; 0 for none.
    kind: u32,
    /// The pieces of that field: a message may come in several, which are merged.
    lists: Vec<Bytes>,
}

const EXAMPLE_LIST: u32 = 1;
const EXAMPLE_LIST_WITH_CONTEXT: u32 = 2;

impl Input {
    fn merge(&mut self, body: &Bytes, message: &[u8], budget: &mut Budget) -> Result<()> {
        for field in Fields::new(message) {
            let (kind @ (EXAMPLE_LIST | EXAMPLE_LIST_WITH_CONTEXT), Value::Bytes(list)) = field? else { continue };
            if self.kind != kind {
                // The last of a oneof counts.
                self.kind = kind;
                self.lists.clear();
            }
            budget.take(size_of::<Bytes>())?;
            self.lists.push(body.slice_ref(list));
        }
        Ok(())
    }

    /// The examples, each with the context in front of it. Where there is no context they share the memory of the body.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed message, `RESOURCE_EXHAUSTED` beyond the budget.
    pub fn examples(&self, budget: &mut Budget) -> Result<Examples> {
        let mut examples = Vec::new();
        let mut context = Vec::new();
        for list in &self.lists {
            examples.append(&mut repeated::strings(list, list, 1, usize::MAX, budget)?);
            if self.kind == EXAMPLE_LIST_WITH_CONTEXT {
                read_context(list, &mut context, budget)?;
            }
        }
        if context.is_empty() {
            return Ok(examples.into());
        }
        let mut with_context = Examples::default();
        for example in &examples {
            with_context.push(&context, example, budget)?;
        }
        Ok(with_context)
    }
}

fn read_context(list: &[u8], context: &mut Vec<u8>, budget: &mut Budget) -> Result<()> {
    for field in Fields::new(list) {
        if let (2, Value::Bytes(piece)) = field? {
            budget.take(piece.len())?;
            context.extend_from_slice(piece);
        }
    }
    Ok(())
}

/// Which signature of which version gave results.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    pub model: &'a str,
    pub version: i64,
    /// The resolved name: `serving_default` where the request named none.
    pub signature_name: &'a str,
}

/// Appends a serialized `ClassificationResponse` or `RegressionResponse`, as the results are.
pub fn write_inference_response(out: &mut Vec<u8>, results: &Results<'_>, by: Answered<'_>) {
    put_result(out, 1, results);
    put_model_spec(out, 2, by.model, by.version, by.signature_name);
}

/// Appends one result of a `MultiInferenceResponse`; the results one after the other are the whole message.
pub fn write_inference_result(out: &mut Vec<u8>, results: &Results<'_>, by: Answered<'_>) {
    let number = match results {
        Results::Classes(_) => 2,
        Results::Values(_) => 3,
    };
    let mut result = Vec::new();
    put_model_spec(&mut result, 1, by.model, by.version, by.signature_name);
    put_result(&mut result, number, results);
    put_bytes(out, 1, &result);
}

/// A `ClassificationResult` or a `RegressionResult` as field `number`.
fn put_result(out: &mut Vec<u8>, number: u32, results: &Results<'_>) {
    let mut result = Vec::new();
    match results {
        Results::Classes(classes) => {
            let mut row_classes = Vec::new();
            for row in 0..classes.rows {
                row_classes.clear();
                put_classes(&mut row_classes, classes, row);
                put_bytes(&mut result, 1, &row_classes);
            }
        }
        Results::Values(values) => {
            for &value in values.iter() {
                put_length(&mut result, 1, float_len(value));
                put_float(&mut result, 1, value);
            }
        }
    }
    put_bytes(out, number, &result);
}

fn put_classes(out: &mut Vec<u8>, classes: &Classes<'_>, row: usize) {
    for (label, score) in classes.of_row(row) {
        // A string of protobuf is UTF-8: clients refuse a whole answer for one label that is not.
        let label = String::from_utf8_lossy(label);
        let label_len = if label.is_empty() { 0 } else { field_len(1, label.len()) };
        put_length(out, 1, label_len + float_len(score));
        if !label.is_empty() {
            put_bytes(out, 1, label.as_bytes());
        }
        put_float(out, 2, score);
    }
}

const FIXED32: u8 = 5;

/// A float field, left out where it is zero (not minus zero): proto3's default.
fn put_float(out: &mut Vec<u8>, number: u8, value: f32) {
    if value.to_bits() != 0 {
        out.push(number << 3 | FIXED32);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn float_len(value: f32) -> usize {
    if value.to_bits() == 0 { 0 } else { 5 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Tensor;
    use crate::wire::inference::Method;
    use proptest::prelude::*;

    fn tensor(body: &'static [u8], limit: usize) -> Result<Tensor> {
        let mut budget = Budget::new(limit);
        let request = InferenceRequest::read(&Bytes::from_static(body), &mut budget)?;
        Ok(request.input.examples(&mut budget)?.into_tensor())
    }

    fn strings(strings: &[&'static [u8]]) -> Tensor {
        let strings: Vec<Bytes> = strings.iter().map(|&bytes| Bytes::from_static(bytes)).collect();
        Tensor::strings([strings.len() as i64].into_iter().collect(), strings).unwrap()
    }

    #[test]
    fn examples_are_taken_as_they_are_and_behind_their_context() {
        assert_eq!(tensor(b"\x12\x07\x0a\x05\x0a\x01a\x0a\x00", 1000).unwrap(), strings(&[b"a", b""]));
        let with_context = b"\x12\x0a\x12\x08\x12\x01c\x0a\x01a\x0a\x00";
        assert_eq!(tensor(with_context, 1000).unwrap(), strings(&[b"ca", b"c"]));
        assert_eq!(tensor(with_context, 4).unwrap_err().reason, "request_too_large");
        assert_eq!(tensor(b"", 1000).unwrap(), strings(&[]));
        assert_eq!(tensor(b"\x12\x04\x0a\x00\x0a\x00", 60).unwrap_err().reason, "request_too_large");
    }

    #[test]
    fn pieces_of_an_input_are_merged_and_the_last_kind_counts() {
        let pieces = b"\x12\x05\x0a\x03\x0a\x01a\x12\x05\x0a\x03\x0a\x01b";
        assert_eq!(tensor(pieces, 1000).unwrap(), strings(&[b"a", b"b"]));
        let kinds = b"\x12\x05\x0a\x03\x0a\x01a\x12\x05\x12\x03\x0a\x01b";
        assert_eq!(tensor(kinds, 1000).unwrap(), strings(&[b"b"]));
    }

    #[test]
    fn zeros_and_empty_labels_are_left_out() {
        let mut out = Vec::new();
        put_result(&mut out, 1, &Results::Values(vec![0.0, 1.0, -0.0].into()));
        assert_eq!(out, b"\x0a\x10\x0a\x00\x0a\x05\x0d\x00\x00\x80\x3f\x0a\x05\x0d\x00\x00\x00\x80");
    }

    #[test]
    fn labels_that_are_not_utf8_do_not_break_the_answer() {
        let labels = Tensor::strings([1, 1].into_iter().collect(), vec![Bytes::from_static(b"\xff")]).unwrap();
        let spec = crate::wire::TensorSpec {
            name: "classes".into(),
            tensor_name: "classes".into(),
            dtype: crate::wire::DType::String,
            shape: None,
        };
        let signature = crate::wire::Signature {
            name: "s".into(),
            method_name: String::new(),
            inputs: vec![],
            outputs: vec![spec],
            ..crate::wire::Signature::default()
        };
        let results = Results::read(Method::Classify, &signature, &[0], std::slice::from_ref(&labels), 1).unwrap();
        let mut out = Vec::new();
        put_result(&mut out, 1, &results);
        assert_eq!(out, b"\x0a\x09\x0a\x07\x0a\x05\x0a\x03\xef\xbf\xbd");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            if let Ok(request) = InferenceRequest::read(&bytes, &mut Budget::new(1000)) {
                let _ = request.input.examples(&mut Budget::new(1000));
            }
            let _ = MultiInferenceRequest::read(&bytes, &mut Budget::new(1000));
        }
    }
}

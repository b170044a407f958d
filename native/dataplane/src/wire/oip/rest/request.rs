//! The body of an inference request.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::data::read_data;
use crate::wire::oip::infer::about;
use crate::wire::oip::raw::read_raw;
use crate::wire::oip::{InferRequest, Parameters, RequestedOutput};
use crate::wire::tensor::element_count;
use crate::wire::{Budget, DType, Shape, Signature, Tensor, TensorSpec, Text, raw};
use crate::{Error, Result};

/// The JSON part.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parameters: Option<RequestParameters<'a>>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(borrow, default)]
    outputs: Option<Vec<Output<'a>>>,
}

#[derive(Deserialize)]
struct RequestParameters<'a> {
    #[serde(borrow, default)]
    signature_name: Option<Cow<'a, str>>,
    #[serde(default)]
    binary_data_output: bool,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Option<InputParameters>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<OutputParameters>,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    #[serde(default)]
    binary_data: Option<bool>,
}

/// Reads a request: JSON, and binary tensors behind it.
///
/// `json_length` is the header `Inference-Header-Content-Length`; without it the whole body is JSON. For a length of 0
/// see [`raw_request`]. Binary tensors share the memory of `body`.
///
/// # Errors
/// `INVALID_ARGUMENT` for bad JSON, for a tensor whose data does not fit its description, naming it, and for bytes that
/// belong to no tensor; `RESOURCE_EXHAUSTED` when the budget is exceeded.
pub fn read_request(body: &Bytes, json_length: Option<usize>, budget: &mut Budget) -> Result<InferRequest> {
    let json_length = json_length.unwrap_or(body.len());
    if json_length > body.len() {
        return Err(malformed(format!(
            "Inference-Header-Content-Length is {json_length}, but the body has only {} bytes",
            body.len()
        )));
    }
    let request: Request = serde_json::from_slice(&body[..json_length])
        .map_err(|error| malformed(format!("The body is not an inference request: {error}")))?;
    let mut binary = body.slice(json_length..);
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for input in request.inputs {
        let tensor = read_input(body, &input, &mut binary, budget);
        let tensor = tensor.map_err(|error| about("Input", &input.name, &error))?;
        inputs.push((text(body, input.name), tensor));
    }
    if !binary.is_empty() {
        return Err(malformed(format!("{} bytes of binary data belong to no input", binary.len())));
    }
    Ok(InferRequest {
        id: request.id.map(|id| text(body, id)).unwrap_or_default(),
        parameters: request.parameters.map(|given| parameters(body, given)).unwrap_or_default(),
        outputs: request.outputs.into_iter().flatten().map(|output| requested_output(body, output)).collect(),
        inputs,
        ..InferRequest::default()
    })
}

/// The request whose body is nothing but the elements of the only input (`Inference-Header-Content-Length: 0`).
///
/// The shape is that of the signature. One open dimension takes what the bytes give; where there are more, the first
/// one, the batch, is 1. A body for `BYTES` is one element, without its length in front. The outputs come in binary
/// form.
///
/// # Errors
/// `INVALID_ARGUMENT` when the signature has several inputs, or a shape that the bytes do not make up.
pub fn raw_request(body: &Bytes, signature: &Signature) -> Result<InferRequest> {
    let [input] = signature.inputs.as_slice() else {
        let count = signature.inputs.len();
        return Err(malformed(format!("A body without JSON is for models with one input, but this one has {count}")));
    };
    let tensor = raw_tensor(body, input).map_err(|error| about("Input", &input.name, &error))?;
    Ok(InferRequest {
        inputs: vec![(input.name.as_str().into(), tensor)],
        parameters: Parameters { binary_data_output: true, ..Parameters::default() },
        ..InferRequest::default()
    })
}

fn raw_tensor(body: &Bytes, input: &TensorSpec) -> Result<Tensor> {
    let mut shape = Shape::from_slice(input.shape.as_deref().unwrap_or(&[-1]));
    let elements = match input.dtype.size() {
        Some(size) => body.len() / size,
        None => 1,
    };
    if shape.iter().filter(|&&dim| dim < 0).count() > 1 && shape[0] < 0 {
        shape[0] = 1;
    }
    let known = element_count(&shape.iter().copied().filter(|&dim| dim >= 0).collect::<Shape>())?;
    let mut open = shape.iter_mut().filter(|dim| **dim < 0);
    if let Some(dim) = open.next() {
        *dim = elements.checked_div(known).unwrap_or(0) as i64;
    }
    if open.next().is_some() {
        return Err(malformed("The shape cannot be told from the size of the body"));
    }
    match input.dtype {
        DType::String => Tensor::strings(shape, vec![body.clone()]),
        dtype => raw::fixed(dtype, shape, body.clone()),
    }
}

fn read_input(body: &Bytes, input: &Input, binary: &mut Bytes, budget: &mut Budget) -> Result<Tensor> {
    let dtype = DType::from_oip(&input.datatype)
        .ok_or_else(|| Error::invalid(format!("Unknown datatype '{}'", &*input.datatype)))?;
    if input.shape.len() > raw::MAX_RANK {
        return Err(Error::invalid("It has too many dimensions"));
    }
    let shape = Shape::from_slice(&input.shape);
    let size = input.parameters.as_ref().and_then(|parameters| parameters.binary_data_size);
    match (input.data, size) {
        (Some(data), None) => read_data(body, data.get().as_bytes(), dtype, shape, budget),
        (None, Some(size)) if size <= binary.len() => read_raw(dtype, shape, binary.split_to(size), budget),
        (None, Some(size)) => Err(Error::invalid(format!(
            "Its binary_data_size is {size}, but only {} bytes are left behind the JSON part",
            binary.len()
        ))),
        (Some(_), Some(_)) => Err(Error::invalid("It has data as well as binary_data_size")),
        (None, None) => Err(Error::invalid("It has neither data nor binary_data_size")),
    }
}

fn parameters(body: &Bytes, given: RequestParameters) -> Parameters {
    Parameters {
        signature_name: given.signature_name.map(|name| text(body, name)).unwrap_or_default(),
        binary_data_output: given.binary_data_output,
    }
}

fn requested_output(body: &Bytes, output: Output) -> RequestedOutput {
    let binary_data = output.parameters.and_then(|parameters| parameters.binary_data);
    RequestedOutput { name: text(body, output.name), binary_data }
}

/// Text that shares the memory of the body where it has no escapes.
fn text(body: &Bytes, given: Cow<'_, str>) -> Text {
    match given {
        Cow::Borrowed(part) => Text::from_utf8(body.slice_ref(part.as_bytes())).unwrap_or_default(),
        Cow::Owned(own) => own.into(),
    }
}

#[cold]
fn malformed(message: impl Into<Cow<'static, str>>) -> Error {
    Error::invalid(message).with_reason("malformed_request")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Data, fixtures};
    use proptest::prelude::*;

    fn read(body: impl Into<Bytes>, json_length: Option<usize>) -> Result<InferRequest> {
        read_request(&body.into(), json_length, &mut Budget::new(1 << 16))
    }

    fn refusal(body: &str) -> String {
        read(body.to_owned(), None).unwrap_err().message.into_owned()
    }

    #[test]
    fn tritonclients_binary_request_is_read() {
        let body = fixtures::read("oip_rest_binary");
        let header = fixtures::read("oip_rest_binary_header");
        let length = std::str::from_utf8(&header).unwrap().parse().unwrap();
        let request = read(body.clone(), Some(length)).unwrap();
        assert_eq!((&*request.id, &*request.parameters.signature_name), ("r1", "classes"));
        let Data::Fixed(bytes) = &request.inputs[0].1.data else { panic!("not fixed") };
        assert_eq!(bytes, &fixtures::read("raw.float"));
        assert!(body.as_ptr_range().contains(&bytes.as_ptr()), "binary data is not copied");
        let words = [&b""[..], b"\xff\x00", b"words"].map(Bytes::from_static).to_vec();
        assert_eq!(request.inputs[1].1.data, Data::Strings(words));
        let output = |name: &str, binary| RequestedOutput { name: name.into(), binary_data: Some(binary) };
        assert_eq!(request.outputs, [output("scores", true), output("words", false)]);
    }

    #[test]
    fn tritonclients_json_request_is_read() {
        let request = read(fixtures::read("oip_rest_json"), None).unwrap();
        assert_eq!(request.inputs[0].1.values::<f32>().unwrap().as_ref(), [0., -1.5, 3e38, 0.1]);
        let words = ["a\u{20ac}", "\"\\"].map(|word| Bytes::from_static(word.as_bytes())).to_vec();
        assert_eq!(request.inputs[1].1.data, Data::Strings(words));
        assert!(request.parameters.binary_data_output, "tritonclient asks for binary outputs when it names none");
    }

    #[test]
    fn keys_may_come_in_any_order_and_unknown_ones_are_ignored() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = format!(
            r#"{{"x": {deep},
                "inputs": [{{"data": [1], "parameters": {{"p": {deep}}}, "shape": [1], "name": "\u0061",
                             "datatype": "INT8"}}],
                "parameters": {{"sequence_id": 0}},
                "outputs": [{{"name": "y", "parameters": {{"classification": 2}}}}]}}"#
        );
        let request = read(body, None).unwrap();
        assert_eq!(request.inputs[0].0, "a");
        assert_eq!(request.outputs, [RequestedOutput { name: "y".into(), binary_data: None }]);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(refusal("{}"), "The body is not an inference request: missing field `inputs` at line 1 column 2");
        assert!(refusal("[").starts_with("The body is not an inference request: "));
        assert!(
            refusal(r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}"#)
                .contains("line 1")
        );
        assert!(refusal(&"[".repeat(100_000)).starts_with("The body is not an inference request: "));
    }

    #[test]
    fn an_input_that_does_not_fit_is_named() {
        let input = |rest: &str| refusal(&format!(r#"{{"inputs": [{{"name": "x", "shape": [2], {rest}}}]}}"#));
        assert_eq!(input(r#""datatype": "FP99", "data": []"#), "Input 'x': Unknown datatype 'FP99'");
        assert_eq!(
            input(r#""datatype": "FP32", "data": [1]"#),
            "Input 'x': The shape asks for 2 elements but the data has 1"
        );
        assert_eq!(
            input(r#""datatype": "FP32", "parameters": {"binary_data_size": 8}"#),
            "Input 'x': Its binary_data_size is 8, but only 0 bytes are left behind the JSON part"
        );
        assert_eq!(input(r#""datatype": "FP32""#), "Input 'x': It has neither data nor binary_data_size");
        assert_eq!(
            input(r#""datatype": "FP32", "data": [1], "parameters": {"binary_data_size": 8}"#),
            "Input 'x': It has data as well as binary_data_size"
        );
    }

    #[test]
    fn binary_data_must_fit_exactly() {
        let json =
            r#"{"inputs": [{"name": "x", "shape": [2], "datatype": "INT8", "parameters": {"binary_data_size": 2}}]}"#;
        let with = |binary: &str| read(format!("{json}{binary}"), Some(json.len()));
        assert!(with("ab").is_ok());
        assert_eq!(with("abc").unwrap_err().message, "1 bytes of binary data belong to no input");
        assert!(with("a").is_err());
        assert!(read(json, Some(1000)).unwrap_err().message.starts_with("Inference-Header-Content-Length is 1000"));
    }

    fn signature(inputs: &[(DType, Option<&[i64]>)]) -> Signature {
        let spec = |(dtype, shape): &(DType, Option<&[i64]>)| TensorSpec {
            name: "x".to_owned(),
            tensor_name: "x".to_owned(),
            dtype: *dtype,
            shape: shape.map(<[i64]>::to_vec),
        };
        let inputs = inputs.iter().map(spec).collect();
        Signature { inputs, ..Signature::default() }
    }

    #[test]
    fn a_body_without_json_takes_the_shape_of_the_signature() {
        let shape = |dtype, shape: Option<&[i64]>| {
            let request = raw_request(&Bytes::from_static(&[0; 24]), &signature(&[(dtype, shape)]))?;
            assert!(request.wants_binary(0));
            Ok::<_, Error>(request.inputs[0].1.shape.to_vec())
        };
        assert_eq!(shape(DType::F32, Some(&[-1, 3])).unwrap(), [2, 3]);
        assert_eq!(shape(DType::F32, Some(&[-1, -1, 2])).unwrap(), [1, 3, 2]);
        assert_eq!(shape(DType::F32, None).unwrap(), [6]);
        assert_eq!(shape(DType::F32, Some(&[6])).unwrap(), [6]);
        assert_eq!(shape(DType::String, Some(&[-1, 1])).unwrap(), [1, 1]);
        assert!(shape(DType::F32, Some(&[-1, 4])).is_err());
        assert!(shape(DType::F32, Some(&[-1, 0])).is_err());
        assert!(shape(DType::F32, Some(&[-1, -1, -1])).is_err());
        assert!(shape(DType::String, Some(&[2])).is_err());
        assert!(raw_request(&Bytes::new(), &signature(&[])).is_err());
    }

    #[test]
    fn a_request_cut_anywhere_is_refused() {
        let body = fixtures::read("oip_rest_json");
        for end in 0..body.len() {
            assert!(read(body.slice(..end), None).is_err());
        }
        let body = fixtures::read("oip_rest_binary");
        for end in 0..body.len() {
            let _ = read(body.slice(..end), Some(347));
            let _ = read(body.clone(), Some(end));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>, length: Option<usize>) {
            let _ = read(bytes, length);
        }
    }
}

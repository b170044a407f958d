//! `ModelInferRequest`.

use bytes::Bytes;

use super::tensors::{Parts, put_tensor_parts, put_tensors, read_tensors};
use crate::Result;
use crate::wire::oip::{InferRequest, Parameters, RequestedOutput};
use crate::wire::protobuf::{Fields, Value, field_len, map_entry, put_bytes, put_length, put_text, text};
use crate::wire::{Budget, Tensor, Text};

/// Reads a serialized `ModelInferRequest`. Raw contents, strings and lists of floats share the memory of `body`.
///
/// # Errors
/// `INVALID_ARGUMENT` for a malformed message, and for a tensor whose contents do not fit its description, naming it;
/// `RESOURCE_EXHAUSTED` when the budget is exceeded.
pub fn read_request(body: &Bytes, budget: &mut Budget) -> Result<InferRequest> {
    let mut request = InferRequest::default();
    let (mut inputs, mut raws) = (Parts::new(), Parts::new());
    for field in Fields::new(body) {
        match field? {
            (1, Value::Bytes(name)) => request.model = text(body, name)?,
            (2, Value::Bytes(version)) => request.version = text(body, version)?,
            (3, Value::Bytes(id)) => request.id = text(body, id)?,
            (4, Value::Bytes(entry)) => read_parameter(body, entry, &mut request.parameters)?,
            (5, Value::Bytes(input)) => inputs.push(input),
            (6, Value::Bytes(output)) => request.outputs.push(read_output(body, output)?),
            (7, Value::Bytes(raw)) => raws.push(raw),
            _ => {}
        }
    }
    request.inputs = read_tensors(body, "Input", &inputs, &raws, budget)?;
    Ok(request)
}

/// One entry of `parameters`: its value is an `InferParameter`, whose field 3 is a string.
fn read_parameter(body: &Bytes, entry: &[u8], parameters: &mut Parameters) -> Result<()> {
    let (key, value) = map_entry(entry)?;
    if key == b"signature_name" {
        for field in Fields::new(value) {
            if let (3, Value::Bytes(name)) = field? {
                parameters.signature_name = text(body, name)?;
            }
        }
    }
    Ok(())
}

/// `InferRequestedOutputTensor`, of whose fields only the name matters: the form over gRPC is always the same.
fn read_output(body: &Bytes, message: &[u8]) -> Result<RequestedOutput> {
    let mut name = Text::default();
    for field in Fields::new(message) {
        if let (1, Value::Bytes(bytes)) = field? {
            name = text(body, bytes)?;
        }
    }
    Ok(RequestedOutput { name, binary_data: None })
}

/// A request to another server.
#[derive(Clone, Copy, Debug, Default)]
pub struct InferCall<'a> {
    pub model: &'a str,
    /// Empty: the server chooses.
    pub version: &'a str,
    /// Empty: none.
    pub id: &'a str,
    /// Empty: the default signature.
    pub signature_name: &'a str,
    pub inputs: &'a [(&'a str, &'a Tensor)],
    /// None: all outputs.
    pub outputs: &'a [&'a str],
}

impl InferCall<'_> {
    /// Appends the serialized `ModelInferRequest`, with raw contents, to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.put_head(out);
        put_tensors(out, 5, 7, self.inputs);
    }

    /// As [`InferCall::write`], but in parts: large tensors are not copied.
    pub fn write_parts(&self, parts: &mut Vec<Bytes>) {
        let mut out = Vec::with_capacity(256);
        self.put_head(&mut out);
        put_tensor_parts(parts, out, 5, 7, self.inputs);
    }

    fn put_head(&self, out: &mut Vec<u8>) {
        put_text(out, 1, self.model);
        put_text(out, 2, self.version);
        put_text(out, 3, self.id);
        if !self.signature_name.is_empty() {
            let key = "signature_name";
            let value = field_len(3, self.signature_name.len());
            put_length(out, 4, field_len(1, key.len()) + field_len(2, value));
            put_text(out, 1, key);
            put_length(out, 2, value);
            put_text(out, 3, self.signature_name);
        }
        for name in self.outputs {
            put_length(out, 6, field_len(1, name.len()));
            put_bytes(out, 1, name.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DType, Data, fixtures};
    use proptest::prelude::*;

    fn read(body: &Bytes) -> Result<InferRequest> {
        read_request(body, &mut Budget::new(1 << 16))
    }

    #[test]
    fn tritonclients_request_is_read() {
        let body = fixtures::read("oip_grpc_request");
        let request = read(&body).unwrap();
        assert_eq!((&*request.model, &*request.version, &*request.id), ("digits", "5", "r1"));
        assert_eq!(request.parameters.signature_name, "classes");
        assert_eq!(request.outputs, [RequestedOutput { name: "scores".into(), binary_data: None }]);
        let Data::Fixed(bytes) = &request.inputs[0].1.data else { panic!("not fixed") };
        assert_eq!(bytes, &fixtures::read("raw.float"));
        assert!(body.as_ptr_range().contains(&bytes.as_ptr()), "raw contents are not copied");
        let words = [&b""[..], b"\xff\x00", b"words"].map(Bytes::from_static).to_vec();
        assert_eq!(request.inputs[1].1.data, Data::Strings(words));
    }

    #[test]
    fn typed_contents_of_every_datatype_are_read() {
        let request = read(&fixtures::read("oip_grpc_typed")).unwrap();
        assert_eq!(request.inputs.len(), 12);
        for (name, tensor) in &request.inputs[..11] {
            let Data::Fixed(bytes) = &tensor.data else { panic!("not fixed") };
            assert_eq!(bytes, &fixtures::read(&format!("raw.{name}")), "{name}");
        }
        assert_eq!(request.inputs[11].1.len(), 3);
    }

    /// A request with one input of these fields, and these raw contents.
    fn with_input(datatype: &str, shape: &[u8], contents: Option<&[u8]>, raws: &[&[u8]]) -> Bytes {
        let mut input = Vec::new();
        put_text(&mut input, 1, "x");
        put_text(&mut input, 2, datatype);
        put_bytes(&mut input, 3, shape);
        if let Some(contents) = contents {
            put_bytes(&mut input, 5, contents);
        }
        let mut out = Vec::new();
        put_bytes(&mut out, 5, &input);
        raws.iter().for_each(|raw| put_bytes(&mut out, 7, raw));
        out.into()
    }

    #[test]
    fn contents_that_do_not_fit_are_refused_by_name() {
        let refusal = |datatype, shape: &[u8], contents, raws: &[&[u8]]| {
            read(&with_input(datatype, shape, contents, raws)).unwrap_err().message.into_owned()
        };
        assert_eq!(
            refusal("FP32", &[3], None, &[&[0; 8]]),
            "Input 'x': A tensor of type float and shape [3] needs 12 bytes but got 8"
        );
        assert_eq!(refusal("FP33", &[1], None, &[]), "Input 'x': Unknown datatype 'FP33'");
        assert_eq!(
            refusal("INT8", &[2], Some(&[0x12, 1, 5]), &[]),
            "Input 'x': The shape asks for 2 elements but the contents have 1"
        );
        assert_eq!(
            refusal("INT8", &[1], Some(&[0x12, 3, 1, 2, 3]), &[]),
            "Input 'x': The shape asks for 1 elements but the contents have more"
        );
        assert_eq!(
            refusal("INT8", &[1], Some(&[0x12, 2, 0x80, 1]), &[]),
            "Input 'x': An element is out of range for INT8"
        );
        assert_eq!(refusal("FP16", &[1], Some(&[]), &[]), "Input 'x': Elements of FP16 must come as raw contents");
        assert_eq!(
            refusal("INT8", &[1], Some(&[0x12, 1, 5]), &[&[1]]),
            "Input 'x': It has contents beside the raw contents"
        );
        assert_eq!(refusal("INT8", &[1], None, &[&[1], &[1]]), "There are raw contents of 2 tensors, but 1 tensors");
        assert_eq!(refusal("INT8", &[1; 255], None, &[&[1]]), "Tensor 'x': It has too many dimensions");
    }

    #[test]
    fn a_shape_cannot_ask_for_much_memory() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        for datatype in ["INT8", "BYTES", "FP64"] {
            assert!(read(&with_input(datatype, &huge, None, &[])).is_err());
            assert!(read(&with_input(datatype, &huge, None, &[b"abcd"])).is_err());
        }
    }

    #[test]
    fn a_request_cut_anywhere_is_read_or_refused() {
        for name in ["oip_grpc_request", "oip_grpc_typed"] {
            let body = fixtures::read(name);
            for end in 0..body.len() {
                let _ = read(&body.slice(..end));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>) {
            let _ = read(&bytes.into());
        }

        #[test]
        fn a_call_is_read_back(
            model in ".{0,9}",
            version in "[0-9]{0,3}",
            signature_name in ".{0,9}",
            values: Vec<i64>,
            words: Vec<Vec<u8>>,
            names in prop::collection::vec(".{0,9}", 0..3),
        ) {
            let numbers = Tensor::from_vec([values.len() as i64].into_iter().collect(), values).unwrap();
            let words = words.into_iter().map(Bytes::from).collect::<Vec<_>>();
            let words = Tensor::strings([1, words.len() as i64].into_iter().collect(), words).unwrap();
            let outputs: Vec<&str> = names.iter().map(String::as_str).collect();
            let inputs = [("n", &numbers), ("w", &words)];
            let call = InferCall {
                model: &model,
                version: &version,
                id: "7",
                signature_name: &signature_name,
                inputs: &inputs,
                outputs: &outputs,
            };
            let (mut out, mut parts) = (Vec::new(), Vec::new());
            call.write(&mut out);
            call.write_parts(&mut parts);
            prop_assert_eq!(parts.concat(), out.clone());
            let request = read(&out.into()).unwrap();
            prop_assert_eq!((&*request.model, &*request.version, &*request.id), (&*model, &*version, "7"));
            prop_assert_eq!(&*request.parameters.signature_name, &*signature_name);
            prop_assert_eq!(request.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), outputs);
            prop_assert_eq!(&request.inputs[0].1, &numbers);
            prop_assert_eq!(&request.inputs[1].1, &words);
            prop_assert_eq!(numbers.dtype, DType::I64);
        }
    }
}

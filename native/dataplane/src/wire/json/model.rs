//! Answers about a model: the states of its versions, and the signatures of one.

use super::string::write_string;
use crate::wire::{DType, Signature, Signatures, TensorSpec, VersionStatus};

/// Appends the status of a model, highest version first.
///
/// Source: `GetModelStatusResponse` in tensorflow_serving/apis/get_model_status.proto, as proto3 JSON.
///
/// ```
/// use dataplane::Code;
/// use dataplane::wire::{VersionState, VersionStatus, json};
///
/// let mut out = Vec::new();
/// let version =
///     VersionStatus { version: 3, state: VersionState::Available, code: Code::Ok, message: String::new() };
/// json::write_status(&mut out, &[version]);
/// assert_eq!(
///     String::from_utf8(out).unwrap(),
///     concat!(
///         r#"{"model_version_status": [{"version": "3", "state": "AVAILABLE", "#,
///         r#""status": {"error_code": "OK", "error_message": ""}}]}"#,
///     )
/// );
/// ```
pub fn write_status(out: &mut Vec<u8>, versions: &[VersionStatus]) {
    let mut versions: Vec<&VersionStatus> = versions.iter().collect();
    versions.sort_by_key(|status| std::cmp::Reverse(status.version));
    out.extend_from_slice(b"{\"model_version_status\": [");
    for (index, status) in versions.into_iter().enumerate() {
        write_comma(out, index);
        let (version, state, code) = (status.version, status.state.name(), status.code.name());
        out.extend_from_slice(format!("{{\"version\": \"{version}\", \"state\": \"{state}\", ").as_bytes());
        out.extend_from_slice(format!("\"status\": {{\"error_code\": \"{code}\", \"error_message\": ").as_bytes());
        write_string(out, status.message.as_bytes());
        out.extend_from_slice(b"}}");
    }
    out.extend_from_slice(b"]}");
}

/// Appends the signatures of a version.
///
/// Source: `GetModelMetadataResponse` in tensorflow_serving/apis/get_model_metadata.proto, as proto3 JSON with the
/// names of the proto and with default values written out. (`signature_def` comes twice: it is the key and the field.)
pub fn write_metadata(out: &mut Vec<u8>, model: &str, version: i64, signatures: &Signatures) {
    out.extend_from_slice(b"{\"model_spec\": {\"name\": ");
    write_string(out, model.as_bytes());
    out.extend_from_slice(format!(", \"signature_name\": \"\", \"version\": \"{version}\"}}, ").as_bytes());
    out.extend_from_slice(b"\"metadata\": {\"signature_def\": {\"signature_def\": {");
    for (index, signature) in signatures.iter().enumerate() {
        write_comma(out, index);
        write_name(out, &signature.name);
        write_signature(out, signature);
    }
    out.extend_from_slice(b"}}}}");
}

fn write_signature(out: &mut Vec<u8>, signature: &Signature) {
    out.extend_from_slice(b"{\"inputs\": ");
    write_tensors(out, &signature.inputs);
    out.extend_from_slice(b", \"outputs\": ");
    write_tensors(out, &signature.outputs);
    out.extend_from_slice(b", \"method_name\": ");
    write_string(out, signature.method_name.as_bytes());
    out.extend_from_slice(b", \"defaults\": {}}");
}

fn write_tensors(out: &mut Vec<u8>, tensors: &[TensorSpec]) {
    out.push(b'{');
    for (index, tensor) in tensors.iter().enumerate() {
        write_comma(out, index);
        write_name(out, &tensor.name);
        out.extend_from_slice(b"{\"dtype\": ");
        write_dtype(out, tensor.dtype);
        out.extend_from_slice(b", \"tensor_shape\": {\"dim\": [");
        for (index, dim) in tensor.shape.iter().flatten().enumerate() {
            write_comma(out, index);
            out.extend_from_slice(format!("{{\"size\": \"{dim}\", \"name\": \"\"}}").as_bytes());
        }
        out.extend_from_slice(format!("], \"unknown_rank\": {}}}, \"name\": ", tensor.shape.is_none()).as_bytes());
        write_string(out, tensor.tensor_name.as_bytes());
        out.push(b'}');
    }
    out.push(b'}');
}

/// The name of the enum's value; its number, which proto3 JSON allows as well, where the name is not known here.
fn write_dtype(out: &mut Vec<u8>, dtype: DType) {
    let name = dtype.tf_name();
    let text = if name.starts_with("DT_") { format!("\"{name}\"") } else { name };
    out.extend_from_slice(text.as_bytes());
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    write_string(out, name.as_bytes());
    out.extend_from_slice(b": ");
}

fn write_comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.extend_from_slice(b", ");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Code;
    use crate::wire::VersionState;

    #[test]
    fn the_highest_version_comes_first_and_messages_are_escaped() {
        let version =
            |version, state, code, message: &str| VersionStatus { version, state, code, message: message.into() };
        let mut out = Vec::new();
        write_status(
            &mut out,
            &[
                version(1, VersionState::End, Code::Internal, "no \"x\""),
                version(12, VersionState::Loading, Code::Ok, ""),
            ],
        );
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"model_version_status": [
                {"version": "12", "state": "LOADING", "status": {"error_code": "OK", "error_message": ""}},
                {"version": "1", "state": "END", "status": {"error_code": "INTERNAL", "error_message": "no \"x\""}},
            ]})
        );
    }

    #[test]
    fn metadata_has_the_shape_of_the_proto() {
        let spec =
            |name: &str, dtype, shape| TensorSpec { name: name.into(), tensor_name: format!("{name}:0"), dtype, shape };
        let signature = Signature {
            name: "serving_default".into(),
            method_name: "tensorflow/serving/predict".into(),
            inputs: vec![spec("x", DType::F32, Some(vec![-1, 4])), spec("n", DType::I64, Some(vec![]))],
            outputs: vec![spec("y", DType::Other(99), None)],
            ..Signature::default()
        };
        let mut out = Vec::new();
        write_metadata(&mut out, "a\"b", 7, &Signatures(vec![Arc::new(signature)]));
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let dim = |size: &str| serde_json::json!({"size": size, "name": ""});
        let matrix = serde_json::json!({"dim": [dim("-1"), dim("4")], "unknown_rank": false});
        assert_eq!(
            read,
            serde_json::json!({
                "model_spec": {"name": "a\"b", "signature_name": "", "version": "7"},
                "metadata": {"signature_def": {"signature_def": {"serving_default": {
                    "inputs": {
                        "x": {"dtype": "DT_FLOAT", "tensor_shape": matrix, "name": "x:0"},
                        "n": {"dtype": "DT_INT64", "tensor_shape": {"dim": [], "unknown_rank": false}, "name": "n:0"},
                    },
                    "outputs": {"y": {"dtype": 99, "tensor_shape": {"dim": [], "unknown_rank": true}, "name": "y:0"}},
                    "method_name": "tensorflow/serving/predict",
                    "defaults": {},
                }}}},
            })
        );
    }
}

//! The signatures inside a serialized `MetaGraphDef`.
//!
//! Source: tensorflow/core/protobuf/meta_graph.proto.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::protobuf::{Fields, Value, map_entry};
use crate::wire::{DType, Signature, Signatures, TensorSpec};
use crate::{Error, Result};

/// Reads `MetaGraphDef.signature_def`, sorted by name.
///
/// # Errors
/// `INVALID_ARGUMENT` where the bytes are no such message.
pub(super) fn read_signatures(meta_graph: &[u8]) -> Result<Signatures> {
    let mut signatures = Vec::new();
    for field in Fields::new(meta_graph) {
        if let (5, Value::Bytes(entry)) = field? {
            let (name, definition) = map_entry(entry)?;
            signatures.push(Arc::new(read_signature(text(name)?, definition)?));
        }
    }
    signatures.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Signatures(signatures))
}

pub(in crate::engine) fn read_signature(name: String, definition: &[u8]) -> Result<Signature> {
    let mut signature = Signature { name, ..Signature::default() };
    for field in Fields::new(definition) {
        match field? {
            (1, Value::Bytes(entry)) => signature.inputs.push(read_tensor_info(entry)?),
            (2, Value::Bytes(entry)) => signature.outputs.push(read_tensor_info(entry)?),
            (3, Value::Bytes(method)) => signature.method_name = text(method)?,
            (4, Value::Bytes(entry)) => {
                let (name, tensor) = map_entry(entry)?;
                signature.defaults.insert(text(name)?, Bytes::copy_from_slice(tensor));
            }
            _ => {}
        }
    }
    for specs in [&mut signature.inputs, &mut signature.outputs] {
        specs.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(signature)
}

/// One entry of a map from names to `TensorInfo`.
fn read_tensor_info(entry: &[u8]) -> Result<TensorSpec> {
    let (name, info) = map_entry(entry)?;
    let mut spec =
        TensorSpec { name: text(name)?, tensor_name: String::new(), dtype: DType::Other(0), shape: Some(Vec::new()) };
    for field in Fields::new(info) {
        match field? {
            (1, Value::Bytes(name)) => spec.tensor_name = text(name)?,
            (2, Value::Varint(dtype)) => spec.dtype = DType::from_tf(i32::try_from(dtype).unwrap_or_default()),
            (3, Value::Bytes(shape)) => spec.shape = read_shape(shape)?,
            _ => {}
        }
    }
    Ok(spec)
}

fn read_shape(message: &[u8]) -> Result<Option<Vec<i64>>> {
    let mut shape = Vec::new();
    for field in Fields::new(message) {
        match field? {
            (2, Value::Bytes(dimension)) => {
                let mut size = 0;
                for field in Fields::new(dimension) {
                    if let (1, Value::Varint(value)) = field? {
                        size = value.cast_signed();
                    }
                }
                shape.push(size);
            }
            (3, Value::Varint(unknown_rank)) if unknown_rank != 0 => return Ok(None),
            _ => {}
        }
    }
    Ok(Some(shape))
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::invalid("A name in the meta graph is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn entry(name: &str, value: &[u8]) -> Vec<u8> {
        [field(1, name.as_bytes()), field(2, value)].concat()
    }

    #[test]
    fn signatures_are_read_with_names_types_and_shapes() {
        let shape =
            field(3, &[field(2, b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), field(2, b"\x08\x03")].concat());
        let x = [field(1, b"x:0"), vec![0x10, 101], shape].concat();
        let y = [field(1, b"y:0"), vec![0x10, 7], field(3, b"\x18\x01")].concat();
        let definition =
            [field(1, &entry("x", &x)), field(2, &entry("y", &y)), field(3, b"tensorflow/serving/predict")].concat();
        let graph = [field(5, &entry("serving_default", &definition)), field(5, &entry("another", b""))].concat();
        let Signatures(signatures) = read_signatures(&graph).unwrap();
        assert_eq!(signatures.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["another", "serving_default"]);
        let signature = &signatures[1];
        assert_eq!(signature.method_name, "tensorflow/serving/predict");
        let [x, y] = [&signature.inputs[0], &signature.outputs[0]];
        assert_eq!((x.tensor_name.as_str(), x.dtype, &x.shape), ("x:0", DType::F32, &Some(vec![-1, 3])));
        assert_eq!((y.tensor_name.as_str(), y.dtype, &y.shape), ("y:0", DType::String, &None));
    }

    #[test]
    fn what_is_no_meta_graph_is_refused() {
        assert!(read_signatures(b"\x2a\xff").is_err());
    }
}

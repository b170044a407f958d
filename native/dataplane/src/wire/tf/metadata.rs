//! `tensorflow.serving.GetModelMetadata`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::ModelSpec;
use crate::wire::protobuf::{Fields, Value, append, text};
use crate::wire::{Signature, Signatures, TensorSpec, Text};
use crate::{Error, Result};

/// The only metadata there is.
const SIGNATURE_DEF: &str = "signature_def";
const SIGNATURE_DEF_URL: &str = "type.googleapis.com/tensorflow.serving.SignatureDefMap";

/// `GetModelMetadataRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataRequest {
    /// See [`ModelSpec::required`].
    pub model_spec: Option<ModelSpec>,
    pub fields: Vec<Text>,
}

impl MetadataRequest {
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed message.
    pub fn read(body: &Bytes) -> Result<MetadataRequest> {
        let mut request = MetadataRequest::default();
        for field in Fields::new(body) {
            match field? {
                (1, Value::Bytes(spec)) => request.model_spec.get_or_insert_default().merge(body, spec)?,
                (2, Value::Bytes(name)) => request.fields.push(text(body, name)?),
                _ => {}
            }
        }
        Ok(request)
    }

    /// Checks that nothing is asked for but `signature_def`. TF Serving does this after [`ModelSpec::required`].
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with TF Serving's texts.
    pub fn check_fields(&self) -> Result<()> {
        if self.fields.is_empty() {
            let message = "GetModelMetadataRequest must specify at least one metadata_field";
            return Err(Error::invalid(message).with_reason("wrong_metadata_field"));
        }
        match self.fields.iter().find(|name| *name != SIGNATURE_DEF) {
            Some(name) => {
                Err(Error::invalid(format!("Metadata field {name} is not supported"))
                    .with_reason("wrong_metadata_field"))
            }
            None => Ok(()),
        }
    }
}

/// Appends a serialized `GetModelMetadataResponse` to `out`.
pub fn write_metadata_response(out: &mut Vec<u8>, model: &str, version: i64, signatures: &Signatures) {
    let signature_def =
        signatures.iter().map(|signature| (signature.name.clone(), signature.as_ref().into())).collect();
    let value = SignatureDefMap { signature_def }.encode_to_vec();
    let any = Any { type_url: SIGNATURE_DEF_URL.to_owned(), value };
    super::model_spec::put_model_spec(out, 1, model, version, "");
    append(out, &GetModelMetadataResponse { metadata: BTreeMap::from([(SIGNATURE_DEF.to_owned(), any)]) });
}

/// Its field 1 is the `ModelSpec`, which [`write_metadata_response`] writes in front.
#[derive(Clone, PartialEq, Message)]
struct GetModelMetadataResponse {
    #[prost(btree_map = "string, message", tag = "2")]
    metadata: BTreeMap<String, Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SignatureDefMap {
    #[prost(btree_map = "string, message", tag = "1")]
    signature_def: BTreeMap<String, SignatureDef>,
}

#[derive(Clone, PartialEq, Message)]
struct SignatureDef {
    #[prost(btree_map = "string, message", tag = "1")]
    inputs: BTreeMap<String, TensorInfo>,
    #[prost(btree_map = "string, message", tag = "2")]
    outputs: BTreeMap<String, TensorInfo>,
    #[prost(string, tag = "3")]
    method_name: String,
    /// Serialized `TensorProto`s: on the wire a message is no other than bytes.
    #[prost(btree_map = "string, bytes", tag = "4")]
    defaults: BTreeMap<String, Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    dtype: i32,
    #[prost(message, optional, tag = "3")]
    tensor_shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
    #[prost(bool, tag = "3")]
    unknown_rank: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

impl From<&Signature> for SignatureDef {
    fn from(signature: &Signature) -> Self {
        let infos = |specs: &[TensorSpec]| specs.iter().map(|spec| (spec.name.clone(), spec.into())).collect();
        SignatureDef {
            inputs: infos(&signature.inputs),
            outputs: infos(&signature.outputs),
            method_name: signature.method_name.clone(),
            defaults: signature.defaults.clone(),
        }
    }
}

impl From<&TensorSpec> for TensorInfo {
    fn from(spec: &TensorSpec) -> Self {
        let dim = spec.shape.iter().flatten().map(|&size| Dim { size }).collect();
        TensorInfo {
            name: spec.tensor_name.clone(),
            dtype: spec.dtype.tf(),
            tensor_shape: Some(TensorShapeProto { dim, unknown_rank: spec.shape.is_none() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DType, fixtures};
    use std::sync::Arc;

    fn spec(name: &str, dtype: DType, shape: Option<Vec<i64>>) -> TensorSpec {
        TensorSpec { name: name.to_owned(), tensor_name: format!("{name}:0"), dtype, shape }
    }

    #[test]
    fn metadata_is_written_as_the_reference_encoder_writes_it() {
        let signature = Signature {
            name: "serving_default".to_owned(),
            method_name: "tensorflow/serving/predict".to_owned(),
            inputs: vec![spec("x", DType::F32, Some(vec![-1, 784])), spec("words", DType::String, None)],
            outputs: vec![spec("y", DType::I64, Some(vec![]))],
            ..Signature::default()
        };
        let mut out = Vec::new();
        write_metadata_response(&mut out, "digits", 3, &Signatures(vec![Arc::new(signature)]));
        assert_eq!(out, fixtures::read("tf_metadata_response"));
    }

    #[test]
    fn only_signature_def_may_be_asked_for() {
        let request = MetadataRequest::read(&fixtures::read("tf_metadata_request")).unwrap();
        assert_eq!(&*request.model_spec.as_ref().unwrap().name, "digits");
        assert_eq!(request.check_fields(), Ok(()));
        let none = MetadataRequest::default().check_fields().unwrap_err();
        assert_eq!(none.message, "GetModelMetadataRequest must specify at least one metadata_field");
        let other = MetadataRequest { model_spec: None, fields: vec!["signature_def".into(), "z".into()] };
        assert_eq!(other.check_fields().unwrap_err().message, "Metadata field z is not supported");
    }
}

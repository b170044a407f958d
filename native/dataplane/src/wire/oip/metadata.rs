//! The messages that describe servers and models, for gRPC ([`append`](crate::wire::protobuf::append) writes them) and
//! as JSON bodies ([`json`]).

use prost::Message;
use serde::Serialize;

use crate::wire::{Signature, TensorSpec};
use crate::{Error, Result};

/// `ServerLiveResponse`, and the body of `GET v2/health/live`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct ServerLive {
    #[prost(bool, tag = "1")]
    pub live: bool,
}

/// `ServerReadyResponse`, and the body of `GET v2/health/ready`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct ServerReady {
    #[prost(bool, tag = "1")]
    pub ready: bool,
}

/// `ModelReadyResponse`. The body of `GET v2/models/NAME/ready` is [`ModelReady::json`].
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct ModelReady {
    #[prost(bool, tag = "1")]
    pub ready: bool,
}

impl ModelReady {
    /// The body over REST, which names the model.
    pub fn json(&self, name: &str) -> Vec<u8> {
        serde_json::json!({"name": name, "ready": self.ready}).to_string().into_bytes()
    }
}

/// `ServerMetadataResponse`, and the body of `GET v2`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct ServerMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(string, repeated, tag = "3")]
    pub extensions: Vec<String>,
}

/// `ModelReadyRequest` and `ModelMetadataRequest`, which look alike.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ModelRequest {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Empty: the server chooses.
    #[prost(string, tag = "2")]
    pub version: String,
}

impl ModelRequest {
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed message.
    pub fn read(body: &[u8]) -> Result<ModelRequest> {
        ModelRequest::decode(body).map_err(|error| {
            Error::invalid(format!("The request is not a well-formed protobuf message: {error}"))
                .with_reason("malformed_protobuf")
        })
    }
}

/// `ModelMetadataResponse`, and the body of `GET v2/models/NAME`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct ModelMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub versions: Vec<String>,
    #[prost(string, tag = "3")]
    pub platform: String,
    #[prost(message, repeated, tag = "4")]
    pub inputs: Vec<TensorMetadata>,
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<TensorMetadata>,
}

/// One input or output of a model.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct TensorMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    /// E.g. `FP32`, `BYTES`.
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// -1 for an open dimension. The protocol has no word for an open rank: that is `[-1]` here.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
}

impl ModelMetadata {
    /// The metadata of a model whose inputs and outputs are those of `signature`.
    pub fn new(name: &str, versions: &[i64], platform: &str, signature: &Signature) -> ModelMetadata {
        ModelMetadata {
            name: name.to_owned(),
            versions: versions.iter().map(i64::to_string).collect(),
            platform: platform.to_owned(),
            inputs: signature.inputs.iter().map(TensorMetadata::from).collect(),
            outputs: signature.outputs.iter().map(TensorMetadata::from).collect(),
        }
    }
}

impl From<&TensorSpec> for TensorMetadata {
    fn from(spec: &TensorSpec) -> Self {
        TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.dtype.oip().to_owned(),
            shape: spec.shape.clone().unwrap_or_else(|| vec![-1]),
        }
    }
}

/// The JSON body of one of these.
pub fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("strings and numbers are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protobuf::append;
    use crate::wire::{DType, fixtures};

    #[test]
    fn metadata_is_written_as_the_reference_encoder_writes_it() {
        let spec =
            |name: &str, dtype, shape| TensorSpec { name: name.to_owned(), tensor_name: String::new(), dtype, shape };
        let signature = Signature {
            name: String::new(),
            method_name: String::new(),
            inputs: vec![spec("x", DType::F32, Some(vec![-1, 784]))],
            outputs: vec![spec("words", DType::String, None)],
            ..Signature::default()
        };
        let metadata = ModelMetadata::new("digits", &[4, 5], "onnx", &signature);
        let mut out = Vec::new();
        append(&mut out, &metadata);
        assert_eq!(out, fixtures::read("oip_grpc_metadata"));
        let json: serde_json::Value = serde_json::from_slice(&json(&metadata)).unwrap();
        assert_eq!(json["versions"], serde_json::json!(["4", "5"]));
        assert_eq!(json["inputs"][0], serde_json::json!({"name": "x", "datatype": "FP32", "shape": [-1, 784]}));
    }

    #[test]
    fn health_is_one_word() {
        assert_eq!(json(&ServerLive { live: true }), b"{\"live\":true}");
        assert_eq!(json(&ServerReady { ready: false }), b"{\"ready\":false}");
        assert_eq!(ModelReady { ready: true }.json("m\""), b"{\"name\":\"m\\\"\",\"ready\":true}");
    }

    #[test]
    fn a_malformed_request_is_refused() {
        assert!(ModelRequest::read(b"\x0a\x05abc").is_err());
        assert_eq!(ModelRequest::read(b"\x0a\x01m\x12\x017").unwrap().version, "7");
    }
}

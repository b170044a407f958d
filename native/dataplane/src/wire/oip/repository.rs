//! The messages of the model repository extension over gRPC.
//!
//! Sources: Triton's `grpc_service.proto`
//! (<https://github.com/triton-inference-server/common/blob/main/protobuf/grpc_service.proto>), which MLServer shares, and
//! KServe's `grpc_predict_v2.proto`, which has the model's name where the others have that of the repository.

use std::collections::HashMap;

use prost::{Message, Oneof};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, Result};

/// `RepositoryIndexRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IndexRequest {
    #[prost(string, tag = "1")]
    pub repository_name: String,
    #[prost(bool, tag = "2")]
    pub ready: bool,
}

/// `RepositoryIndexResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IndexResponse {
    #[prost(message, repeated, tag = "1")]
    pub models: Vec<ModelIndex>,
}

/// One version of a model, or a model without any.
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(default)]
pub struct ModelIndex {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
    /// `READY`, `LOADING`, `UNLOADING` or `UNAVAILABLE`.
    #[prost(string, tag = "3")]
    pub state: String,
    #[prost(string, tag = "4")]
    pub reason: String,
}

/// `RepositoryModelLoadRequest` and `RepositoryModelUnloadRequest`, which look alike.
#[derive(Clone, PartialEq, Message)]
pub struct ChangeRequest {
    /// In KServe's form the name of the model.
    #[prost(string, tag = "1")]
    pub repository_name: String,
    #[prost(string, tag = "2")]
    pub model_name: String,
    #[prost(map = "string, message", tag = "3")]
    pub parameters: HashMap<String, Parameter>,
}

/// `ModelRepositoryParameter`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Parameter {
    #[prost(oneof = "Choice", tags = "1, 2, 3, 4")]
    pub choice: Option<Choice>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Choice {
    #[prost(bool, tag = "1")]
    Bool(bool),
    #[prost(int64, tag = "2")]
    Int64(i64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bytes = "vec", tag = "4")]
    Bytes(Vec<u8>),
}

/// The answer to both, in KServe's form; in Triton's it has no fields.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ChangeResponse {
    #[prost(string, tag = "1")]
    pub model_name: String,
    #[prost(bool, tag = "2")]
    pub is_done: bool,
}

impl IndexRequest {
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed message.
    pub fn read(body: &[u8]) -> Result<IndexRequest> {
        IndexRequest::decode(body).map_err(|error| malformed(&error))
    }

    /// What the handler of the repository is asked.
    pub fn describe(&self) -> Value {
        let body = json!({"repository_name": self.repository_name, "ready": self.ready}).to_string();
        json!({"action": "index", "model": "", "version": null, "query": "", "body": body})
    }
}

impl IndexResponse {
    /// The answer of the handler: a list of models.
    ///
    /// # Errors
    /// `INTERNAL` when it is none.
    pub fn from_json(answer: &str) -> Result<IndexResponse> {
        let models = serde_json::from_str(answer);
        models.map(|models| IndexResponse { models }).map_err(|error| Error::internal(error.to_string()))
    }
}

impl ChangeRequest {
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed message.
    pub fn read(body: &[u8]) -> Result<ChangeRequest> {
        ChangeRequest::decode(body).map_err(|error| malformed(&error))
    }

    /// The model that is meant.
    pub fn model(&self) -> &str {
        if self.model_name.is_empty() { &self.repository_name } else { &self.model_name }
    }

    /// What the handler of the repository is asked. Bytes are named by their length: no parameter takes them.
    pub fn describe(&self, action: &str) -> Value {
        let value = |parameter: &Parameter| match &parameter.choice {
            None => Value::Null,
            Some(Choice::Bool(value)) => Value::from(*value),
            Some(Choice::Int64(value)) => Value::from(*value),
            Some(Choice::Text(value)) => Value::from(value.as_str()),
            Some(Choice::Bytes(value)) => Value::from(format!("{} bytes", value.len())),
        };
        let parameters: serde_json::Map<String, Value> =
            self.parameters.iter().map(|(name, parameter)| (name.clone(), value(parameter))).collect();
        let body = json!({"parameters": parameters}).to_string();
        json!({"action": action, "model": self.model(), "version": null, "query": "", "body": body})
    }
}

fn malformed(error: &prost::DecodeError) -> Error {
    Error::invalid(format!("The request is not a well-formed protobuf message: {error}"))
        .with_reason("malformed_protobuf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_in_both_forms_of_the_request() {
        assert_eq!(ChangeRequest::read(b"\x12\x01m").unwrap().model(), "m");
        assert_eq!(ChangeRequest::read(b"\x0a\x01m").unwrap().model(), "m");
        assert!(ChangeRequest::read(b"\x0a\x09m").is_err());
    }

    #[test]
    fn parameters_are_described_as_json() {
        let parameter = Parameter { choice: Some(Choice::Bool(true)) };
        let request = ChangeRequest {
            model_name: "m".to_owned(),
            parameters: HashMap::from([("unload_dependents".to_owned(), parameter)]),
            ..ChangeRequest::default()
        };
        let described = request.describe("unload");
        assert_eq!(described["body"], r#"{"parameters":{"unload_dependents":true}}"#);
        assert_eq!((&described["action"], &described["model"]), (&json!("unload"), &json!("m")));
    }
}

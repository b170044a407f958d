//! `tensorflow.serving.ModelService`: GetModelStatus, and the answer of HandleReloadConfigRequest.

use bytes::Bytes;
use prost::Message;

use super::ModelSpec;
use crate::Result;
use crate::wire::VersionStatus;
use crate::wire::protobuf::{Fields, Value, append};

/// The one field of `GetModelStatusRequest`: which model, and perhaps which version of it.
///
/// # Errors
/// `INVALID_ARGUMENT` for a malformed message. For one without a model see [`ModelSpec::required`].
pub fn read_status_request(body: &Bytes) -> Result<Option<ModelSpec>> {
    let mut spec: Option<ModelSpec> = None;
    for field in Fields::new(body) {
        if let (1, Value::Bytes(message)) = field? {
            spec.get_or_insert_default().merge(body, message)?;
        }
    }
    Ok(spec)
}

/// Appends a serialized `GetModelStatusResponse` to `out`, the versions in the order given.
pub fn write_status_response(out: &mut Vec<u8>, versions: &[VersionStatus]) {
    let model_version_status = versions.iter().map(ModelVersionStatus::from).collect();
    append(out, &GetModelStatusResponse { model_version_status });
}

/// Appends the serialized `ReloadConfigResponse` of a reload that succeeded: a status without an error.
pub fn write_reload_response(out: &mut Vec<u8>) {
    append(out, &ReloadConfigResponse { status: Some(StatusProto::default()) });
}

#[derive(Clone, PartialEq, Message)]
struct ReloadConfigResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<StatusProto>,
}

#[derive(Clone, PartialEq, Message)]
struct GetModelStatusResponse {
    #[prost(message, repeated, tag = "1")]
    model_version_status: Vec<ModelVersionStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelVersionStatus {
    #[prost(int64, tag = "1")]
    version: i64,
    #[prost(int32, tag = "2")]
    state: i32,
    #[prost(message, optional, tag = "3")]
    status: Option<StatusProto>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusProto {
    #[prost(int32, tag = "1")]
    error_code: i32,
    #[prost(string, tag = "2")]
    error_message: String,
}

impl From<&VersionStatus> for ModelVersionStatus {
    fn from(status: &VersionStatus) -> Self {
        ModelVersionStatus {
            version: status.version,
            state: status.state as i32,
            status: Some(StatusProto {
                error_code: i32::from(status.code as u8),
                error_message: status.message.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::wire::VersionState;
    use crate::wire::tf::VersionChoice;

    #[test]
    fn a_status_is_written_as_the_reference_encoder_writes_it() {
        let mut out = Vec::new();
        let failed = VersionStatus {
            version: 123,
            state: VersionState::End,
            code: Code::NotFound,
            message: "no file".to_owned(),
        };
        let fine = VersionStatus { version: 7, state: VersionState::Available, code: Code::Ok, message: String::new() };
        write_status_response(&mut out, &[failed, fine]);
        assert_eq!(out, crate::wire::fixtures::read("tf_status_response"));
    }

    #[test]
    fn a_reload_that_succeeded_answers_with_an_empty_status() {
        let mut out = Vec::new();
        write_reload_response(&mut out);
        assert_eq!(out, [0x0a, 0x00]);
    }

    #[test]
    fn a_request_names_a_model_and_perhaps_a_version() {
        let spec = read_status_request(&crate::wire::fixtures::read("tf_status_request")).unwrap().unwrap();
        assert_eq!((&*spec.name, spec.version), ("digits", VersionChoice::Number(5)));
        assert_eq!(read_status_request(&Bytes::new()), Ok(None));
    }
}

//! What Python describes: the JSON form of the routes. `src/servable/server/publish.py` writes it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Deserialize;

use crate::request_log::LogSettings;
use crate::wire::{VersionState, VersionStatus};
use crate::{Code, Error};

/// What Python describes. Unknown keys are errors: both sides are of one release.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    #[serde(default)]
    pub ready: bool,
    /// Why the server is not ready.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The first load is not over: unknown models may still come.
    #[serde(default)]
    pub starting: bool,
    #[serde(default)]
    pub models: BTreeMap<String, ModelSnapshot>,
    /// Lines for Prometheus' page that only Python knows.
    #[serde(default)]
    pub metrics: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSnapshot {
    /// The version that answers when a request names none.
    #[serde(default)]
    pub default: Option<i64>,
    #[serde(default)]
    pub labels: HashMap<String, i64>,
    /// A swap is under way: requests that find no version wait for the next snapshot.
    #[serde(default)]
    pub hold: bool,
    /// Why nothing answers although it did and will again; empty otherwise.
    #[serde(default)]
    pub unavailable: String,
    /// The versions that are loaded as soon as a request waits for one of them: the model was unloaded to make room.
    #[serde(default)]
    pub on_demand: Vec<i64>,
    /// Why no version could be loaded when one was asked for.
    #[serde(default)]
    pub failure: Option<FailureSnapshot>,
    #[serde(default)]
    pub versions: BTreeMap<String, VersionSnapshot>,
    /// How requests are logged; none are without it.
    #[serde(default)]
    pub request_log: Option<LogSettings>,
    #[serde(default)]
    pub status: Vec<StatusSnapshot>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureSnapshot {
    pub message: String,
    /// Seconds after which it is tried again where it is asked for; absent where it is not.
    #[serde(default)]
    pub retry_s: Option<f64>,
}

impl FailureSnapshot {
    pub(super) fn error(&self, model: &str) -> Error {
        let error = Error::new(Code::Unavailable, format!("Model {model} cannot be loaded: {}", self.message))
            .with_reason("load_failed");
        match self.retry_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            Some(pause) => error.with_retry_after(pause),
            None => error,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionSnapshot {
    /// Key of the loaded servable, given beside the snapshot.
    pub servable: String,
    #[serde(default)]
    pub batching: Option<BatchingSnapshot>,
    #[serde(default = "default_queued_rows")]
    pub max_queued_rows: usize,
    /// Share of the requests whose inputs are kept for [`Skew`](crate::skew::Skew).
    #[serde(default)]
    pub skew_sample: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingSnapshot {
    pub max_rows: usize,
    #[serde(default)]
    pub timeout_us: u64,
    #[serde(default)]
    pub allowed_sizes: Vec<usize>,
    #[serde(default)]
    pub pad: bool,
    #[serde(default)]
    pub adaptive: bool,
    #[serde(default)]
    pub max_request_rows: usize,
    #[serde(default)]
    pub split: bool,
}

fn default_queued_rows() -> usize {
    100_000
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusSnapshot {
    pub version: i64,
    /// START, LOADING, AVAILABLE, UNLOADING or END.
    pub state: String,
    /// Canonical number of the error that ended it; 0 for none.
    #[serde(default)]
    pub code: i64,
    #[serde(default)]
    pub message: String,
}

impl From<StatusSnapshot> for VersionStatus {
    fn from(described: StatusSnapshot) -> Self {
        VersionStatus {
            version: described.version,
            state: VersionState::from_name(&described.state),
            code: Code::from_number(described.code),
            message: described.message,
        }
    }
}

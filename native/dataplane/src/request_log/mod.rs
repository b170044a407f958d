//! The request log: sampled requests with their answers, as TensorFlow Serving's warm-up records or as lines of JSON.
//!
//! A request that is logged costs its own thread the choice, the references to its inputs and one encoding of its
//! outputs. A thread apart ([`queue`]) encodes the rest and writes it into files that are bounded together ([`files`]).
//! When the disk is slower than the requests, records are lost and counted, never requests.

mod files;
mod json;
mod queue;
mod record;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Deserialize;

use crate::batch::queue::Outputs;
use crate::metrics::{escaped, head};
use crate::sampling::Share;
use crate::wire::Tensor;
use crate::wire::tf::TensorForm;

use files::LogFiles;
use queue::Queue;
pub use queue::Warn;
use record::{Entry, Request};
pub use record::{Kind, Source};

/// Longest wait for the disk when the server stops.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// What Python says about the log of one model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// Files are named `PREFIX-DATE-TIME-NUMBER.EXTENSION`. Their folder is made where its own parent is there.
    pub prefix: PathBuf,
    /// Share of the requests that is logged, from 0 to 1.
    pub sample: f64,
    pub format: Format,
    /// Bytes of all files together; the oldest are removed.
    pub max_bytes: u64,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `PredictionLog`s as TFRecords: TensorFlow Serving's warm-up file.
    Tfrecord,
    /// The same messages in protobuf's JSON form, one a line.
    Json,
}

impl Format {
    /// Bytes for machines, values for people.
    fn tensors(self) -> TensorForm {
        match self {
            Format::Tfrecord => TensorForm::Content,
            Format::Json => TensorForm::Values,
        }
    }
}

/// Why a record was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    QueueFull,
    TooLarge,
    Disk,
}

const LOSSES: [(Loss, &str, &str); 3] = [
    (Loss::QueueFull, "queue_full", "RESOURCE_EXHAUSTED"),
    (Loss::TooLarge, "too_large", "OUT_OF_RANGE"),
    (Loss::Disk, "disk", "UNAVAILABLE"),
];

/// What is counted for one model, for the life of the process.
#[derive(Default)]
struct Counts {
    written: AtomicU64,
    lost: [AtomicU64; LOSSES.len()],
}

impl Counts {
    fn lose(&self, loss: Loss, records: u64) {
        self.lost[loss as usize].fetch_add(records, Ordering::Relaxed);
    }
}

/// The log of one model.
pub struct ModelLog {
    model: String,
    settings: LogSettings,
    share: Share,
    counts: Arc<Counts>,
    queue: Arc<Queue>,
    /// Used by the writer alone.
    files: Mutex<LogFiles>,
}

impl ModelLog {
    /// Whether the next request is logged.
    pub fn sample(&self) -> bool {
        self.share.chooses()
    }

    /// Logs a Predict.
    ///
    /// `inputs` are those of the signature, in its order; `wanted` says which of its outputs `outputs` are.
    pub fn predict(self: &Arc<Self>, source: Source, inputs: Vec<Tensor>, wanted: Outputs, outputs: &[Tensor]) {
        let response = source.predict_response(&self.model, &wanted, outputs, self.settings.format.tensors());
        self.push(Kind::Predict, source, Request::Inputs { inputs, wanted }, response);
    }

    /// Logs a call whose messages are there as TensorFlow Serving has them.
    pub fn message(self: &Arc<Self>, kind: Kind, source: Source, request: Bytes, response: &[u8]) {
        self.push(kind, source, Request::Message(request), response.to_vec());
    }

    /// Logs a Classify or a Regress of serialized examples.
    pub fn examples(self: &Arc<Self>, kind: Kind, source: Source, examples: Tensor, response: Vec<u8>) {
        self.push(kind, source, Request::Examples(examples), response);
    }

    fn push(self: &Arc<Self>, kind: Kind, source: Source, request: Request, response: Vec<u8>) {
        let entry = Entry { kind, source, request, response, time: SystemTime::now() };
        if !self.queue.push(self, entry) {
            self.counts.lose(Loss::QueueFull, 1);
        }
    }

    fn files(&self) -> MutexGuard<'_, LogFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The logs of all models, and the thread that writes them.
pub struct RequestLogs {
    queue: Arc<Queue>,
    logs: Mutex<BTreeMap<String, Arc<ModelLog>>>,
    counts: Mutex<BTreeMap<String, Arc<Counts>>>,
}

impl Default for RequestLogs {
    fn default() -> Self {
        RequestLogs { queue: Arc::new(Queue::new()), logs: Mutex::default(), counts: Mutex::default() }
    }
}

impl RequestLogs {
    /// The log of a model: the one before where nothing about it has changed.
    pub fn of(&self, model: &str, settings: Option<LogSettings>) -> Option<Arc<ModelLog>> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(settings) = settings.filter(|settings| settings.sample > 0.0) else {
            logs.remove(model);
            return None;
        };
        if let Some(same) = logs.get(model).filter(|log| log.settings == settings) {
            return Some(same.clone());
        }
        if !self.queue.start() {
            return None;
        }
        let log = Arc::new(ModelLog {
            model: model.to_owned(),
            share: Share::new(settings.sample),
            counts: self.counts_of(model),
            queue: self.queue.clone(),
            files: Mutex::new(LogFiles::new(&settings)),
            settings,
        });
        logs.insert(model.to_owned(), log.clone());
        Some(log)
    }

    fn counts_of(&self, model: &str) -> Arc<Counts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(model.to_owned()).or_default().clone()
    }

    /// Who hears, on the writer's thread, of what goes wrong with the files.
    pub fn on_warning(&self, warn: Warn) {
        self.queue.on_warning(warn);
    }

    /// Writes what has come so far and closes all files; takes no more. Gives up after some seconds.
    pub fn close(&self) {
        self.queue.close(CLOSE_LIMIT);
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Prometheus lines about what was logged and lost.
    pub fn write_metrics(&self, page: &mut String) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.is_empty() {
            return;
        }
        head(page, "servable_request_log_dropped_total", "counter", "Records that the request log lost, by reason");
        for (model, counted) in counts.iter() {
            for (loss, reason, _) in LOSSES {
                let lost = counted.lost[loss as usize].load(Ordering::Relaxed);
                let labels = format!("model=\"{}\",reason=\"{reason}\"", escaped(model));
                let _ = writeln!(page, "servable_request_log_dropped_total{{{labels}}} {lost}");
            }
        }
        let _ = writeln!(page, "# TYPE :tensorflow:serving:request_log_count counter");
        for (model, counted) in counts.iter() {
            let lost = LOSSES.map(|(loss, _, code)| (code, counted.lost[loss as usize].load(Ordering::Relaxed)));
            let written = ("OK", counted.written.load(Ordering::Relaxed));
            for (code, count) in [written].into_iter().chain(lost).filter(|&(_, count)| count > 0) {
                let labels = format!("model_name=\"{}\",status_code=\"{code}\"", escaped(model));
                let _ = writeln!(page, ":tensorflow:serving:request_log_count{{{labels}}} {count}");
            }
        }
    }
}

impl Drop for RequestLogs {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;

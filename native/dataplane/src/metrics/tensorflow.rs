//! TensorFlow Serving's own names, for the dashboards that know them.
//!
//! Source of names, labels and buckets: `tensorflow_serving/servables/tensorflow/util.cc`,
//! `tensorflow_serving/batching/batching_session.cc` and `tensorflow/core/framework/metrics.cc`. There are no lines of
//! help, as there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::histogram::{Histogram, exponential};
use super::page::{escaped, write_codes};
use super::{Api, CODES, Metrics, Protocol, lock};
use crate::Code;

/// The `API` label: over gRPC, and over REST.
const APIS: [(Api, &str, &str); 4] = [
    (Api::Predict, "Predict", "predict"),
    (Api::Classify, "Classify", "classify"),
    (Api::Regress, "Regress", "regress"),
    (Api::MultiInference, "MultiInference", "multiinference"),
];
const BATCHING: &str = ":tensorflow:serving:batching_session";
const NANOS_A_MICRO: f64 = 1e3;

/// Latencies: 10 x 1.8^i microseconds, here in nanoseconds.
fn latency_buckets() -> &'static [u64] {
    static BUCKETS: OnceLock<Vec<u64>> = OnceLock::new();
    BUCKETS.get_or_init(|| exponential(10_000.0, 1.8, 33))
}

/// Waiting for a batch: 100 x 1.2^i microseconds, here in nanoseconds.
fn queuing_buckets() -> &'static [u64] {
    static BUCKETS: OnceLock<Vec<u64>> = OnceLock::new();
    BUCKETS.get_or_init(|| exponential(100_000.0, 1.2, 52))
}

fn size_buckets() -> &'static [u64] {
    static BUCKETS: OnceLock<Vec<u64>> = OnceLock::new();
    BUCKETS.get_or_init(|| exponential(1.0, 2.0, 14))
}

fn example_buckets() -> &'static [u64] {
    static BUCKETS: OnceLock<Vec<u64>> = OnceLock::new();
    BUCKETS.get_or_init(|| exponential(1.0, 2.0, 15))
}

/// What is counted for one model.
pub(super) struct ModelMetrics {
    codes: [AtomicU64; CODES],
    apis: [ApiMetrics; APIS.len()],
    examples: Histogram,
}

/// Times of successful requests, and of runs of the engine.
struct ApiMetrics {
    grpc: Histogram,
    rest: Histogram,
    runtime: Histogram,
}

impl ModelMetrics {
    pub(super) fn new() -> ModelMetrics {
        let times = || Histogram::new(latency_buckets());
        ModelMetrics {
            codes: [const { AtomicU64::new(0) }; CODES],
            apis: APIS.map(|_| ApiMetrics { grpc: times(), rest: times(), runtime: times() }),
            examples: Histogram::new(example_buckets()),
        }
    }

    pub(super) fn request(&self, api: Api, protocol: Protocol, code: Code, took: Duration) {
        self.count(code);
        if code == Code::Ok {
            let counted = &self.apis[api as usize];
            match protocol {
                Protocol::Grpc | Protocol::OipGrpc => counted.grpc.observe_time(took),
                Protocol::Rest | Protocol::OipRest => counted.rest.observe_time(took),
            }
        }
    }

    pub(super) fn count(&self, code: Code) {
        self.codes[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn run(&self, api: Api, took: Duration) {
        self.apis[api as usize].runtime.observe_time(took);
    }

    pub(super) fn examples(&self, count: usize) {
        self.examples.observe(count as u64);
    }
}

/// What is counted of batches, over all models.
pub(super) struct BatchingSession {
    queuing: Histogram,
    input: Histogram,
    processed: Histogram,
    /// By the size that batches were filled up to.
    padding: Mutex<BTreeMap<usize, Histogram>>,
    wrapped_runs: AtomicU64,
}

impl Default for BatchingSession {
    fn default() -> BatchingSession {
        BatchingSession {
            queuing: Histogram::new(queuing_buckets()),
            input: Histogram::new(size_buckets()),
            processed: Histogram::new(size_buckets()),
            padding: Mutex::default(),
            wrapped_runs: AtomicU64::new(0),
        }
    }
}

impl BatchingSession {
    pub(super) fn batch(&self, rows: usize, filled: Option<usize>, waits: impl IntoIterator<Item = Duration>) {
        let processed = filled.unwrap_or(rows);
        self.input.observe(rows as u64);
        self.processed.observe(processed as u64);
        if filled.is_some() {
            let mut padding = lock(&self.padding);
            let sizes = padding.entry(processed).or_insert_with(|| Histogram::new(size_buckets()));
            sizes.observe((processed - rows) as u64);
        }
        waits.into_iter().for_each(|wait| self.queuing.observe_time(wait));
    }

    pub(super) fn wrapped_run(&self) {
        self.wrapped_runs.fetch_add(1, Ordering::Relaxed);
    }

    fn write(&self, page: &mut String) {
        if self.input.is_empty() && self.wrapped_runs.load(Ordering::Relaxed) == 0 {
            return;
        }
        let name = format!("{BATCHING}:queuing_latency");
        kind(page, &name, "histogram");
        self.queuing.write(page, &name, "thread_pool_name=\"model_server_batch_threads\"", NANOS_A_MICRO);
        for (what, histogram) in [("input_batch_size", &self.input), ("processed_batch_size", &self.processed)] {
            let name = format!("{BATCHING}:{what}");
            kind(page, &name, "histogram");
            histogram.write(page, &name, "", 1.0);
        }
        let name = format!("{BATCHING}:padding_size");
        kind(page, &name, "histogram");
        for (size, histogram) in lock(&self.padding).iter() {
            histogram.write(page, &name, &format!("execution_batch_size=\"{size}\""), 1.0);
        }
        let name = format!("{BATCHING}:wrapped_run_count");
        kind(page, &name, "counter");
        let _ = writeln!(page, "{name} {}", self.wrapped_runs.load(Ordering::Relaxed));
    }
}

impl Metrics {
    pub(super) fn write_tensorflow(&self, page: &mut String) {
        let models = lock(&self.models).clone();
        kind(page, ":tensorflow:serving:request_count", "counter");
        for (model, counted) in &models {
            let labels = format!("model_name=\"{}\"", escaped(model));
            write_codes(page, ":tensorflow:serving:request_count", &labels, "status", &counted.codes);
        }
        let doors = |counted: &ModelMetrics, write: &mut dyn FnMut(&Histogram, &str, &str)| {
            for ((_, grpc, rest), each) in APIS.iter().zip(&counted.apis) {
                write(&each.grpc, grpc, "entrypoint=\"GRPC\"");
                write(&each.rest, rest, "entrypoint=\"REST\"");
            }
        };
        let runtimes = |counted: &ModelMetrics, write: &mut dyn FnMut(&Histogram, &str, &str)| {
            for ((_, api, _), each) in APIS.iter().zip(&counted.apis) {
                write(&each.runtime, api, "runtime=\"TF1\"");
            }
        };
        write_times(page, ":tensorflow:serving:request_latency", &models, &doors);
        write_times(page, ":tensorflow:serving:runtime_latency", &models, &runtimes);
        write_examples(page, &models);
        write_runs(page, &models);
        self.session.write(page);
    }
}

type Models = BTreeMap<String, std::sync::Arc<ModelMetrics>>;
type Times<'a> = dyn Fn(&ModelMetrics, &mut dyn FnMut(&Histogram, &str, &str)) + 'a;

/// A metric of times; `each` names those of one model with its API and one more label.
fn write_times(page: &mut String, name: &str, models: &Models, each: &Times<'_>) {
    kind(page, name, "histogram");
    for (model, counted) in models {
        let model = escaped(model);
        each(counted, &mut |histogram, api, label| {
            if !histogram.is_empty() {
                let labels = format!("model_name=\"{model}\",API=\"{api}\",{label}");
                histogram.write(page, name, &labels, NANOS_A_MICRO);
            }
        });
    }
}

fn write_examples(page: &mut String, models: &Models) {
    let asked = || models.iter().filter(|(_, counted)| !counted.examples.is_empty());
    if asked().next().is_none() {
        return;
    }
    kind(page, ":tensorflow:serving:request_example_counts", "histogram");
    for (model, counted) in asked() {
        let labels = format!("model=\"{}\"", escaped(model));
        counted.examples.write(page, ":tensorflow:serving:request_example_counts", &labels, 1.0);
    }
    kind(page, ":tensorflow:serving:request_example_count_total", "counter");
    for (model, counted) in asked() {
        let (_, examples) = counted.examples.total();
        let model = escaped(model);
        let _ = writeln!(page, ":tensorflow:serving:request_example_count_total{{model=\"{model}\"}} {examples}");
    }
}

/// Runs of all engines, not of TensorFlow alone.
fn write_runs(page: &mut String, models: &Models) {
    let totals = models.values().flat_map(|counted| counted.apis.iter().map(|api| api.runtime.total()));
    let (runs, nanos) = totals.fold((0, 0), |sum, total| (sum.0 + total.0, sum.1 + total.1));
    kind(page, ":tensorflow:core:graph_runs", "counter");
    let _ = writeln!(page, ":tensorflow:core:graph_runs {runs}");
    kind(page, ":tensorflow:core:graph_run_time_usecs", "counter");
    let _ = writeln!(page, ":tensorflow:core:graph_run_time_usecs {}", nanos / 1000);
}

fn kind(page: &mut String, name: &str, kind: &str) {
    let _ = writeln!(page, "# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::UNKNOWN_MODEL;

    #[test]
    fn a_request_is_counted_under_our_names_and_under_those_of_tensorflow_serving() {
        let metrics = Metrics::default();
        let version = metrics.version("digits", 3, ["serving_default"].into_iter());
        let predict = Api::Predict;
        version.request("serving_default", predict, Protocol::Grpc, Code::Ok, Duration::from_micros(70));
        version.request("serving_default", predict, Protocol::Rest, Code::InvalidArgument, Duration::ZERO);
        version.request("serving_default", Api::Classify, Protocol::Rest, Code::Ok, Duration::from_micros(70));
        version.batch().run(Api::Classify, Duration::from_micros(70));
        version.batch().joined(3, Some(4), [Duration::from_micros(130)]);
        version.batch().unjoinable();
        version.examples(3);
        metrics.unrouted(UNKNOWN_MODEL, Code::NotFound);
        let mut page = String::new();
        metrics.write(&mut page);
        for line in [
            "servable_requests_total{model=\"digits\",version=\"3\",signature=\"serving_default\",protocol=\"tfs-grpc\",code=\"OK\"} 1",
            ":tensorflow:serving:request_count{model_name=\"digits\",status=\"INVALID_ARGUMENT\"} 1",
            ":tensorflow:serving:request_count{model_name=\"(unknown)\",status=\"NOT_FOUND\"} 1",
            ":tensorflow:serving:request_latency_bucket{model_name=\"digits\",API=\"Predict\",entrypoint=\"GRPC\",le=\"104.976\"} 1",
            ":tensorflow:serving:request_latency_count{model_name=\"digits\",API=\"classify\",entrypoint=\"REST\"} 1",
            ":tensorflow:serving:runtime_latency_count{model_name=\"digits\",API=\"Classify\",runtime=\"TF1\"} 1",
            ":tensorflow:serving:batching_session:queuing_latency_bucket{thread_pool_name=\"model_server_batch_threads\",le=\"144\"} 1",
            ":tensorflow:serving:batching_session:input_batch_size_sum 3",
            ":tensorflow:serving:batching_session:processed_batch_size_sum 4",
            ":tensorflow:serving:batching_session:padding_size_sum{execution_batch_size=\"4\"} 1",
            ":tensorflow:serving:batching_session:wrapped_run_count 1",
            ":tensorflow:serving:request_example_counts_bucket{model=\"digits\",le=\"4\"} 1",
            ":tensorflow:serving:request_example_count_total{model=\"digits\"} 3",
            ":tensorflow:core:graph_runs 1",
            ":tensorflow:core:graph_run_time_usecs 70",
        ] {
            assert!(page.contains(line), "no {line} in\n{page}");
        }
    }
}

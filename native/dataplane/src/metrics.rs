//! Counters and histograms, and the page that Prometheus reads.
//!
//! Written here and not taken from a library for two reasons: TensorFlow Serving's names (`request_count` without
//! `_total`, colons) cannot be written with the OpenMetrics encoders, and a request may cost a few atomic additions, no
//! lock and no look-up of labels.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::Code;

/// Through which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Rest,
    Grpc,
    OipRest,
    OipGrpc,
}

const PROTOCOLS: [(Protocol, &str); 4] = [
    (Protocol::Rest, "tfs-rest"),
    (Protocol::Grpc, "tfs-grpc"),
    (Protocol::OipRest, "oip-rest"),
    (Protocol::OipGrpc, "oip-grpc"),
];
const CODES: usize = 17;

/// What a request asks a model for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Predict,
    Classify,
    Regress,
    MultiInference,
}

/// TensorFlow Serving's `API` label: over gRPC, and over REST.
const APIS: [(Api, &str, &str); 4] = [
    (Api::Predict, "Predict", "predict"),
    (Api::Classify, "Classify", "classify"),
    (Api::Regress, "Regress", "regress"),
    (Api::MultiInference, "MultiInference", "multiinference"),
];

/// Counts of values in growing buckets. Values are whole numbers: nanoseconds or rows.
pub struct Histogram {
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Histogram {
        Histogram { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Lines of this histogram; values are divided by `unit` (1e9: nanoseconds as seconds).
    fn write(&self, page: &mut String, name: &str, labels: &str, unit: f64) {
        let mut total = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        for (index, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let _ = match self.bounds.get(index) {
                Some(&bound) => {
                    writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{}\"}} {total}", bound as f64 / unit)
                }
                None => writeln!(page, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}"),
            };
        }
        let sum = self.sum.load(Ordering::Relaxed) as f64 / unit;
        let _ = writeln!(page, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}");
    }

    fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

/// 50 us to 100 s in nanoseconds, three a decade.
const SECONDS: [u64; 19] = [
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    100_000_000_000,
];
const ROWS: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096];

/// TensorFlow Serving's latency buckets: 10 x 1.8^i microseconds, here in nanoseconds.
fn tensorflow_buckets() -> &'static [u64] {
    static BUCKETS: OnceLock<Vec<u64>> = OnceLock::new();
    BUCKETS.get_or_init(|| (0..33).map(|power| (10_000.0 * 1.8f64.powi(power)).round() as u64).collect())
}

/// What is counted for one signature of one version.
struct SignatureMetrics {
    name: String,
    protocols: [ProtocolMetrics; PROTOCOLS.len()],
}

struct ProtocolMetrics {
    codes: [AtomicU64; CODES],
    seconds: Histogram,
}

impl ProtocolMetrics {
    fn new() -> Self {
        ProtocolMetrics { codes: [const { AtomicU64::new(0) }; CODES], seconds: Histogram::new(&SECONDS) }
    }
}

/// What is counted for one version of a model.
pub struct VersionMetrics {
    signatures: Vec<SignatureMetrics>,
    batch: BatchMetrics,
    model: Arc<ModelMetrics>,
}

impl VersionMetrics {
    pub fn batch(&self) -> BatchMetrics {
        self.batch.clone()
    }

    /// Takes one answered request into account.
    pub fn request(&self, signature: &str, api: Api, protocol: Protocol, code: Code, took: Duration) {
        self.model.request(api, protocol, code, took);
        let Some(signature) = self.signatures.iter().find(|known| known.name == signature) else { return };
        let counted = &signature.protocols[protocol as usize];
        counted.codes[code as usize].fetch_add(1, Ordering::Relaxed);
        counted.seconds.observe_time(took);
    }
}

/// What is counted for one model under TensorFlow Serving's names.
struct ModelMetrics {
    codes: [AtomicU64; CODES],
    latencies: [Latencies; APIS.len()],
}

/// Times of successful requests.
struct Latencies {
    grpc: Histogram,
    rest: Histogram,
}

impl ModelMetrics {
    fn new() -> ModelMetrics {
        ModelMetrics {
            codes: [const { AtomicU64::new(0) }; CODES],
            latencies: APIS.map(|_| Latencies {
                grpc: Histogram::new(tensorflow_buckets()),
                rest: Histogram::new(tensorflow_buckets()),
            }),
        }
    }

    fn request(&self, api: Api, protocol: Protocol, code: Code, took: Duration) {
        self.count(code);
        if code == Code::Ok {
            let latencies = &self.latencies[api as usize];
            match protocol {
                Protocol::Grpc | Protocol::OipGrpc => latencies.grpc.observe_time(took),
                Protocol::Rest | Protocol::OipRest => latencies.rest.observe_time(took),
            }
        }
    }

    fn count(&self, code: Code) {
        self.codes[code as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// What a queue counts.
#[derive(Clone)]
pub struct BatchMetrics(Arc<BatchCounts>);

struct BatchCounts {
    waiting: AtomicI64,
    rows: Histogram,
    wait: Histogram,
    run: Histogram,
    runtime: Histogram,
}

impl BatchMetrics {
    pub(crate) fn new() -> BatchMetrics {
        BatchMetrics(Arc::new(BatchCounts {
            waiting: AtomicI64::new(0),
            rows: Histogram::new(&ROWS),
            wait: Histogram::new(&SECONDS),
            run: Histogram::new(&SECONDS),
            runtime: Histogram::new(tensorflow_buckets()),
        }))
    }

    pub(crate) fn queued(&self, change: i64) {
        self.0.waiting.fetch_add(change, Ordering::Relaxed);
    }

    pub(crate) fn batch(&self, rows: usize, waits: impl IntoIterator<Item = Duration>) {
        self.0.rows.observe(rows as u64);
        waits.into_iter().for_each(|wait| self.0.wait.observe_time(wait));
    }

    pub(crate) fn run(&self, took: Duration) {
        self.0.run.observe_time(took);
        self.0.runtime.observe_time(took);
    }
}

/// Everything that is counted in this process.
#[derive(Default)]
pub struct Metrics {
    versions: Mutex<BTreeMap<(String, i64), Arc<VersionMetrics>>>,
    models: Mutex<BTreeMap<String, Arc<ModelMetrics>>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    pub connections: AtomicI64,
    pub in_flight: AtomicI64,
    pub queued_bytes: AtomicI64,
}

/// The model label of requests for models that are not there: their names are the clients', and without bound.
pub const UNKNOWN_MODEL: &str = "(unknown)";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// The counters of one version; the same for the life of the process.
    pub fn version<'a>(
        &self,
        model: &str,
        version: i64,
        signatures: impl Iterator<Item = &'a str>,
    ) -> Arc<VersionMetrics> {
        let by_model = self.model(model);
        let mut versions = lock(&self.versions);
        let counted = versions.entry((model.to_owned(), version)).or_insert_with(|| {
            let signatures = signatures
                .map(|name| SignatureMetrics {
                    name: name.to_owned(),
                    protocols: PROTOCOLS.map(|_| ProtocolMetrics::new()),
                })
                .collect();
            Arc::new(VersionMetrics { signatures, batch: BatchMetrics::new(), model: by_model })
        });
        counted.clone()
    }

    fn model(&self, model: &str) -> Arc<ModelMetrics> {
        lock(&self.models).entry(model.to_owned()).or_insert_with(|| Arc::new(ModelMetrics::new())).clone()
    }

    /// Counts a request that never reached a version.
    pub fn unrouted(&self, model: &str, code: Code) {
        self.model(model).count(code);
    }

    /// Counts a request that was refused before any work, by its stable reason.
    pub fn refused(&self, reason: &'static str) {
        *lock(&self.refused).entry(reason).or_default() += 1;
    }

    /// The page in Prometheus' text format 0.0.4, without the lines about states that only the routes know.
    pub fn write(&self, page: &mut String) {
        self.write_gauges(page);
        self.write_requests(page);
        self.write_batches(page);
        self.write_tensorflow(page);
    }

    fn write_gauges(&self, page: &mut String) {
        let gauges = [
            ("servable_connections", "Open connections", &self.connections),
            ("servable_in_flight", "Requests being answered", &self.in_flight),
            ("servable_queued_bytes", "Bytes of request bodies held", &self.queued_bytes),
        ];
        for (name, help, gauge) in gauges {
            head(page, name, "gauge", help);
            let _ = writeln!(page, "{name} {}", gauge.load(Ordering::Relaxed));
        }
        head(page, "servable_rejected_total", "counter", "Requests refused before any work, by reason");
        for (reason, count) in lock(&self.refused).iter() {
            let _ = writeln!(page, "servable_rejected_total{{reason=\"{reason}\"}} {count}");
        }
    }

    fn write_requests(&self, page: &mut String) {
        let versions = lock(&self.versions).clone();
        let mut times = String::new();
        head(page, "servable_requests_total", "counter", "Answered requests");
        head(&mut times, "servable_request_seconds", "histogram", "Time from the whole request to its answer");
        for ((model, version), counted) in &versions {
            let model = escaped(model);
            for signature in &counted.signatures {
                for (protocol, text) in PROTOCOLS {
                    let metrics = &signature.protocols[protocol as usize];
                    let labels = format!(
                        "model=\"{model}\",version=\"{version}\",signature=\"{}\",protocol=\"{text}\"",
                        escaped(&signature.name)
                    );
                    write_codes(page, "servable_requests_total", &labels, "code", &metrics.codes);
                    if !metrics.seconds.is_empty() {
                        metrics.seconds.write(&mut times, "servable_request_seconds", &labels, 1e9);
                    }
                }
            }
        }
        page.push_str(&times);
    }

    fn write_batches(&self, page: &mut String) {
        let versions = lock(&self.versions).clone();
        let each = |page: &mut String, write: &dyn Fn(&mut String, &str, &BatchCounts)| {
            for ((model, version), counted) in &versions {
                write(page, &format!("model=\"{}\",version=\"{version}\"", escaped(model)), &counted.batch.0);
            }
        };
        head(page, "servable_queue_depth", "gauge", "Requests that wait for an engine");
        each(page, &|page, labels, counts| {
            let _ = writeln!(page, "servable_queue_depth{{{labels}}} {}", counts.waiting.load(Ordering::Relaxed));
        });
        head(page, "servable_queue_seconds", "histogram", "Time in the queue");
        each(page, &|page, labels, counts| counts.wait.write(page, "servable_queue_seconds", labels, 1e9));
        head(page, "servable_batch_size", "histogram", "Rows in one run of the engine");
        each(page, &|page, labels, counts| counts.rows.write(page, "servable_batch_size", labels, 1.0));
        head(page, "servable_run_seconds", "histogram", "Time of one run of the engine");
        each(page, &|page, labels, counts| counts.run.write(page, "servable_run_seconds", labels, 1e9));
    }

    /// TensorFlow Serving's own names, for the dashboards that know them.
    fn write_tensorflow(&self, page: &mut String) {
        let models = lock(&self.models).clone();
        let versions = lock(&self.versions).clone();
        let _ = writeln!(page, "# TYPE :tensorflow:serving:request_count counter");
        for (model, counted) in &models {
            let labels = format!("model_name=\"{}\"", escaped(model));
            write_codes(page, ":tensorflow:serving:request_count", &labels, "status", &counted.codes);
        }
        let _ = writeln!(page, "# TYPE :tensorflow:serving:request_latency histogram");
        for (model, counted) in &models {
            let doors = APIS.iter().zip(&counted.latencies).flat_map(|((_, grpc, rest), latencies)| {
                [(&latencies.grpc, grpc, "GRPC"), (&latencies.rest, rest, "REST")]
            });
            for (histogram, api, entrypoint) in doors.filter(|(histogram, ..)| !histogram.is_empty()) {
                let labels = format!("model_name=\"{}\",API=\"{api}\",entrypoint=\"{entrypoint}\"", escaped(model));
                histogram.write(page, ":tensorflow:serving:request_latency", &labels, 1e3);
            }
        }
        let _ = writeln!(page, "# TYPE :tensorflow:serving:runtime_latency histogram");
        for (model, counted) in by_model(&versions) {
            let labels = format!("model_name=\"{}\",API=\"Predict\",runtime=\"TF1\"", escaped(model));
            counted.write(page, ":tensorflow:serving:runtime_latency", &labels, 1e3);
        }
    }
}

/// Run times of all versions of a model in one histogram, as TensorFlow Serving shows them.
fn by_model(versions: &BTreeMap<(String, i64), Arc<VersionMetrics>>) -> BTreeMap<&str, Histogram> {
    let mut merged: BTreeMap<&str, Histogram> = BTreeMap::new();
    for ((model, _), counted) in versions {
        let runtime = &counted.batch.0.runtime;
        let sum = merged.entry(model).or_insert_with(|| Histogram::new(tensorflow_buckets()));
        for (into, from) in sum.counts.iter().zip(&runtime.counts) {
            into.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        sum.sum.fetch_add(runtime.sum.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    merged
}

fn write_codes(page: &mut String, name: &str, labels: &str, label: &str, codes: &[AtomicU64; CODES]) {
    for (number, count) in codes.iter().enumerate() {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            let code = Code::from_number(number as i64).name();
            let _ = writeln!(page, "{name}{{{labels},{label}=\"{code}\"}} {count}");
        }
    }
}

/// The two lines in front of a metric.
pub fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value as the text format wants it.
pub fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Counts one up while it lives. A future that is dropped half-way still counts down.
pub struct InFlight<'a> {
    gauge: &'a AtomicI64,
    by: i64,
}

impl<'a> InFlight<'a> {
    pub fn new(gauge: &'a AtomicI64, by: i64) -> InFlight<'a> {
        gauge.fetch_add(by, Ordering::Relaxed);
        InFlight { gauge, by }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.by, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_inclusive() {
        let histogram = Histogram::new(&ROWS);
        [1, 2, 3, 9000].into_iter().for_each(|value| histogram.observe(value));
        let mut page = String::new();
        histogram.write(&mut page, "rows", "model=\"m\"", 1.0);
        assert!(page.contains("rows_bucket{model=\"m\",le=\"1\"} 1\n"), "{page}");
        assert!(page.contains("rows_bucket{model=\"m\",le=\"2\"} 2\n"), "{page}");
        assert!(page.contains("rows_bucket{model=\"m\",le=\"4\"} 3\n"), "{page}");
        assert!(page.contains("rows_bucket{model=\"m\",le=\"+Inf\"} 4\n"), "{page}");
        assert!(page.contains("rows_sum{model=\"m\"} 9006\nrows_count{model=\"m\"} 4\n"), "{page}");
    }

    #[test]
    fn a_request_is_counted_under_our_names_and_under_those_of_tensorflow_serving() {
        let metrics = Metrics::default();
        let version = metrics.version("digits", 3, ["serving_default"].into_iter());
        let predict = Api::Predict;
        version.request("serving_default", predict, Protocol::Grpc, Code::Ok, Duration::from_micros(70));
        version.request("serving_default", predict, Protocol::Rest, Code::InvalidArgument, Duration::ZERO);
        version.request("serving_default", Api::Classify, Protocol::Rest, Code::Ok, Duration::from_micros(70));
        metrics.unrouted(UNKNOWN_MODEL, Code::NotFound);
        let mut page = String::new();
        metrics.write(&mut page);
        for line in [
            "servable_requests_total{model=\"digits\",version=\"3\",signature=\"serving_default\",protocol=\"tfs-grpc\",code=\"OK\"} 1",
            ":tensorflow:serving:request_count{model_name=\"digits\",status=\"INVALID_ARGUMENT\"} 1",
            ":tensorflow:serving:request_count{model_name=\"(unknown)\",status=\"NOT_FOUND\"} 1",
            ":tensorflow:serving:request_latency_bucket{model_name=\"digits\",API=\"Predict\",entrypoint=\"GRPC\",le=\"104.976\"} 1",
            ":tensorflow:serving:request_latency_count{model_name=\"digits\",API=\"classify\",entrypoint=\"REST\"} 1",
        ] {
            assert!(page.contains(line), "no {line} in\n{page}");
        }
    }

    #[test]
    fn a_gauge_counts_down_when_its_request_is_dropped() {
        let metrics = Metrics::default();
        drop(InFlight::new(&metrics.in_flight, 5));
        assert_eq!(metrics.in_flight.load(Ordering::Relaxed), 0);
    }
}

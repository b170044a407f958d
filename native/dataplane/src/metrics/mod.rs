//! Counters and histograms, and the page that Prometheus reads.
//!
//! Written here and not taken from a library for two reasons: TensorFlow Serving's names (`request_count` without
//! `_total`, colons) cannot be written with the OpenMetrics encoders, and a request may cost a few atomic additions, no
//! lock and no look-up of labels.

mod held;
mod histogram;
mod page;
mod tensorflow;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::held::Held;
use self::histogram::{Histogram, ROWS, SECONDS};
pub use self::page::{escaped, head};
use self::tensorflow::{BatchingSession, ModelMetrics};
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

/// The model label of requests for models that are not there: their names are the clients', and without bound.
pub const UNKNOWN_MODEL: &str = "(unknown)";

/// What a request asks a model for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Predict,
    Classify,
    Regress,
    MultiInference,
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
    created: Instant,
    /// Tenths of a second from `created` to the end of the last request, and one more; 0 if there was none.
    last_use: AtomicU64,
}

impl VersionMetrics {
    pub fn batch(&self) -> BatchMetrics {
        self.batch.clone()
    }

    /// Takes one answered request into account.
    pub fn request(&self, signature: &str, api: Api, protocol: Protocol, code: Code, took: Duration) {
        self.batch.model.request(api, protocol, code, took);
        let Some(signature) = self.signatures.iter().find(|known| known.name == signature) else { return };
        let counted = &signature.protocols[protocol as usize];
        counted.codes[code as usize].fetch_add(1, Ordering::Relaxed);
        counted.seconds.observe_time(took);
    }

    /// A request was answered at this time.
    pub fn used(&self, now: Instant) {
        let tenths = self.tenths(now);
        // Mostly it is what it was: not to be written then, or threads on other cores would fetch this line again.
        if self.last_use.load(Ordering::Relaxed) != tenths {
            self.last_use.store(tenths, Ordering::Relaxed);
        }
    }

    /// How long ago the last request was answered, None if none was.
    pub fn idle(&self, now: Instant) -> Option<Duration> {
        let last = self.last_use.load(Ordering::Relaxed);
        (last > 0).then(|| Duration::from_millis(100 * self.tenths(now).saturating_sub(last)))
    }

    fn tenths(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.created);
        since.as_secs() * 10 + u64::from(since.subsec_millis() / 100) + 1
    }

    /// Counts the examples of a request for several inferences.
    pub fn examples(&self, count: usize) {
        self.batch.model.examples(count);
    }

    fn is_of<'a>(&self, signatures: impl Iterator<Item = &'a str>) -> bool {
        self.signatures.iter().map(|known| known.name.as_str()).eq(signatures)
    }
}

/// What a queue counts.
#[derive(Clone)]
pub struct BatchMetrics {
    counts: Arc<BatchCounts>,
    model: Arc<ModelMetrics>,
    session: Arc<BatchingSession>,
}

struct BatchCounts {
    waiting: AtomicI64,
    rows: Histogram,
    wait: Histogram,
    run: Histogram,
}

impl BatchMetrics {
    pub(crate) fn queued(&self, change: i64) {
        self.counts.waiting.fetch_add(change, Ordering::Relaxed);
    }

    pub(crate) fn batch(&self, rows: usize, waits: impl IntoIterator<Item = Duration>) {
        self.counts.rows.observe(rows as u64);
        waits.into_iter().for_each(|wait| self.counts.wait.observe_time(wait));
    }

    /// A batch: its rows, the size that it was filled up to where only some are allowed, and how long each of its requests
    /// waited.
    pub(crate) fn joined(&self, rows: usize, filled: Option<usize>, waits: impl IntoIterator<Item = Duration>) {
        self.session.batch(rows, filled, waits);
    }

    /// A request that no batch can take: it has no dimension of rows.
    pub(crate) fn unjoinable(&self) {
        self.session.wrapped_run();
    }

    pub(crate) fn run(&self, api: Api, took: Duration) {
        self.counts.run.observe_time(took);
        self.model.run(api, took);
    }
}

/// Everything that is counted in this process.
#[derive(Default)]
pub struct Metrics {
    versions: Mutex<BTreeMap<(String, i64), Arc<VersionMetrics>>>,
    models: Mutex<BTreeMap<String, Arc<ModelMetrics>>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    session: Arc<BatchingSession>,
    pub connections: AtomicI64,
    pub in_flight: AtomicI64,
    pub queued_bytes: AtomicI64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// The counters of one version. They begin anew where another model, with other signatures, comes under its number.
    pub fn version<'a>(
        &self,
        model: &str,
        version: i64,
        signatures: impl Iterator<Item = &'a str> + Clone,
    ) -> Arc<VersionMetrics> {
        let mut versions = lock(&self.versions);
        let key = (model.to_owned(), version);
        if let Some(counted) = versions.get(&key).filter(|counted| counted.is_of(signatures.clone())) {
            return counted.clone();
        }
        let protocols = || PROTOCOLS.map(|_| ProtocolMetrics::new());
        let signatures = signatures.map(|name| SignatureMetrics { name: name.to_owned(), protocols: protocols() });
        let counts = Arc::new(BatchCounts {
            waiting: AtomicI64::new(0),
            rows: Histogram::new(&ROWS),
            wait: Histogram::new(&SECONDS),
            run: Histogram::new(&SECONDS),
        });
        let batch = BatchMetrics { counts, model: self.model(model), session: self.session.clone() };
        let counted = Arc::new(VersionMetrics {
            signatures: signatures.collect(),
            batch,
            created: Instant::now(),
            last_use: AtomicU64::new(0),
        });
        versions.insert(key, counted.clone());
        counted
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
    fn counters_begin_anew_where_another_model_takes_a_versions_number() {
        let metrics = Metrics::default();
        let before = metrics.version("m", 1, ["a"].into_iter());
        assert!(Arc::ptr_eq(&before, &metrics.version("m", 1, ["a"].into_iter())));
        assert!(!Arc::ptr_eq(&before, &metrics.version("m", 1, ["b"].into_iter())));
    }

    #[test]
    fn the_last_use_is_known_to_a_tenth_of_a_second() {
        let version = Metrics::default().version("m", 1, [].into_iter());
        let start = Instant::now();
        assert_eq!(version.idle(start), None);
        version.used(start + Duration::from_secs(10));
        let idle = version.idle(start + Duration::from_secs(12)).unwrap();
        assert_eq!(idle, Duration::from_secs(2));
    }

    #[test]
    fn a_gauge_counts_down_when_its_request_is_dropped() {
        let metrics = Metrics::default();
        drop(InFlight::new(&metrics.in_flight, 5));
        assert_eq!(metrics.in_flight.load(Ordering::Relaxed), 0);
    }
}

//! The routing snapshot: one immutable value that says which version answers which request.
//!
//! Python describes it ([`Snapshot`]), this module compiles it ([`Routes`]) and swaps it in with one pointer store
//! ([`Router`]). A request keeps the version it was routed to alive until it is answered.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::batch::queue::{Batching, timed_out};
use crate::batch::{Limits, Queue};
use crate::demand::Demand;
use crate::metrics::{Held, InFlight, Metrics, VersionMetrics, escaped, head};
use crate::request_log::{LogSettings, ModelLog, RequestLogs};
use crate::servable::Servable;
use crate::wire::{VersionState, VersionStatus};
use crate::{Code, Error, Result};

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
    fn error(&self, model: &str) -> Error {
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

/// One version that requests can be sent to.
pub struct Version {
    pub model: Arc<str>,
    pub number: i64,
    pub queue: Arc<Queue>,
    pub metrics: Arc<VersionMetrics>,
    log: Option<Arc<ModelLog>>,
    max_queued_rows: usize,
}

impl Version {
    /// Where the next request is to be logged, if it is.
    pub fn sampled(&self) -> Option<&Arc<ModelLog>> {
        self.log.as_ref().filter(|log| log.sample())
    }

    pub fn servable(&self) -> &Arc<Servable> {
        self.queue.servable()
    }
}

/// One model: its versions and the names that lead to them.
pub struct Model {
    pub status: Vec<VersionStatus>,
    default: Option<Arc<Version>>,
    versions: HashMap<i64, Arc<Version>>,
    labels: HashMap<String, i64>,
    hold: bool,
    on_demand: Vec<i64>,
    failure: Option<FailureSnapshot>,
}

impl Model {
    /// Whether a version answers, or soon will, when a request names none.
    pub fn is_available(&self) -> bool {
        self.default.is_some() || self.hold
    }

    /// The version that a label names.
    pub fn label(&self, label: &str) -> Option<i64> {
        self.labels.get(label).copied()
    }

    /// The versions that answer, highest first.
    pub fn available(&self) -> Vec<i64> {
        let mut numbers: Vec<i64> = self.versions.keys().copied().collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }

    /// Whether a request for this version is to wait.
    fn holds(&self, choice: Choice<'_>) -> bool {
        let will_come = |number| self.on_demand.is_empty() || self.on_demand.contains(&number);
        self.hold && !matches!(choice, Choice::Specific(number) if !will_come(number))
    }

    /// How it was used: not at all where no version answers.
    fn usage(&self, now: Instant) -> Option<Usage> {
        let newest = self.versions.values().filter_map(|version| version.metrics.idle(now)).min();
        let in_flight = self.versions.iter().map(|(number, version)| {
            // The routes hold each version once, and the default one twice.
            let own = 1 + usize::from(self.default.as_ref().is_some_and(|default| default.number == *number));
            Arc::strong_count(version).saturating_sub(own)
        });
        (!self.versions.is_empty())
            .then(|| Usage { idle_s: newest.map(|idle| idle.as_secs_f64()), in_flight: in_flight.sum() })
    }
}

/// How a model is used.
#[derive(Debug, Serialize)]
pub struct Usage {
    /// Seconds since a request was answered; absent if none was.
    pub idle_s: Option<f64>,
    /// Requests that have one of its versions.
    pub in_flight: usize,
}

/// Which version a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    Latest,
    Specific(i64),
    Label(&'a str),
}

/// A compiled snapshot.
#[derive(Default)]
pub struct Routes {
    models: HashMap<String, Model>,
    ready: bool,
    reasons: Vec<String>,
    starting: bool,
    metrics: String,
}

enum Lookup {
    Found(Arc<Version>),
    /// Wait for the next snapshot; the error is for those who have waited long enough.
    Hold {
        missing: Error,
        on_demand: bool,
    },
}

impl Routes {
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.get(name)
    }

    /// The name of a known model, for labels of metrics.
    pub fn known<'a>(&self, name: &'a str) -> Option<&'a str> {
        self.models.contains_key(name).then_some(name)
    }

    /// States of a model's versions, highest first; of one version where `number` is given.
    ///
    /// # Errors
    /// `NOT_FOUND` in TensorFlow Serving's words.
    pub fn status(&self, name: &str, number: Option<i64>) -> Result<Vec<VersionStatus>> {
        let known = self.models.get(name).map_or(&[][..], |model| &model.status);
        let wanted: Vec<_> =
            known.iter().filter(|status| number.is_none_or(|number| status.version == number)).cloned().collect();
        if !wanted.is_empty() {
            return Ok(wanted);
        }
        let message = match number {
            Some(number) => format!("Could not find version {number} of model {name}"),
            None => format!("Could not find any versions of model {name}"),
        };
        Err(Error::new(Code::NotFound, message).with_reason("servable_not_found"))
    }

    /// Whether every wanted version is there, and what is missing.
    pub fn readiness(&self) -> (bool, &[String]) {
        (self.ready, &self.reasons)
    }

    /// Whether the first load is over.
    pub fn is_started(&self) -> bool {
        !self.starting
    }

    fn find(&self, name: &str, choice: Choice<'_>) -> Result<Lookup> {
        let model = self.models.get(name);
        let found = match choice {
            Choice::Latest => model.and_then(|model| model.default.as_ref()),
            Choice::Specific(number) => model.and_then(|model| model.versions.get(&number)),
            Choice::Label(label) => {
                let number = model.and_then(|model| model.labels.get(label)).ok_or_else(|| {
                    Error::invalid(format!("Unrecognized servable version label: {label}")).with_reason("unknown_label")
                })?;
                return self.find(name, Choice::Specific(*number));
            }
        };
        if let Some(version) = found {
            return Ok(Lookup::Found(version.clone()));
        }
        let missing = self.missing(name, choice);
        match model {
            Some(model) if model.holds(choice) => Ok(Lookup::Hold { missing, on_demand: !model.on_demand.is_empty() }),
            Some(Model { failure: Some(failure), .. }) => Err(failure.error(name)),
            _ => Err(missing),
        }
    }

    fn missing(&self, name: &str, choice: Choice<'_>) -> Error {
        if self.starting {
            // Clients take the word in the other message as proof that the first load is over.
            return Error::new(Code::Unavailable, "The server is starting: its models are still being loaded")
                .with_reason("starting")
                .with_retry_after(Duration::from_secs(1));
        }
        let what = match choice {
            Choice::Specific(number) => format!("Specific({name}, {number})"),
            Choice::Latest | Choice::Label(_) => format!("Latest({name})"),
        };
        Error::new(Code::NotFound, format!("Servable not found for request: {what}")).with_reason("servable_not_found")
    }

    /// Prometheus lines about states, loads and memory, which only the routes know.
    pub fn write_metrics(&self, page: &mut String) {
        page.push_str(&self.metrics);
        head(page, "servable_model_state", "gauge", "1 for the state that a version is in");
        for (name, model) in &self.models {
            for status in &model.status {
                let _ = writeln!(
                    page,
                    "servable_model_state{{model=\"{}\",version=\"{}\",state=\"{}\"}} 1",
                    escaped(name),
                    status.version,
                    status.state.name()
                );
            }
        }
        head(page, "servable_replica_memory_bytes", "gauge", "Memory that the engine holds for a version");
        self.write_versions(page, "servable_replica_memory_bytes", ",device=\"cpu\"", |servable| {
            servable.footprint() as f64
        });
        head(page, "servable_load_seconds", "gauge", "How long loading a version took");
        self.write_versions(page, "servable_load_seconds", "", |servable| servable.load_time().as_secs_f64());
    }

    fn write_versions(&self, page: &mut String, name: &str, labels: &str, value: impl Fn(&Servable) -> f64) {
        for (number, version) in self.models.values().flat_map(|model| &model.versions) {
            let model = escaped(&version.model);
            let value = value(version.servable());
            let _ = writeln!(page, "{name}{{model=\"{model}\",version=\"{number}\"{labels}}} {value}");
        }
    }

    fn compile(
        snapshot: Snapshot,
        servables: &HashMap<String, Arc<Servable>>,
        before: &Routes,
        metrics: &Metrics,
        logs: &RequestLogs,
        io_threads: usize,
    ) -> Result<Routes> {
        let mut models = HashMap::with_capacity(snapshot.models.len());
        for (name, described) in snapshot.models {
            let log = logs.of(&name, described.request_log.clone());
            let before = before.models.get(&name);
            let compiler = Compiler { name: &name, servables, before, metrics, log, io_threads };
            let model = compiler.model(described)?;
            models.insert(name, model);
        }
        let Snapshot { ready, reasons, starting, metrics, .. } = snapshot;
        Ok(Routes { models, ready, reasons, starting, metrics })
    }
}

struct Compiler<'a> {
    name: &'a str,
    servables: &'a HashMap<String, Arc<Servable>>,
    before: Option<&'a Model>,
    metrics: &'a Metrics,
    log: Option<Arc<ModelLog>>,
    io_threads: usize,
}

impl Compiler<'_> {
    fn model(&self, described: ModelSnapshot) -> Result<Model> {
        let mut versions = HashMap::with_capacity(described.versions.len());
        for (number, version) in described.versions {
            let number: i64 =
                number.parse().map_err(|_| Error::invalid(format!("'{number}' is not a version number")))?;
            versions.insert(number, self.version(number, version)?);
        }
        let default = match described.default {
            None => None,
            Some(number) => Some(versions.get(&number).cloned().ok_or_else(|| {
                Error::invalid(format!("The default version {number} of '{}' is not routed", self.name))
            })?),
        };
        Ok(Model {
            status: described.status.into_iter().map(Into::into).collect(),
            default,
            versions,
            labels: described.labels,
            hold: described.hold,
            on_demand: described.on_demand,
            failure: described.failure,
        })
    }

    fn version(&self, number: i64, described: VersionSnapshot) -> Result<Arc<Version>> {
        let servable = self
            .servables
            .get(&described.servable)
            .ok_or_else(|| Error::invalid(format!("No servable '{}' was given", described.servable)))?;
        let batching = described.batching.map(|batching| Batching {
            limits: Limits {
                max_rows: batching.max_rows.max(1),
                timeout: Duration::from_micros(batching.timeout_us),
                max_queued_rows: described.max_queued_rows,
            },
            allowed_sizes: batching.allowed_sizes,
            pad: batching.pad,
            adaptive: batching.adaptive,
            max_request_rows: batching.max_request_rows,
            split: batching.split,
        });
        // What has not changed keeps its queue, with the requests that wait there.
        if let Some(same) = self.before.and_then(|model| model.versions.get(&number)).filter(|before| {
            Arc::ptr_eq(before.servable(), servable)
                && before.queue.batching() == batching.as_ref()
                && before.max_queued_rows == described.max_queued_rows
        }) {
            return Ok(if same_log(same.log.as_ref(), self.log.as_ref()) { same.clone() } else { self.logged(same) });
        }
        let names = servable.signatures().iter().map(|signature| signature.name.as_str());
        let metrics = self.metrics.version(self.name, number, names);
        let queue = Queue::new(servable.clone(), batching, described.max_queued_rows, self.io_threads, metrics.batch());
        Ok(Arc::new(Version {
            model: Arc::from(self.name),
            number,
            queue,
            metrics,
            log: self.log.clone(),
            max_queued_rows: described.max_queued_rows,
        }))
    }

    /// The same version with another log.
    fn logged(&self, same: &Version) -> Arc<Version> {
        Arc::new(Version {
            model: same.model.clone(),
            number: same.number,
            queue: same.queue.clone(),
            metrics: same.metrics.clone(),
            log: self.log.clone(),
            max_queued_rows: same.max_queued_rows,
        })
    }
}

fn same_log(a: Option<&Arc<ModelLog>>, b: Option<&Arc<ModelLog>>) -> bool {
    a.map(Arc::as_ptr) == b.map(Arc::as_ptr)
}

/// The routes in force, and those who wait for the next.
pub struct Router {
    routes: ArcSwap<Routes>,
    /// Counts the snapshots; requests that are held wait for the next number.
    revision: watch::Sender<u64>,
    held: AtomicI64,
    max_held: i64,
    waits: Held,
    demand: Demand,
    io_threads: usize,
    logs: RequestLogs,
    /// Held while a snapshot is applied; true once none may be any more.
    closed: Mutex<bool>,
}

impl Router {
    pub fn new(io_threads: usize, max_held: i64) -> Router {
        let starting = Routes { starting: true, reasons: vec!["starting".to_owned()], ..Routes::default() };
        Router {
            routes: ArcSwap::from_pointee(starting),
            revision: watch::Sender::new(0),
            held: AtomicI64::new(0),
            max_held,
            waits: Held::default(),
            demand: Demand::default(),
            io_threads,
            logs: RequestLogs::default(),
            closed: Mutex::new(false),
        }
    }

    /// Makes a snapshot the one in force, unless the router is closed. Requests that were routed before keep the
    /// version they have.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the snapshot contradicts itself; then the old one stays.
    pub fn apply(
        &self,
        snapshot: Snapshot,
        servables: &HashMap<String, Arc<Servable>>,
        metrics: &Metrics,
    ) -> Result<()> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Ok(());
        }
        let before = self.routes.load();
        let routes = Routes::compile(snapshot, servables, &before, metrics, &self.logs, self.io_threads)?;
        self.routes.store(Arc::new(routes));
        self.revision.send_modify(|revision| *revision += 1);
        Ok(())
    }

    /// Lets go of everything: servables end only when no snapshot holds them. A snapshot that comes later is ignored.
    pub fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.routes.store(Arc::default());
        self.wake();
        self.demand.close();
        self.logs.close();
    }

    /// The models that requests wait for.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// How each model that answers is used.
    pub fn usage(&self) -> BTreeMap<String, Usage> {
        let (routes, now) = (self.routes.load(), Instant::now());
        let used = routes.models.iter();
        used.filter_map(|(name, model)| Some((name.clone(), model.usage(now)?))).collect()
    }

    /// Prometheus lines about requests that were held.
    pub fn write_metrics(&self, page: &mut String) {
        self.waits.write(page);
    }

    /// The request logs of all models.
    pub fn logs(&self) -> &RequestLogs {
        &self.logs
    }

    pub fn routes(&self) -> arc_swap::Guard<Arc<Routes>> {
        self.routes.load()
    }

    /// Wakes all who wait for the next snapshot, although the one in force stays.
    pub fn wake(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// A receiver that changes with every snapshot.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The version for a request. During a swap that unloads first, and of a model that is loaded on demand, waits for it
    /// until the deadline.
    ///
    /// # Errors
    /// `NOT_FOUND` and `INVALID_ARGUMENT` as TensorFlow Serving says them; `RESOURCE_EXHAUSTED` when too many wait;
    /// `DEADLINE_EXCEEDED` when the new version did not come in time; `UNAVAILABLE` when it cannot be loaded.
    pub async fn resolve(&self, model: &str, choice: Choice<'_>, deadline: Option<Instant>) -> Result<Arc<Version>> {
        // Bound first: a guard that lived on while the request waits would keep the old version from unloading.
        let found = self.routes.load().find(model, choice)?;
        match found {
            Lookup::Found(version) => Ok(version),
            Lookup::Hold { .. } => self.hold(model, choice, deadline).await,
        }
    }

    async fn hold(&self, model: &str, choice: Choice<'_>, deadline: Option<Instant>) -> Result<Arc<Version>> {
        let _held = InFlight::new(&self.held, 1);
        let _wait = self.waits.begin();
        if self.held.load(Ordering::Relaxed) > self.max_held {
            return Err(Error::new(
                Code::ResourceExhausted,
                "Too many requests wait for the version that is being loaded",
            )
            .with_reason("too_many_held")
            .with_retry_after(Duration::from_secs(1)));
        }
        let mut revisions = self.revision.subscribe();
        loop {
            // Marked as seen before looking, so that a snapshot that comes in between wakes this request.
            revisions.borrow_and_update();
            let missing = match self.routes.load().find(model, choice)? {
                Lookup::Found(version) => return Ok(version),
                Lookup::Hold { missing, on_demand } => {
                    if on_demand {
                        self.demand.note(model);
                    }
                    missing
                }
            };
            let next = revisions.changed();
            let changed = match deadline {
                None => next.await,
                Some(deadline) => tokio::time::timeout_at(deadline.into(), next).await.map_err(|_| timed_out())?,
            };
            changed.map_err(|_| missing)?;
        }
    }
}

//! A compiled snapshot: models, their versions, and the names that lead to them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::snapshot::{FailureSnapshot, ModelSnapshot, Snapshot, VersionSnapshot};
use crate::batch::queue::Batching;
use crate::batch::{Limits, Queue, Task};
use crate::metrics::{Metrics, VersionMetrics, escaped, head};
use crate::request_log::{ModelLog, RequestLogs};
use crate::sampling::Share;
use crate::servable::Servable;
use crate::skew::{InputSample, Skew};
use crate::wire::VersionStatus;
use crate::{Code, Error, Result};

/// One version that requests can be sent to.
pub struct Version {
    pub model: Arc<str>,
    pub number: i64,
    pub queue: Arc<Queue>,
    pub metrics: Arc<VersionMetrics>,
    log: Option<Arc<ModelLog>>,
    watched: Option<Watched>,
    max_queued_rows: usize,
}

/// The inputs of some requests are kept.
struct Watched {
    share: Share,
    skew: Arc<Skew>,
}

impl Version {
    /// Where the next request is to be logged, if it is.
    pub fn sampled(&self) -> Option<&Arc<ModelLog>> {
        self.log.as_ref().filter(|log| log.sample())
    }

    /// Keeps the inputs of a request, where they are to be looked at and this one is chosen.
    pub fn watch(&self, task: &Task) {
        let Some(watched) = self.watched.as_ref().filter(|watched| watched.share.chooses()) else { return };
        watched.skew.push(InputSample {
            model: self.model.clone(),
            version: self.number,
            signature: task.signature.clone(),
            inputs: task.inputs.clone(),
        });
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
    unavailable: String,
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

pub(super) enum Lookup {
    Found(Arc<Version>),
    /// Wait for the next snapshot; the error is for those who have waited long enough.
    Hold {
        missing: Error,
        on_demand: bool,
    },
}

impl Routes {
    /// The routes of a server that has loaded nothing yet.
    pub(super) fn starting() -> Routes {
        Routes { starting: true, reasons: vec!["starting".to_owned()], ..Routes::default() }
    }

    /// How each model that answers is used.
    pub(super) fn usage(&self) -> BTreeMap<String, Usage> {
        let now = Instant::now();
        self.models.iter().filter_map(|(name, model)| Some((name.clone(), model.usage(now)?))).collect()
    }

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

    pub(super) fn find(&self, name: &str, choice: Choice<'_>) -> Result<Lookup> {
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
        if let Some(model) = self.models.get(name).filter(|model| !model.unavailable.is_empty()) {
            return Error::new(Code::Unavailable, format!("{}: it is being loaded again", model.unavailable))
                .with_reason("replica_unavailable")
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
        head(page, "servable_ready", "gauge", "1 once every model that is wanted has a version that answers");
        let _ = writeln!(page, "servable_ready {}", i32::from(self.ready));
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

    pub(super) fn compile(
        snapshot: Snapshot,
        servables: &HashMap<String, Arc<Servable>>,
        before: &Routes,
        metrics: &Metrics,
        logs: &RequestLogs,
        skew: &Arc<Skew>,
        io_threads: usize,
    ) -> Result<Routes> {
        let mut models = HashMap::with_capacity(snapshot.models.len());
        for (name, described) in snapshot.models {
            let log = logs.of(&name, described.request_log.clone());
            let before = before.models.get(&name);
            let compiler = Compiler { name: &name, servables, before, metrics, log, skew, io_threads };
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
    skew: &'a Arc<Skew>,
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
            unavailable: described.unavailable,
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
        let share = Some(described.skew_sample).filter(|&share| share > 0.0).map(Share::new);
        let watched = share.map(|share| Watched { share, skew: self.skew.clone() });
        // What has not changed keeps its queue, with the requests that wait there.
        if let Some(same) = self.before.and_then(|model| model.versions.get(&number)).filter(|before| {
            Arc::ptr_eq(before.servable(), servable)
                && before.queue.batching() == batching.as_ref()
                && before.max_queued_rows == described.max_queued_rows
        }) {
            let unchanged = same_log(same.log.as_ref(), self.log.as_ref())
                && same.watched.as_ref().map(|watched| watched.share) == share;
            return Ok(if unchanged { same.clone() } else { self.looked_at(same, watched) });
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
            watched,
            max_queued_rows: described.max_queued_rows,
        }))
    }

    /// The same version with another log, or other requests that are watched.
    fn looked_at(&self, same: &Version, watched: Option<Watched>) -> Arc<Version> {
        Arc::new(Version {
            model: same.model.clone(),
            number: same.number,
            queue: same.queue.clone(),
            metrics: same.metrics.clone(),
            log: self.log.clone(),
            watched,
            max_queued_rows: same.max_queued_rows,
        })
    }
}

fn same_log(a: Option<&Arc<ModelLog>>, b: Option<&Arc<ModelLog>>) -> bool {
    a.map(Arc::as_ptr) == b.map(Arc::as_ptr)
}

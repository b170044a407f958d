//! The routing snapshot: one immutable value that says which version answers which request.
//!
//! Python describes it ([`Snapshot`]), this module compiles it ([`Routes`]) and swaps it in with one pointer store
//! ([`Router`]). A request keeps the version it was routed to alive until it is answered.

mod routes;
mod snapshot;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use self::routes::Lookup;
pub use self::routes::{Choice, Model, Routes, Usage, Version};
pub use self::snapshot::{BatchingSnapshot, FailureSnapshot, ModelSnapshot, Snapshot, StatusSnapshot, VersionSnapshot};
use crate::batch::queue::timed_out;
use crate::demand::Demand;
use crate::metrics::{Held, InFlight, Metrics};
use crate::request_log::RequestLogs;
use crate::servable::Servable;
use crate::skew::Skew;
use crate::{Code, Error, Result};

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
    skew: Arc<Skew>,
    /// Held while a snapshot is applied; true once none may be any more.
    closed: Mutex<bool>,
}

impl Router {
    pub fn new(io_threads: usize, max_held: i64) -> Router {
        Router {
            routes: ArcSwap::from_pointee(Routes::starting()),
            revision: watch::Sender::new(0),
            held: AtomicI64::new(0),
            max_held,
            waits: Held::default(),
            demand: Demand::default(),
            io_threads,
            logs: RequestLogs::default(),
            skew: Arc::default(),
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
        let routes = Routes::compile(snapshot, servables, &before, metrics, &self.logs, &self.skew, self.io_threads)?;
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
        self.routes.load().usage()
    }

    /// Prometheus lines about requests that were held.
    pub fn write_metrics(&self, page: &mut String) {
        self.waits.write(page);
    }

    /// The inputs that are kept to be compared with the statistics of their versions.
    pub fn skew(&self) -> &Skew {
        &self.skew
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

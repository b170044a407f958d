//! A servable: what an engine has loaded for one version, its measured pace, and its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::Result;
use crate::engine::{Call, Concurrency, Engine};
use crate::memory;
use crate::wire::{Signature, Signatures, Tensor};

/// Shared by everything that may send requests to it; the engine is unloaded when the last owner lets go.
pub struct Servable {
    /// Taken out when the servable is dropped, so that unloading happens on a thread of its own.
    engine: Option<Box<dyn Engine>>,
    pace: Pace,
    load_time: Duration,
    /// Signatures made of several, by their names.
    joint: Mutex<HashMap<String, Arc<Signature>>>,
    ended: Arc<Latch>,
}

/// Signatures made of several that are kept at one time.
const MAX_JOINT: usize = 64;

impl Servable {
    /// Takes over what an engine has loaded in `load_time`.
    pub fn new(engine: Box<dyn Engine>, load_time: Duration) -> Arc<Servable> {
        Arc::new(Servable {
            engine: Some(engine),
            pace: Pace::default(),
            load_time,
            joint: Mutex::default(),
            ended: Arc::default(),
        })
    }

    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    fn engine(&self) -> &dyn Engine {
        self.engine.as_deref().expect("the engine is taken only by drop")
    }

    pub fn engine_name(&self) -> &'static str {
        self.engine().name()
    }

    pub fn signatures(&self) -> &Signatures {
        self.engine().signatures()
    }

    /// One signature that does the work of several in one run: always the same one for the same several, so that
    /// requests for it can share a batch. `None` where the engine has none, or they take different things.
    pub fn joint(&self, signatures: &[&Signature]) -> Option<Arc<Signature>> {
        if signatures.len() < 2 || !self.engine().joins_signatures() {
            return None;
        }
        let joint = Signature::joint(signatures)?;
        let mut known = self.joint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(&joint.name) {
            return Some(same.clone());
        }
        if known.len() >= MAX_JOINT {
            known.clear();
        }
        let joint = Arc::new(joint);
        known.insert(joint.name.clone(), joint.clone());
        Some(joint)
    }

    pub fn footprint(&self) -> u64 {
        self.engine().footprint()
    }

    pub fn concurrency(&self) -> Concurrency {
        self.engine().concurrency()
    }

    /// How long runs take, by their number of rows.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Set once the engine is unloaded and its memory given back.
    pub fn ended(&self) -> Arc<Latch> {
        self.ended.clone()
    }

    /// Runs the engine and takes note of how long it took.
    pub fn run(&self, call: &Call<'_>, rows: usize) -> Result<Vec<Tensor>> {
        let start = Instant::now();
        let outputs = self.engine().run(call);
        if outputs.is_ok() {
            self.pace.note(rows, start.elapsed());
        }
        outputs
    }
}

impl Drop for Servable {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            reaper().send(Ending { engine, ended: self.ended.clone() }).unwrap_or_else(|unsent| unsent.0.carry_out());
        }
    }
}

/// An engine whose time has come.
struct Ending {
    engine: Box<dyn Engine>,
    ended: Arc<Latch>,
}

impl Ending {
    fn carry_out(self) {
        drop(self.engine);
        memory::trim();
        self.ended.set();
    }
}

/// The thread that unloads: the last owner may be a thread that answers requests, which must not pay for it.
fn reaper() -> &'static Sender<Ending> {
    static REAPER: OnceLock<Sender<Ending>> = OnceLock::new();
    REAPER.get_or_init(|| {
        let (sender, receiver) = channel::<Ending>();
        std::thread::Builder::new()
            .name("servable-reaper".to_owned())
            .spawn(move || receiver.into_iter().for_each(Ending::carry_out))
            .expect("a thread can be started");
        sender
    })
}

/// An event that happens once.
#[derive(Default)]
pub struct Latch {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Latch {
    pub fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// True once set; waits for it at most `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        let guard = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let (set, _) =
            self.changed.wait_timeout_while(guard, timeout, |set| !*set).unwrap_or_else(PoisonError::into_inner);
        *set
    }
}

/// Moving averages of the time for one row, one for each power of two of rows in a run.
#[derive(Default)]
pub struct Pace {
    nanos_a_row: [AtomicU64; Pace::BUCKETS],
    better_alone: AtomicBool,
}

impl Pace {
    const BUCKETS: usize = 24;
    /// Rows together must take so much less time each than alone for a batch to be worth its wait.
    const WORTH: f64 = 0.8;

    fn bucket(rows: usize) -> usize {
        (rows.max(1).ilog2() as usize).min(Self::BUCKETS - 1)
    }

    fn measured(&self, bucket: usize) -> Option<u64> {
        Some(self.nanos_a_row[bucket].load(Ordering::Relaxed)).filter(|&nanos| nanos > 0)
    }

    /// Takes a run into account.
    pub fn note(&self, rows: usize, took: Duration) {
        let bucket = Self::bucket(rows);
        let took = (u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / rows.max(1) as u64).max(1);
        // First runs and busy moments are slow: a faster one is believed at once, a slower one little by little, however
        // slow it was. A race between two threads loses one measurement of many.
        let average = match self.measured(bucket) {
            Some(known) if took > known => known + ((took - known) / 16).min(known / 64),
            _ => took,
        };
        self.nanos_a_row[bucket].store(average, Ordering::Relaxed);
        if bucket > 0 {
            self.compare(took, average);
        }
    }

    /// Decides anew whether batches are worth it. Only when one was run: what was measured long ago, on a machine less
    /// busy, says nothing about now.
    fn compare(&self, took: u64, average: u64) {
        let Some(alone) = self.measured(0) else { return };
        let limit = (Self::WORTH * alone as f64) as u64;
        if took < limit {
            self.better_alone.store(false, Ordering::Relaxed);
        } else if average >= limit {
            self.better_alone.store(true, Ordering::Relaxed);
        }
    }

    /// How long a run of so many rows should take; `None` before anything was measured.
    pub fn estimate(&self, rows: usize) -> Option<Duration> {
        let wanted = Self::bucket(rows);
        let fewer = (0..=wanted).rev().find_map(|bucket| self.measured(bucket));
        let nanos = fewer.or_else(|| (wanted + 1..Self::BUCKETS).find_map(|bucket| self.measured(bucket)))?;
        Some(Duration::from_nanos(nanos.saturating_mul(rows.max(1) as u64)))
    }

    /// Whether rows that run together cost less each than rows alone. True as long as it is not known.
    ///
    /// Where they do not, as with a large network on a processor, a batch only makes its rows wait for each other while
    /// other threads have nothing to do.
    pub fn gains_from_batches(&self) -> bool {
        !self.better_alone.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_of_more_rows_is_guessed_from_fewer() {
        let pace = Pace::default();
        assert_eq!(pace.estimate(4), None);
        pace.note(1, Duration::from_micros(10));
        assert_eq!(pace.estimate(1), Some(Duration::from_micros(10)));
        assert_eq!(pace.estimate(4), Some(Duration::from_micros(40)));
        pace.note(4, Duration::from_micros(16));
        assert_eq!(pace.estimate(5), Some(Duration::from_micros(20)));
    }

    #[test]
    fn batches_are_worth_it_only_where_rows_together_cost_less_each() {
        let pace = Pace::default();
        assert!(pace.gains_from_batches(), "unknown");
        pace.note(1, Duration::from_micros(100));
        assert!(pace.gains_from_batches(), "still unknown");
        pace.note(4, Duration::from_micros(400));
        assert!(!pace.gains_from_batches());
        (0..50).for_each(|_| pace.note(5, Duration::from_micros(100)));
        assert!(pace.gains_from_batches());
    }

    #[test]
    fn runs_alone_that_were_held_up_do_not_make_batches_worth_it() {
        let pace = Pace::default();
        pace.note(1, Duration::from_millis(4));
        pace.note(4, Duration::from_millis(16));
        (0..100).for_each(|_| pace.note(1, Duration::from_millis(100)));
        assert!(!pace.gains_from_batches());
        pace.note(4, Duration::from_millis(16));
        assert!(pace.gains_from_batches(), "a batch now is faster than runs alone are now");
    }

    #[test]
    fn one_batch_that_was_held_up_does_not_end_batches() {
        let pace = Pace::default();
        pace.note(1, Duration::from_millis(4));
        pace.note(4, Duration::from_millis(4));
        pace.note(4, Duration::from_millis(40));
        assert!(pace.gains_from_batches());
    }

    #[test]
    fn the_pace_follows_what_is_measured() {
        let pace = Pace::default();
        pace.note(1, Duration::from_millis(10));
        (0..50).for_each(|_| pace.note(1, Duration::from_millis(1)));
        assert!(pace.estimate(1).unwrap() < Duration::from_millis(2));
    }

    #[test]
    fn a_latch_that_is_set_does_not_wait() {
        let latch = Latch::default();
        assert!(!latch.wait(Duration::ZERO));
        latch.set();
        assert!(latch.wait(Duration::from_secs(60)));
    }
}

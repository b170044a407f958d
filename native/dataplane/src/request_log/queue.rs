//! Records on their way to the disk: a queue bounded by bytes, and the thread that empties it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::files::Trouble;
use super::json;
use super::record::Entry;
use super::{Format, Loss, ModelLog};

/// Most bytes that wait. When the disk is slower than that, records are lost, not requests.
const MOST_BYTES: usize = 64 << 20;
/// The writer is woken early for so many bytes: while they are still in the caches, they cost least.
const WAKING_BYTES: usize = 512 << 10;
/// Records are gathered for so long, so that few of them pay for waking the writer; a crash loses no more than that.
const GATHER: Duration = Duration::from_millis(50);

/// Hears of trouble with the files, once until they can be written again.
pub type Warn = Arc<dyn Fn(&str) + Send + Sync>;

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    warn: Mutex<Option<Warn>>,
    most_bytes: usize,
}

#[derive(Default)]
struct State {
    entries: Vec<(Arc<ModelLog>, Entry)>,
    /// Of the entries that wait and of those that are being written.
    bytes: usize,
    /// Of the entries that wait.
    waiting: usize,
    running: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue::bounded(MOST_BYTES)
    }

    pub(super) fn bounded(most_bytes: usize) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), warn: Mutex::default(), most_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the writer where it does not run yet. Whether it runs.
    pub(super) fn start(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        if !state.running && !state.closed {
            let queue = self.clone();
            let name = "servable-request-log".to_owned();
            match std::thread::Builder::new().name(name).spawn(move || queue.write_all()) {
                Ok(_) => state.running = true,
                Err(error) => self.warn(&format!("The request log is off: its thread cannot be started: {error}")),
            }
        }
        state.running
    }

    /// Takes a record; false where there is no room.
    pub(super) fn push(&self, log: &Arc<ModelLog>, entry: Entry) -> bool {
        let bytes = entry.held();
        let mut state = self.lock();
        if state.closed || state.bytes + bytes > self.most_bytes {
            return false;
        }
        let waited_before = state.waiting;
        state.bytes += bytes;
        state.waiting += bytes;
        state.entries.push((log.clone(), entry));
        let wake = waited_before == 0 || (waited_before < WAKING_BYTES && state.waiting >= WAKING_BYTES);
        drop(state);
        if wake {
            self.changed.notify_all();
        }
        true
    }

    pub(super) fn on_warning(&self, warn: Warn) {
        *self.warn.lock().unwrap_or_else(PoisonError::into_inner) = Some(warn);
    }

    fn warn(&self, text: &str) {
        let warn = self.warn.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(warn) = warn {
            warn(text);
        }
    }

    /// Takes no more, and waits until what has come is written.
    pub(super) fn close(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        while state.running {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The writer's thread.
    fn write_all(&self) {
        loop {
            let (entries, closed) = self.gather();
            let bytes: usize = entries.iter().map(|(_, entry)| entry.held()).sum();
            self.write(entries);
            let mut state = self.lock();
            state.bytes -= bytes;
            if closed && state.entries.is_empty() {
                state.running = false;
                drop(state);
                return self.changed.notify_all();
            }
        }
    }

    /// What waits, once there is something and a moment has passed; whether the queue is closed.
    fn gather(&self) -> (Vec<(Arc<ModelLog>, Entry)>, bool) {
        let mut state = self.lock();
        while state.entries.is_empty() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let few = |state: &mut State| !state.closed && state.waiting < WAKING_BYTES;
        let waited = self.changed.wait_timeout_while(state, GATHER, few);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting = 0;
        (std::mem::take(&mut state.entries), state.closed)
    }

    fn write(&self, entries: Vec<(Arc<ModelLog>, Entry)>) {
        let mut touched: Vec<Arc<ModelLog>> = Vec::new();
        for (log, entry) in entries {
            let mut record = entry.encode(&log.model, log.settings.sample, log.settings.format.tensors());
            if log.settings.format == Format::Json {
                record = json::line(&record);
            }
            let outcome = log.files().push(&record);
            self.note(&log, outcome);
            if !touched.iter().any(|known| Arc::ptr_eq(known, &log)) {
                touched.push(log);
            }
        }
        for log in touched {
            let outcome = log.files().flush();
            self.note(&log, outcome);
        }
    }

    /// Counts what was written or lost.
    fn note(&self, log: &ModelLog, outcome: Result<u64, Trouble>) {
        match outcome {
            Ok(written) => drop(log.counts.written.fetch_add(written, std::sync::atomic::Ordering::Relaxed)),
            Err(Trouble::TooLarge) => log.counts.lose(Loss::TooLarge, 1),
            Err(Trouble::Disk { lost, first, error }) => {
                log.counts.lose(Loss::Disk, lost);
                if first {
                    let (model, prefix) = (&log.model, log.settings.prefix.display());
                    self.warn(&format!("The request log of {model} cannot be written to {prefix}-*: {error}. Records are lost until it can; requests go on"));
                }
            }
        }
    }
}

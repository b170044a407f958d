//! The engine threads: plain threads, about one a core, that take turns at the queues with work.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::queue::{Answer, Queue, Task};
use crate::{Error, Result};

/// A fixed set of threads that run batches. Queues with work stand in one line, so that each model gets its turn.
pub struct Pool {
    line: Arc<Line>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<Queue>>,
    /// Queues whose batch may still get company until then.
    timers: Vec<(Instant, Arc<Queue>)>,
    stopping: bool,
    /// Threads that have come to their end.
    ended: usize,
}

/// A run that should be over gets at least so long to end when the pool stops.
const LAST_CHANCE: Duration = Duration::from_millis(100);

impl Pool {
    pub fn start(threads: usize) -> std::io::Result<Pool> {
        let line = Arc::new(Line::default());
        let threads = (0..threads.max(1))
            .map(|index| {
                let line = line.clone();
                std::thread::Builder::new().name(format!("servable-engine-{index}")).spawn(move || line.work())
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Pool { line, threads: Mutex::new(threads) })
    }

    /// Hands a request to the engine threads.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the queue is full.
    pub fn submit(&self, queue: &Arc<Queue>, task: Task) -> Result<oneshot::Receiver<Result<Answer>>> {
        let line = match queue.own_threads() {
            None => &self.line,
            Some(own) => own.line()?,
        };
        let (tell, receiver) = queue.push_shared(task)?;
        if tell {
            line.push(queue.clone());
        }
        Ok(receiver)
    }

    /// Ends the threads once what they run is done; what still waits is dropped. A thread whose run does not end by
    /// `deadline` is left to itself: a model that hangs must not keep the server from stopping.
    pub fn stop(&self, deadline: Instant) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let mut state = self.line.lock();
        state.stopping = true;
        self.line.changed.notify_all();
        let patience = deadline.saturating_duration_since(Instant::now()).max(LAST_CHANCE);
        (state, _) = self
            .line
            .changed
            .wait_timeout_while(state, patience, |state| state.ended < threads.len())
            .unwrap_or_else(PoisonError::into_inner);
        state.ready.clear();
        state.timers.clear();
    }
}

/// Threads of one queue alone, started when it is first used. They end soon after it is dropped.
pub(super) struct OwnThreads {
    limit: usize,
    pool: OnceLock<std::io::Result<Pool>>,
}

impl OwnThreads {
    pub(super) fn new(limit: usize) -> OwnThreads {
        OwnThreads { limit, pool: OnceLock::new() }
    }

    fn line(&self) -> Result<&Arc<Line>> {
        match self.pool.get_or_init(|| Pool::start(self.limit)) {
            Ok(pool) => Ok(&pool.line),
            Err(error) => Err(Error::internal(format!("Threads for a replica cannot be started: {error}"))),
        }
    }
}

impl Drop for OwnThreads {
    fn drop(&mut self) {
        // One of the threads may be the one that drops its queue: nobody waits for them.
        if let Some(Ok(pool)) = self.pool.get() {
            pool.line.lock().stopping = true;
            pool.line.changed.notify_all();
        }
    }
}

impl Line {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, queue: Arc<Queue>) {
        self.lock().ready.push_back(queue);
        self.changed.notify_one();
    }

    fn work(&self) {
        while let Some(queue) = self.next() {
            if let Some(due) = queue.turn(&|| self.push(queue.clone())) {
                self.lock().timers.push((due, queue));
                self.changed.notify_one();
            }
        }
        self.lock().ended += 1;
        self.changed.notify_all();
    }

    /// The next queue with work; waits for one. `None` when the pool stops.
    fn next(&self) -> Option<Arc<Queue>> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            let now = Instant::now();
            state.ring(now);
            if let Some(queue) = state.ready.pop_front() {
                return Some(queue);
            }
            state = match state.timers.iter().map(|(due, _)| *due).min() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let pause = due.saturating_duration_since(now);
                    self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl State {
    /// Moves queues whose time has come into the line.
    fn ring(&mut self, now: Instant) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.timers).into_iter().partition(|(due, _)| *due <= now);
        self.timers = later;
        self.ready.extend(due.into_iter().map(|(_, queue)| queue).filter(|queue| queue.timer_fired()));
    }
}

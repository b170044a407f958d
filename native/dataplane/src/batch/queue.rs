//! The queue of one servable: where its requests wait, and how a batch of them is run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::former::{Former, Item, Limits, Take};
use super::join::{join, split};
use super::pool::OwnThreads;
use crate::engine::{Call, Concurrency};
use crate::metrics::{Api, BatchMetrics};
use crate::servable::Servable;
use crate::wire::{Signature, Tensor};
use crate::{Code, Error, Result};

/// Indexes into `signature.outputs`.
pub type Outputs = SmallVec<[usize; 4]>;

/// One request on its way to an engine.
pub struct Task {
    pub signature: Arc<Signature>,
    /// In the order of `signature.inputs`.
    pub inputs: Vec<Tensor>,
    pub outputs: Outputs,
    pub deadline: Option<Instant>,
    /// What it is counted as.
    api: Api,
    /// `None` where the inputs have no common dimension 0: such a request is run alone.
    rows: Option<usize>,
    /// Its shapes behind dimension 0 need not agree with those of the others in its batch.
    pad: bool,
    since: Instant,
    reply: Option<oneshot::Sender<Result<Answer>>>,
}

/// What the engine gave for one request.
#[derive(Debug)]
pub struct Answer {
    /// In the order of the task's `outputs`.
    pub outputs: Vec<Tensor>,
}

impl Task {
    pub fn new(signature: Arc<Signature>, inputs: Vec<Tensor>, outputs: Outputs, deadline: Option<Instant>) -> Task {
        let (rows, api) = (common_rows(&inputs), Api::Predict);
        Task { signature, inputs, outputs, deadline, api, rows, pad: false, since: Instant::now(), reply: None }
    }

    /// Itself, counted as a request for another thing than to predict.
    pub(crate) fn of_api(self, api: Api) -> Task {
        Task { api, ..self }
    }

    /// Rows along dimension 0, where all inputs agree on it.
    pub fn row_count(&self) -> usize {
        self.rows.unwrap_or(1)
    }

    /// Itself cut into tasks of at most `max_rows` rows each, to be run one by one.
    pub(crate) fn parts(&self, max_rows: usize) -> Vec<Task> {
        let rows = self.row_count();
        let part = |start: usize| {
            let inputs = self.inputs.iter().map(|input| input.slice_rows(start, rows.min(start + max_rows))).collect();
            Task::new(self.signature.clone(), inputs, self.outputs.clone(), self.deadline).of_api(self.api)
        };
        (0..rows).step_by(max_rows.max(1)).map(part).collect()
    }

    fn answer(self, result: Result<Answer>) {
        if let Some(reply) = self.reply {
            // The receiver may be gone: then nobody wants the answer.
            let _ = reply.send(result);
        }
    }
}

fn common_rows(inputs: &[Tensor]) -> Option<usize> {
    let rows = inputs.first()?.rows()?;
    (rows > 0 && inputs.iter().all(|tensor| tensor.rows() == Some(rows))).then_some(rows)
}

impl Item for Task {
    fn rows(&self) -> usize {
        self.row_count()
    }

    fn goes_with(&self, other: &Self) -> bool {
        self.rows.is_some()
            && other.rows.is_some()
            && Arc::ptr_eq(&self.signature, &other.signature)
            && self.outputs == other.outputs
            && self.inputs.iter().zip(&other.inputs).all(|(mine, its)| {
                mine.dtype == its.dtype
                    && mine.shape.len() == its.shape.len()
                    && (self.pad || mine.shape[1..] == its.shape[1..])
            })
    }

    fn abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// How requests of one version are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    pub limits: Limits,
    /// Sizes that a batch is filled up to, ascending; empty: any size.
    pub allowed_sizes: Vec<usize>,
    /// Requests of different shapes may share a batch: shorter ones are padded.
    pub pad: bool,
    /// Batches are made only while they are measured to be worth it; see [`Pace::gains_from_batches`].
    ///
    /// [`Pace::gains_from_batches`]: crate::servable::Pace::gains_from_batches
    pub adaptive: bool,
    /// Most rows of one request; 0: any number.
    pub max_request_rows: usize,
    /// Requests with more rows than a batch may have are run in parts; else they are batches of their own.
    pub split: bool,
}

/// Runs at once, for engines that bound them, and where the queue stands with the engine threads.
struct Shared {
    former: Former<Task>,
    running: usize,
    place: Place,
}

/// Where a queue is known to the engine threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    Ready,
    Timer,
}

/// Where the requests of one servable wait.
pub struct Queue {
    servable: Arc<Servable>,
    batching: Option<Batching>,
    /// One for each thread that owns sockets: short runs happen there, without a word to other threads.
    inline: Box<[Mutex<Former<Task>>]>,
    shared: Mutex<Shared>,
    /// Where its runs only wait for another process: they must not keep the engine threads from the other models.
    own: Option<OwnThreads>,
    /// Batches asked for while they were not worth it.
    takes: AtomicU64,
    metrics: BatchMetrics,
}

/// One batch in so many is made although it was not worth it, to see whether it is now. It is a small one: its rows
/// wait for each other.
const EXPLORE_EVERY: u64 = 512;
const EXPLORE_ROWS: usize = 4;

/// Runs that should take longer than this are for the engine threads.
const INLINE_LIMIT: Duration = Duration::from_micros(300);

impl Queue {
    pub fn new(
        servable: Arc<Servable>,
        batching: Option<Batching>,
        max_queued_rows: usize,
        io_threads: usize,
        metrics: BatchMetrics,
    ) -> Arc<Queue> {
        let limits =
            batching.as_ref().map_or(Limits { max_rows: 1, timeout: Duration::ZERO, max_queued_rows }, |batching| {
                batching.limits.clone()
            });
        // A former on a socket's own thread never waits for company: what is there when the thread turns to it, runs.
        let at_once = Limits { timeout: Duration::ZERO, ..limits.clone() };
        let own = match servable.concurrency() {
            Concurrency::Elsewhere(limit) => Some(OwnThreads::new(limit)),
            Concurrency::Inline | Concurrency::Threads(_) => None,
        };
        Arc::new(Queue {
            servable,
            own,
            batching,
            inline: (0..io_threads).map(|_| Mutex::new(Former::new(at_once.clone()))).collect(),
            shared: Mutex::new(Shared { former: Former::new(limits), running: 0, place: Place::Nowhere }),
            takes: AtomicU64::new(1),
            metrics,
        })
    }

    pub fn servable(&self) -> &Arc<Servable> {
        &self.servable
    }

    /// The threads that run it, where those are not the ones that all models share.
    pub(super) fn own_threads(&self) -> Option<&OwnThreads> {
        self.own.as_ref()
    }

    pub fn batching(&self) -> Option<&Batching> {
        self.batching.as_ref()
    }

    /// Whether so many rows are run where the socket lives: the run is known to be short, and nothing asks to wait.
    pub fn runs_inline(&self, rows: usize) -> bool {
        self.servable.concurrency() == Concurrency::Inline
            && self.batching.as_ref().is_none_or(|batching| batching.limits.timeout.is_zero())
            && self.servable.pace().estimate(rows).is_some_and(|time| time <= INLINE_LIMIT)
    }

    /// Runs one request here and now.
    pub fn run_alone(&self, task: &Task) -> Result<Answer> {
        self.metrics.batch(task.row_count(), [Duration::ZERO]);
        self.run_unjoined(task)
    }

    /// Puts a request into the queue of an I/O thread. True when that queue was empty before.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the queue is full.
    pub fn push_inline(&self, thread: usize, mut task: Task) -> Result<(bool, oneshot::Receiver<Result<Answer>>)> {
        let receiver = self.open(&mut task);
        let mut former = lock(&self.inline[thread]);
        let was_empty = former.is_empty();
        let now = task.since;
        former.push(task, now).map_err(|_| queue_full())?;
        self.metrics.queued(1);
        Ok((was_empty, receiver))
    }

    /// Runs everything that waits for an I/O thread.
    pub fn run_inline(&self, thread: usize) {
        loop {
            let mut stale = Vec::new();
            let taken = self.take(&mut lock(&self.inline[thread]), &mut stale);
            self.dismiss(stale);
            let Take::Batch(batch) = taken else { return };
            self.run_batch(batch);
        }
    }

    /// Puts a request into the queue of the engine threads. True when these have to be told.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the queue is full.
    pub(super) fn push_shared(&self, mut task: Task) -> Result<(bool, oneshot::Receiver<Result<Answer>>)> {
        let receiver = self.open(&mut task);
        let mut shared = lock(&self.shared);
        let now = task.since;
        shared.former.push(task, now).map_err(|_| queue_full())?;
        self.metrics.queued(1);
        let full = self.batching.as_ref().is_some_and(|batching| shared.former.rows() >= batching.limits.max_rows);
        let tell = match shared.place {
            Place::Nowhere => shared.running < self.limit(),
            Place::Timer => full,
            Place::Ready => false,
        };
        if tell {
            shared.place = Place::Ready;
        }
        Ok((tell, receiver))
    }

    /// One engine thread's turn: runs a batch if one is due, else says when it will be. `again` puts the queue back
    /// into the line; it is called as soon as another thread may take the next batch.
    pub(super) fn turn(&self, again: &dyn Fn()) -> Option<Instant> {
        let mut stale = Vec::new();
        let mut shared = lock(&self.shared);
        let taken = self.take(&mut shared.former, &mut stale);
        let wait = match &taken {
            Take::Wait(due) => Some(*due),
            Take::Batch(_) | Take::Empty => None,
        };
        shared.place = if wait.is_some() { Place::Timer } else { Place::Nowhere };
        let Take::Batch(batch) = taken else {
            drop(shared);
            self.dismiss(stale);
            return wait;
        };
        shared.running += 1;
        let more = self.stand_in_line(&mut shared);
        drop(shared);
        if more {
            again();
        }
        self.dismiss(stale);
        self.run_batch(batch);
        let mut shared = lock(&self.shared);
        shared.running -= 1;
        let more = self.stand_in_line(&mut shared);
        drop(shared);
        if more {
            again();
        }
        None
    }

    fn take(&self, former: &mut Former<Task>, stale: &mut Vec<Task>) -> Take<Task> {
        if let Some(batching) = self.batching.as_ref().filter(|batching| batching.adaptive) {
            let max_rows = if self.servable.pace().gains_from_batches() {
                batching.limits.max_rows
            } else if self.takes.fetch_add(1, Ordering::Relaxed).is_multiple_of(EXPLORE_EVERY) {
                batching.limits.max_rows.min(EXPLORE_ROWS)
            } else {
                1
            };
            former.set_max_rows(max_rows);
        }
        former.take(Instant::now(), stale)
    }

    /// The timer of this queue has fired: true when it has to go to the ready line.
    pub(super) fn timer_fired(&self) -> bool {
        let mut shared = lock(&self.shared);
        let due = shared.place == Place::Timer;
        if due {
            shared.place = Place::Ready;
        }
        due
    }

    /// True when the queue has to go back into the line (which the caller does without holding the lock).
    fn stand_in_line(&self, shared: &mut Shared) -> bool {
        let more = !shared.former.is_empty() && shared.place == Place::Nowhere && shared.running < self.limit();
        if more {
            shared.place = Place::Ready;
        }
        more
    }

    fn limit(&self) -> usize {
        match self.servable.concurrency() {
            Concurrency::Inline => usize::MAX,
            Concurrency::Threads(limit) | Concurrency::Elsewhere(limit) => limit,
        }
    }

    fn open(&self, task: &mut Task) -> oneshot::Receiver<Result<Answer>> {
        let (sender, receiver) = oneshot::channel();
        task.reply = Some(sender);
        task.pad = self.pads();
        receiver
    }

    fn pads(&self) -> bool {
        self.batching.as_ref().is_some_and(|batching| batching.pad)
    }

    /// Answers those whose time is over; nobody hears the answer to those whose client has gone.
    fn dismiss(&self, stale: Vec<Task>) {
        for task in stale {
            self.metrics.queued(-1);
            task.answer(Err(timed_out()));
        }
    }

    fn run_batch(&self, tasks: Vec<Task>) {
        let now = Instant::now();
        let rows: usize = tasks.iter().map(Task::row_count).sum();
        self.metrics.queued(-(tasks.len() as i64));
        let waits = || tasks.iter().map(|task| now.saturating_duration_since(task.since));
        self.metrics.batch(rows, waits());
        match &self.batching {
            Some(_) if tasks[0].rows.is_none() => self.metrics.unjoinable(),
            Some(batching) => {
                let filled = (!batching.allowed_sizes.is_empty()).then(|| self.padded_size(rows));
                self.metrics.joined(rows, filled, waits());
            }
            None => {}
        }
        let alone = tasks.len() == 1 && (tasks[0].rows.is_none() || self.padded_size(rows) == rows);
        let joined = if alone { None } else { self.run_joined(&tasks, rows).ok() };
        match joined {
            Some(answers) => tasks.into_iter().zip(answers).for_each(|(task, answer)| task.answer(Ok(answer))),
            // One request's bad values may have failed the whole batch: alone, only the guilty one fails.
            None => tasks.into_iter().for_each(|task| {
                let answer = self.run_unjoined(&task);
                task.answer(answer);
            }),
        }
    }

    fn run_unjoined(&self, task: &Task) -> Result<Answer> {
        let wanted = || !task.abandoned();
        self.run(task, &task.inputs, task.row_count(), task.deadline, &wanted).map(|outputs| Answer { outputs })
    }

    fn run_joined(&self, tasks: &[Task], rows: usize) -> Result<Vec<Answer>> {
        let first = &tasks[0];
        let total = self.padded_size(rows);
        let inputs = (0..first.inputs.len())
            .map(|index| join(&tasks.iter().map(|task| &task.inputs[index]).collect::<Vec<_>>(), total, self.pads()))
            .collect::<Result<Vec<_>>>()?;
        // The batch is of use as long as anyone waits for it.
        let deadline = tasks.iter().map(|task| task.deadline).collect::<Option<Vec<_>>>();
        let wanted = || tasks.iter().any(|task| !task.abandoned());
        let outputs = self.run(first, &inputs, total, deadline.and_then(|all| all.into_iter().max()), &wanted)?;
        let counts: Vec<usize> = tasks.iter().map(Task::row_count).collect();
        Ok(split(&outputs, &counts, total)?.into_iter().map(|outputs| Answer { outputs }).collect())
    }

    fn padded_size(&self, rows: usize) -> usize {
        let sizes = self.batching.as_ref().map_or(&[][..], |batching| &batching.allowed_sizes);
        sizes.iter().copied().find(|&size| size >= rows).unwrap_or(rows)
    }

    fn run(
        &self,
        task: &Task,
        inputs: &[Tensor],
        rows: usize,
        deadline: Option<Instant>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<Tensor>> {
        let call = Call { signature: &task.signature, inputs, outputs: &task.outputs, deadline, wanted };
        let start = Instant::now();
        let outputs = catch_unwind(AssertUnwindSafe(|| self.servable.run(&call, rows)))
            .unwrap_or_else(|_| Err(Error::internal("The engine failed inside")));
        self.metrics.run(task.api, start.elapsed());
        outputs
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn queue_full() -> Error {
    Error::new(
        Code::Unavailable,
        "The batch scheduling queue to which this task was submitted is full; try again later",
    )
    .with_reason("queue_full")
    .with_retry_after(Duration::from_secs(1))
}

/// The answer to a request whose time ran out.
pub fn timed_out() -> Error {
    Error::new(Code::DeadlineExceeded, "Timed out waiting for notification").with_reason("deadline")
}

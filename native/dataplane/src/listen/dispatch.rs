//! From a request that is understood to the engine and back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Core, local};
use crate::batch::Task;
use crate::batch::join::unite;
use crate::batch::queue::{Answer, Batching, timed_out};
use crate::metrics::{Api, Protocol, UNKNOWN_MODEL};
use crate::request_log::Source;
use crate::route::Version;
use crate::wire::{Signature, Text};
use crate::{Code, Error, Result};

/// Runs one Predict on its version, as [`infer`], and logs it where it is sampled.
pub(super) async fn predict(core: &Core, version: &Arc<Version>, task: Task) -> Result<Answer> {
    version.watch(&task);
    let Some(log) = version.sampled() else { return infer(core, version, task).await };
    let source = Source::new(version.number, &task.signature);
    let (inputs, wanted) = (task.inputs.clone(), task.outputs.clone());
    let answer = infer(core, version, task).await?;
    log.predict(source, inputs, wanted, &answer.outputs);
    Ok(answer)
}

/// Runs one request on its version, alone or in company.
pub(super) async fn infer(core: &Core, version: &Arc<Version>, task: Task) -> Result<Answer> {
    check_rows(core, &task)?;
    let queue = &version.queue;
    if let Some(batching) = queue.batching().filter(|batching| task.row_count() > batching.limits.max_rows) {
        check_request_rows(batching, &task)?;
        if batching.split {
            return infer_parts(core, version, &task, batching.limits.max_rows).await;
        }
    }
    let deadline = task.deadline;
    let answer = if queue.runs_inline(task.row_count()) {
        match queue.batching() {
            None => return queue.run_alone(&task),
            // Run as soon as this thread turns to it: not worth a timer.
            Some(_) => local::submit(queue, task)?.await,
        }
    } else {
        in_time(deadline, core.pool.submit(queue, task)?).await?
    };
    answer.unwrap_or_else(|_| Err(stopped()))
}

type Answered = std::result::Result<Result<Answer>, oneshot::error::RecvError>;

async fn in_time(deadline: Option<Instant>, receiver: oneshot::Receiver<Result<Answer>>) -> Result<Answered> {
    match deadline {
        None => Ok(receiver.await),
        Some(deadline) => tokio::time::timeout_at(deadline.into(), receiver).await.map_err(|_| timed_out()),
    }
}

/// Runs a request that is larger than a batch in parts, side by side where engine threads are free.
async fn infer_parts(core: &Core, version: &Arc<Version>, task: &Task, max_rows: usize) -> Result<Answer> {
    let parts = task.parts(max_rows);
    let rows: Vec<usize> = parts.iter().map(Task::row_count).collect();
    let submit = |part| core.pool.submit(&version.queue, part);
    let receivers = parts.into_iter().map(submit).collect::<Result<Vec<_>>>()?;
    let mut outputs = Vec::with_capacity(rows.len());
    for receiver in receivers {
        outputs.push(in_time(task.deadline, receiver).await?.unwrap_or_else(|_| Err(stopped()))?.outputs);
    }
    unite(&outputs, &rows).map(|outputs| Answer { outputs })
}

fn check_request_rows(batching: &Batching, task: &Task) -> Result<()> {
    let (rows, limit) = (task.row_count(), batching.max_request_rows);
    if limit > 0 && rows > limit {
        return Err(Error::invalid(format!("Task size {rows} is larger than maximum input batch size {limit}"))
            .with_reason("too_many_rows"));
    }
    Ok(())
}

fn check_rows(core: &Core, task: &Task) -> Result<()> {
    let limit = core.settings.max_rows;
    if limit > 0 && task.row_count() > limit {
        return Err(Error::invalid(format!(
            "The request has {} rows; the limit is {limit} (setting max_rows)",
            task.row_count()
        ))
        .with_reason("too_many_rows")
        .with_http(413));
    }
    Ok(())
}

/// The signature that an OIP request names; the default one for an empty name, or the only one there is.
///
/// # Errors
/// `NOT_FOUND`, naming the signatures that there are.
pub(super) fn signature(version: &Version, name: &str) -> Result<Arc<Signature>> {
    let signatures = version.servable().signatures();
    let only = if name.is_empty() && signatures.0.len() == 1 { signatures.0.first() } else { None };
    signatures.get(name).or(only).cloned().ok_or_else(|| {
        let known: Vec<&str> = signatures.iter().map(|signature| signature.name.as_str()).collect();
        Error::new(Code::NotFound, format!("There is no signature '{name}'; there are: {}", known.join(", ")))
            .with_reason("signature_not_found")
    })
}

/// Bytes that are read or written on the thread that owns the socket: a fraction of a millisecond's work.
const AT_ONCE: usize = 256 << 10;

/// Reads or writes `bytes` bytes: here where that is quick, else on a thread apart, so that one client's large body does
/// not keep the others on this thread waiting.
///
/// # Errors
/// Those of the work.
pub(super) async fn apart<T, W>(bytes: usize, work: W) -> Result<T>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T> + Send + 'static,
{
    if bytes <= AT_ONCE {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Error::internal("The request could not be read")))
}

/// The answer while the server goes down.
pub(super) fn stopped() -> Error {
    Error::new(Code::Unavailable, "The server is stopping")
        .with_reason("stopping")
        .with_retry_after(Duration::from_secs(1))
}

/// What is known about a request when it is answered, for metrics and the access log.
pub(super) struct Account {
    pub(super) protocol: Protocol,
    pub(super) started: Instant,
    pub(super) model: Option<Text>,
    pub(super) signature: Option<Arc<Signature>>,
    pub(super) version: Option<Arc<Version>>,
    /// What a model is asked for: only such requests are counted by model.
    api: Option<Api>,
}

impl Account {
    pub(super) fn new(protocol: Protocol) -> Account {
        let started = Instant::now();
        Account { protocol, started, model: None, signature: None, version: None, api: None }
    }

    pub(super) fn predicts(&mut self) {
        self.asks(Api::Predict);
    }

    pub(super) fn asks(&mut self, api: Api) {
        self.api = Some(api);
    }

    /// Counts the answered request.
    pub(super) fn close(&self, core: &Core, code: Code) {
        let Some(api) = self.api else { return };
        match &self.version {
            Some(version) => {
                let signature = self.signature.as_ref().map_or("", |signature| signature.name.as_str());
                let now = Instant::now();
                version.metrics.request(signature, api, self.protocol, code, now.duration_since(self.started));
                version.metrics.used(now);
            }
            None => {
                let routes = core.router.routes();
                let model = self.model.as_ref().and_then(|name| routes.known(name.as_str())).unwrap_or(UNKNOWN_MODEL);
                core.metrics.unrouted(model, code);
            }
        }
    }
}

//! A reload that a client asks for: handed to whoever decides what is served, away from the threads that own sockets.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use super::dispatch::stopped;
use crate::{Code, Error, Result};

/// Takes over a serialized `ReloadConfigRequest`; may take as long as loading models does.
pub type ReloadHandler = Arc<dyn Fn(Bytes) -> Result<()> + Send + Sync>;

/// Runs the handler for one request at a time, on a thread of its own.
pub(super) struct Reloads {
    handler: Option<ReloadHandler>,
    turn: Arc<Semaphore>,
}

impl Reloads {
    pub(super) fn new(handler: Option<ReloadHandler>) -> Reloads {
        Reloads { handler, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Waits for its turn, then for the handler. A client that goes away while it waits costs nothing; a reload that has
    /// begun is finished.
    ///
    /// # Errors
    /// Those of the handler; `UNIMPLEMENTED` where there is none.
    pub(super) async fn run(&self, request: Bytes) -> Result<()> {
        let Some(handler) = self.handler.clone() else {
            return Err(Error::new(
                Code::Unimplemented,
                "This server has no list of models that could be replaced: its models follow their folders",
            )
            .with_reason("no_model_list"));
        };
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| stopped())?;
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            let done = handler(request);
            drop(turn);
            // Nobody may be waiting any more.
            let _ = sender.send(done);
        };
        std::thread::Builder::new()
            .name("servable-reload".to_owned())
            .spawn(work)
            .map_err(|error| Error::internal(format!("No thread can be started for the reload: {error}")))?;
        receiver.await.unwrap_or_else(|_| Err(Error::internal("The reload failed inside")))
    }
}

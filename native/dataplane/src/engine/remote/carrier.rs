//! The thread that carries the calls of all remote engines, and how an engine thread waits for one.

use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::batch::queue::timed_out;
use crate::{Code, Error, Result};

/// How often a waiting thread looks whether its answer is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// Runs `work` on the carrier and waits for what it gives, until the deadline and as long as it is `wanted`. Work that
/// nobody waits for any more is dropped.
///
/// # Errors
/// Those of the work; `DEADLINE_EXCEEDED`; `CANCELLED` once it is not wanted.
pub(super) fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
    deadline: Option<Instant>,
    wanted: &dyn Fn() -> bool,
) -> Result<T> {
    let (sender, receiver) = sync_channel(1);
    let (waiting, mut given_up) = oneshot::channel::<()>();
    carrier()?.spawn(async move {
        let limit = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            result = work => result,
            () = limit => Err(timed_out()),
            _ = &mut given_up => return,
        };
        let _ = sender.send(result);
    });
    let result = loop {
        match receiver.recv_timeout(LOOK) {
            Ok(result) => break result,
            Err(RecvTimeoutError::Timeout) if wanted() => {}
            Err(RecvTimeoutError::Timeout) => break Err(Error::new(Code::Cancelled, "The client has gone away")),
            Err(RecvTimeoutError::Disconnected) => break Err(Error::internal("A call to a replica failed inside")),
        }
    };
    drop(waiting);
    result
}

/// One for the process, however many replicas there are: it only moves bytes.
fn carrier() -> Result<&'static Handle> {
    static CARRIER: OnceLock<Result<Handle>> = OnceLock::new();
    CARRIER.get_or_init(|| start().map_err(|error| Error::internal(error.to_string()))).as_ref().map_err(Error::clone)
}

fn start() -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name("servable-remote".to_owned()).spawn(move || {
        crate::priority::prompt();
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Dropped(Arc<AtomicBool>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn work_that_nobody_wants_is_dropped() {
        let gone = Arc::new(AtomicBool::new(false));
        let guard = Dropped(gone.clone());
        let endless = async move {
            let _guard = guard;
            std::future::pending::<Result<()>>().await
        };
        assert_eq!(wait(endless, None, &|| false).unwrap_err().code, Code::Cancelled);
        // The carrier has one thread: what is asked of it next runs after it has dropped the work.
        wait(
            async {
                tokio::task::yield_now().await;
                Ok(())
            },
            None,
            &|| true,
        )
        .unwrap();
        assert!(gone.load(Ordering::SeqCst));
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        let deadline = Instant::now() + Duration::from_millis(5);
        let error = wait(std::future::pending::<Result<()>>(), Some(deadline), &|| true).unwrap_err();
        assert_eq!(error, timed_out());
    }
}

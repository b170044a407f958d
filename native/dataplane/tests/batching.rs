//! Queues and engine threads, with an engine that the test holds at a gate: no clock, no sleep.

mod support;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use dataplane::batch::pool::Pool;
use dataplane::batch::queue::{Answer, Batching};
use dataplane::batch::{Limits, Queue, Task};
use dataplane::engine::Concurrency;
use dataplane::metrics::Metrics;
use dataplane::{Code, Result};
use support::{AddOne, floats};
use tokio::sync::oneshot::Receiver;

fn batching(max_rows: usize) -> Batching {
    let limits = Limits { max_rows, timeout: Duration::ZERO, max_queued_rows: 100 };
    Batching { limits, allowed_sizes: vec![], pad: false, adaptive: false, max_request_rows: 0, split: false }
}

fn queue(engine: AddOne, batching: Option<Batching>, max_queued_rows: usize) -> Arc<Queue> {
    let metrics = Metrics::default().version("m", 1, std::iter::empty()).batch();
    Queue::new(engine.servable(), batching, max_queued_rows, 1, metrics)
}

fn task(queue: &Queue, values: &[f32], deadline: Option<Instant>) -> Task {
    let signature = queue.servable().signatures().get("").unwrap().clone();
    Task::new(signature, vec![floats(values)], [0].into_iter().collect(), deadline)
}

fn answer(receiver: Receiver<Result<Answer>>) -> Result<Vec<f32>> {
    let answer = receiver.blocking_recv().expect("every request is answered")?;
    Ok(answer.outputs[0].values::<f32>().unwrap().to_vec())
}

#[test]
fn what_waits_while_the_engine_is_busy_is_one_batch_and_everyone_gets_their_own_rows() {
    let (open, gate) = channel();
    let (engine, seen) = AddOne::new(Concurrency::Threads(1));
    let queue = queue(engine.behind(gate), Some(batching(8)), 100);
    let pool = Pool::start(2).unwrap();
    let first = pool.submit(&queue, task(&queue, &[1.0], None)).unwrap();
    // The first run may or may not have begun when the others come: either way they end up in few runs.
    let others: Vec<_> =
        (2..6).map(|value| pool.submit(&queue, task(&queue, &[value as f32, 0.5], None)).unwrap()).collect();
    (0..9).for_each(|_| open.send(()).unwrap());
    assert_eq!(answer(first), Ok(vec![2.0]));
    for (value, other) in (2..6).zip(others) {
        assert_eq!(answer(other), Ok(vec![value as f32 + 1.0, 1.5]));
    }
    let runs = seen.runs.lock().unwrap().clone();
    assert!(runs.len() <= 3 && runs.iter().sum::<usize>() == 9 && runs.iter().all(|&rows| rows <= 8), "{runs:?}");
    pool.stop(Instant::now() + Duration::from_secs(10));
}

#[test]
fn one_bad_request_fails_alone() {
    let (open, gate) = channel();
    let (engine, _) = AddOne::new(Concurrency::Threads(1));
    let queue = queue(engine.behind(gate), Some(batching(8)), 100);
    let pool = Pool::start(1).unwrap();
    let receivers: Vec<_> =
        [[1.0], [-1.0], [3.0]].iter().map(|values| pool.submit(&queue, task(&queue, values, None)).unwrap()).collect();
    (0..9).for_each(|_| open.send(()).unwrap());
    let answers: Vec<_> = receivers.into_iter().map(answer).collect();
    assert_eq!(answers[0], Ok(vec![2.0]));
    assert_eq!(answers[1].as_ref().unwrap_err().code, Code::InvalidArgument);
    assert_eq!(answers[2], Ok(vec![4.0]));
    pool.stop(Instant::now() + Duration::from_secs(10));
}

#[test]
fn a_fault_inside_the_engine_is_an_error_of_that_request_and_the_thread_lives_on() {
    let (engine, _) = AddOne::new(Concurrency::Threads(1));
    let queue = queue(engine, None, 100);
    let pool = Pool::start(1).unwrap();
    let broken = pool.submit(&queue, task(&queue, &[666.0], None)).unwrap();
    assert_eq!(answer(broken).unwrap_err().code, Code::Internal);
    let good = pool.submit(&queue, task(&queue, &[1.0], None)).unwrap();
    assert_eq!(answer(good), Ok(vec![2.0]));
    pool.stop(Instant::now() + Duration::from_secs(10));
}

#[test]
fn a_request_that_nobody_waits_for_is_never_run() {
    let (open, gate) = channel();
    let (engine, seen) = AddOne::new(Concurrency::Threads(1));
    let queue = queue(engine.behind(gate), None, 100);
    let pool = Pool::start(1).unwrap();
    let first = pool.submit(&queue, task(&queue, &[1.0], None)).unwrap();
    let gone = pool.submit(&queue, task(&queue, &[0.0, 0.0], None)).unwrap();
    let last = pool.submit(&queue, task(&queue, &[1.0, 2.0, 3.0], None)).unwrap();
    drop(gone);
    (0..3).for_each(|_| open.send(()).unwrap());
    assert_eq!(answer(first).unwrap().len(), 1);
    assert_eq!(answer(last).unwrap().len(), 3);
    assert_eq!(*seen.runs.lock().unwrap(), [1, 3]);
    pool.stop(Instant::now() + Duration::from_secs(10));
}

#[test]
fn a_request_whose_time_is_over_is_answered_without_a_run() {
    let (open, gate) = channel();
    let (engine, seen) = AddOne::new(Concurrency::Threads(1));
    let queue = queue(engine.behind(gate), None, 100);
    let pool = Pool::start(1).unwrap();
    let late = pool.submit(&queue, task(&queue, &[1.0, 2.0], Some(Instant::now()))).unwrap();
    assert_eq!(answer(late).unwrap_err().code, Code::DeadlineExceeded);
    open.send(()).unwrap();
    let good = pool.submit(&queue, task(&queue, &[1.0], None)).unwrap();
    assert_eq!(answer(good), Ok(vec![2.0]));
    assert_eq!(*seen.runs.lock().unwrap(), [1]);
    pool.stop(Instant::now() + Duration::from_secs(10));
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let (open, gate) = channel();
    let (engine, _) = AddOne::new(Concurrency::Threads(1));
    let queue = queue(engine.behind(gate), None, 2);
    let pool = Pool::start(1).unwrap();
    let mut taken = Vec::new();
    let refused = loop {
        match pool.submit(&queue, task(&queue, &[1.0], None)) {
            Ok(receiver) => taken.push(receiver),
            Err(error) => break error,
        }
    };
    assert_eq!((refused.code, refused.reason), (Code::Unavailable, "queue_full"));
    assert!(refused.retry_after.is_some());
    assert!(taken.len() <= 3, "{} were taken", taken.len());
    taken.iter().for_each(|_| open.send(()).unwrap());
    taken.into_iter().for_each(|receiver| assert!(answer(receiver).is_ok()));
    pool.stop(Instant::now() + Duration::from_secs(10));
}

#[test]
fn a_batch_is_filled_up_to_an_allowed_size_and_the_filling_is_not_seen() {
    let (engine, seen) = AddOne::new(Concurrency::Threads(1));
    let queue = queue(engine, Some(Batching { allowed_sizes: vec![4, 8], ..batching(8) }), 100);
    let pool = Pool::start(1).unwrap();
    let receiver = pool.submit(&queue, task(&queue, &[1.0, 2.0, 3.0], None)).unwrap();
    assert_eq!(answer(receiver), Ok(vec![2.0, 3.0, 4.0]));
    assert_eq!(*seen.runs.lock().unwrap(), [4]);
    pool.stop(Instant::now() + Duration::from_secs(10));
}

#[test]
fn an_unfilled_batch_runs_when_its_time_is_over() {
    let (engine, seen) = AddOne::new(Concurrency::Threads(1));
    let limits = Limits { max_rows: 4, timeout: Duration::from_millis(5), max_queued_rows: 100 };
    let queue = queue(engine, Some(Batching { limits, ..batching(4) }), 100);
    let pool = Pool::start(2).unwrap();
    let start = Instant::now();
    let receiver = pool.submit(&queue, task(&queue, &[1.0], None)).unwrap();
    assert_eq!(answer(receiver), Ok(vec![2.0]));
    assert!(start.elapsed() >= Duration::from_millis(5));
    assert_eq!(*seen.runs.lock().unwrap(), [1]);
    pool.stop(Instant::now() + Duration::from_secs(10));
}

#[test]
fn only_short_runs_without_a_timeout_are_for_the_threads_with_sockets() {
    let (engine, _) = AddOne::new(Concurrency::Inline);
    let unmeasured = queue(engine, Some(batching(8)), 100);
    assert!(!unmeasured.runs_inline(1));
    unmeasured.servable().pace().note(1, Duration::from_micros(10));
    assert!(unmeasured.runs_inline(1));
    assert!(!unmeasured.runs_inline(1 << 16), "many rows take long");

    let (engine, _) = AddOne::new(Concurrency::Threads(4));
    let on_threads = queue(engine, None, 100);
    on_threads.servable().pace().note(1, Duration::from_micros(10));
    assert!(!on_threads.runs_inline(1));
}

#[test]
fn what_waits_for_a_socket_thread_is_run_there_in_one_go() {
    let (engine, seen) = AddOne::new(Concurrency::Inline);
    let queue = queue(engine, Some(batching(8)), 100);
    let (first_was_empty, first) = queue.push_inline(0, task(&queue, &[1.0], None)).unwrap();
    let (second_was_empty, second) = queue.push_inline(0, task(&queue, &[2.0], None)).unwrap();
    assert!(first_was_empty && !second_was_empty);
    queue.run_inline(0);
    assert_eq!((answer(first), answer(second)), (Ok(vec![2.0]), Ok(vec![3.0])));
    assert_eq!(*seen.runs.lock().unwrap(), [2]);
}

//! The engine `remote` against a real server of ours: over a Unix socket and over TCP.

mod support;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use dataplane::engine::remote::RemoteEngine;
use dataplane::engine::{Call, Concurrency, Engine};
use dataplane::listen::Server;
use dataplane::servable::Servable;
use dataplane::wire::signature::SignatureDescription;
use dataplane::wire::{Signature, Tensor};
use dataplane::{Code, Result};
use serde_json::{Value, json};
use support::{AddOne, Seen, floats};

const LONG: Duration = Duration::from_secs(20);

/// A server with one model `m`, over TCP and on a socket of its own.
struct There {
    server: Server,
    socket: PathBuf,
}

impl There {
    fn start(name: &str, servable: Arc<Servable>, more: &Value) -> There {
        let socket = std::env::temp_dir().join(format!("servable-{}-{name}.sock", std::process::id()));
        let mut settings = json!({"rest_address": "", "grpc_address": "127.0.0.1:0", "grpc_socket_path": socket,
            "io_threads": 1, "engine_threads": 2});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let server = Server::start(serde_json::from_value(settings).unwrap(), None, None).unwrap();
        let snapshot = json!({"ready": true, "models": {"m": {"default": 1, "versions": {"1": {"servable": "s"}}}}});
        let servables = HashMap::from([("s".to_owned(), servable)]);
        server.apply(serde_json::from_value(snapshot).unwrap(), &servables).unwrap();
        There { server, socket }
    }

    fn unix(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    fn tcp(&self) -> String {
        format!("http://{}", self.server.addresses().grpc.as_ref().unwrap())
    }
}

fn signature() -> Signature {
    AddOne::new(Concurrency::Inline).0.signatures().0[0].as_ref().clone()
}

fn remote(address: &str, more: &Value) -> RemoteEngine {
    let mut options = json!({"address": address, "model": "m", "version": "1"});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let described = vec![SignatureDescription::from(&signature())];
    RemoteEngine::new(serde_json::from_value(options).unwrap(), described, Box::new(|| ())).unwrap()
}

fn ask(engine: &RemoteEngine, values: &[f32]) -> Result<Vec<Tensor>> {
    ask_until(engine, values, Some(Instant::now() + LONG), &|| true)
}

fn ask_until(
    engine: &RemoteEngine,
    values: &[f32],
    deadline: Option<Instant>,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<Tensor>> {
    let signature = engine.signatures().0[0].clone();
    engine.run(&Call { signature: &signature, inputs: &[floats(values)], outputs: &[0], deadline, wanted })
}

fn inline() -> (Arc<Servable>, Arc<Seen>) {
    let (engine, seen) = AddOne::new(Concurrency::Inline);
    (engine.servable(), seen)
}

fn eventually(condition: impl Fn() -> bool) -> bool {
    let end = Instant::now() + LONG;
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn answers_come_over_either_kind_of_socket() {
    let there = There::start("answers", inline().0, &json!({}));
    for address in [there.unix(), there.tcp()] {
        let engine = remote(&address, &json!({}));
        assert_eq!(ask(&engine, &[1., 2.]).unwrap(), [floats(&[2., 3.])]);
        let many: Vec<f32> = (0..300_000).map(|value| (value % 500) as f32).collect();
        let more: Vec<f32> = many.iter().map(|value| value + 1.0).collect();
        assert_eq!(ask(&engine, &many).unwrap(), [floats(&more)], "parts and chunks are put together");
    }
}

#[test]
fn calls_share_a_connection_and_do_not_wait_for_each_other() {
    let (open, gate) = channel();
    let (engine, seen) = AddOne::new(Concurrency::Threads(2));
    let there = There::start("many", engine.behind(gate).servable(), &json!({}));
    let engine = remote(&there.unix(), &json!({}));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|value| {
                let engine = &engine;
                scope.spawn(move || ask(engine, &[value as f32]))
            })
            .collect();
        (0..8).for_each(|_| open.send(()).unwrap());
        for (value, call) in calls.into_iter().enumerate() {
            assert_eq!(call.join().unwrap().unwrap(), [floats(&[value as f32 + 1.0])]);
        }
    });
    assert_eq!(seen.runs.lock().unwrap().len(), 8);
}

#[test]
fn errors_keep_code_and_message() {
    let there = There::start("errors", inline().0, &json!({}));
    let engine = remote(&there.unix(), &json!({}));
    let error = ask(&engine, &[-1.]).unwrap_err();
    assert_eq!((error.code, &*error.message), (Code::InvalidArgument, "Negative numbers are refused"));
    let stranger = remote(&there.unix(), &json!({"model": "other"}));
    assert_eq!(ask(&stranger, &[1.]).unwrap_err().code, Code::NotFound);
}

#[test]
fn a_server_that_wants_a_token_refuses_a_stranger() {
    let there = There::start("tokens", inline().0, &json!({"tokens": []}));
    for options in [json!({}), json!({"token": "svt_abc_def"})] {
        assert_eq!(ask(&remote(&there.tcp(), &options), &[1.]).unwrap_err().code, Code::Unauthenticated);
    }
}

#[test]
fn messages_over_the_limit_are_refused_in_both_directions() {
    let there = There::start("limits", inline().0, &json!({"max_body_bytes": 1000}));
    let engine = remote(&there.unix(), &json!({"max_message_bytes": 2000}));
    let error = ask(&engine, &[0.; 1000]).unwrap_err();
    assert_eq!((error.code, error.reason), (Code::ResourceExhausted, "message_too_large"));
    assert_eq!(ask(&engine, &[0.; 400]).unwrap_err().code, Code::ResourceExhausted, "the server's own limit");
    assert!(ask(&engine, &[0.; 100]).is_ok());
}

#[test]
fn a_deadline_holds_here_and_there() {
    let (open, gate) = channel();
    let (engine, seen) = AddOne::new(Concurrency::Threads(1));
    let there = There::start("deadline", engine.behind(gate).servable(), &json!({}));
    let engine = remote(&there.unix(), &json!({}));
    let error = ask_until(&engine, &[1.], Some(Instant::now() + Duration::from_millis(30)), &|| true).unwrap_err();
    assert_eq!((error.code, &*error.message), (Code::DeadlineExceeded, "Timed out waiting for notification"));
    // One that waits behind the first is dropped there when its time is over: it never runs.
    ask_until(&engine, &[2., 2.], Some(Instant::now() + Duration::from_millis(30)), &|| true).unwrap_err();
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert_eq!(ask(&engine, &[3., 3., 3.]).unwrap(), [floats(&[4., 4., 4.])]);
    assert_eq!(*seen.runs.lock().unwrap(), [1, 3]);
}

#[test]
fn a_call_that_nobody_wants_any_more_is_given_up_there() {
    let (open, gate) = channel();
    let (engine, seen) = AddOne::new(Concurrency::Threads(1));
    let there = There::start("cancel", engine.behind(gate).servable(), &json!({}));
    let engine = remote(&there.unix(), &json!({}));
    let in_flight = |count: &str| there.server.metrics().contains(&format!("servable_in_flight {count}\n"));
    let wanted = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| ask(&engine, &[1.]));
        assert!(eventually(|| in_flight("1")));
        let second = scope.spawn({
            let (engine, wanted) = (&engine, &wanted);
            move || ask_until(engine, &[2., 2.], None, &|| wanted.load(Ordering::SeqCst))
        });
        assert!(eventually(|| in_flight("2")));
        wanted.store(false, Ordering::SeqCst);
        assert_eq!(second.join().unwrap().unwrap_err().code, Code::Cancelled);
        assert!(eventually(|| in_flight("1")), "the other server knows");
        open.send(()).unwrap();
    });
    open.send(()).unwrap();
    ask(&engine, &[3., 3., 3.]).unwrap();
    assert_eq!(*seen.runs.lock().unwrap(), [1, 3], "what was given up never ran");
}

#[test]
fn a_server_that_goes_away_is_unavailable_until_it_is_back() {
    let there = There::start("away", inline().0, &json!({}));
    let engine = remote(&there.unix(), &json!({}));
    ask(&engine, &[1.]).unwrap();
    drop(there);
    let error = ask(&engine, &[1.]).unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Unavailable, "replica_unavailable"));
    assert!(error.retry_after.is_some());
    let _back = There::start("away", inline().0, &json!({}));
    assert!(eventually(|| ask(&engine, &[1.]).is_ok()), "it is connected again");
}

#[test]
fn whoever_made_it_hears_when_it_is_no_longer_used() {
    let told = Arc::new(AtomicBool::new(false));
    let farewell = told.clone();
    let options = serde_json::from_value(json!({"address": "unix:/none", "model": "m"})).unwrap();
    let described = vec![SignatureDescription::from(&signature())];
    let engine = RemoteEngine::new(options, described, Box::new(move || farewell.store(true, Ordering::SeqCst)));
    let servable = Servable::new(Box::new(engine.unwrap()), Duration::ZERO);
    let ended = servable.ended();
    drop(servable);
    assert!(ended.wait(LONG));
    assert!(told.load(Ordering::SeqCst));
}

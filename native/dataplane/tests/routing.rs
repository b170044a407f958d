//! The router: which version answers, what waits during a swap, and when a version is really gone.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dataplane::engine::Concurrency;
use dataplane::metrics::Metrics;
use dataplane::route::{Choice, Router};
use dataplane::servable::Servable;
use dataplane::{Code, Result};
use serde_json::{Value, json};
use support::AddOne;

struct World {
    router: Arc<Router>,
    metrics: Metrics,
}

impl World {
    fn new() -> World {
        World { router: Arc::new(Router::new(1, 2)), metrics: Metrics::default() }
    }

    fn apply(&self, models: &Value, servables: &[(&str, &Arc<Servable>)]) -> Result<()> {
        let snapshot = serde_json::from_value(json!({"ready": true, "models": models})).unwrap();
        let servables: HashMap<String, Arc<Servable>> =
            servables.iter().map(|(key, servable)| ((*key).to_owned(), (*servable).clone())).collect();
        self.router.apply(snapshot, &servables, &self.metrics)
    }

    fn resolve(&self, model: &str, choice: Choice<'_>) -> Result<i64> {
        let found = block_on(self.router.resolve(model, choice, Some(Instant::now())));
        found.map(|version| version.number)
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn servable() -> Arc<Servable> {
    AddOne::new(Concurrency::Inline).0.servable()
}

fn one_version(number: i64) -> Value {
    json!({"m": {"default": number, "versions": {number.to_string(): {"servable": "s"}},
                 "status": [{"version": number, "state": "AVAILABLE"}]}})
}

#[test]
fn latest_numbers_and_labels_lead_to_their_versions() {
    let world = World::new();
    let (old, new) = (servable(), servable());
    let models = json!({"m": {"default": 2, "labels": {"stable": 1, "gone": 9},
        "versions": {"1": {"servable": "old"}, "2": {"servable": "new"}}}});
    world.apply(&models, &[("old", &old), ("new", &new)]).unwrap();
    assert_eq!(world.resolve("m", Choice::Latest), Ok(2));
    assert_eq!(world.resolve("m", Choice::Specific(1)), Ok(1));
    assert_eq!(world.resolve("m", Choice::Label("stable")), Ok(1));
    let message = |choice| world.resolve("m", choice).unwrap_err().message;
    assert_eq!(message(Choice::Specific(5)), "Servable not found for request: Specific(m, 5)");
    assert_eq!(message(Choice::Label("gone")), "Servable not found for request: Specific(m, 9)");
    assert_eq!(message(Choice::Label("no")), "Unrecognized servable version label: no");
    let unknown = world.resolve("x", Choice::Latest).unwrap_err();
    assert_eq!((unknown.code, unknown.message.as_ref()), (Code::NotFound, "Servable not found for request: Latest(x)"));
}

#[test]
fn before_the_first_load_is_over_nothing_is_called_missing() {
    let world = World::new();
    let error = world.resolve("m", Choice::Latest).unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(!error.message.contains("Servable not found"), "clients take that for a server that is up");
}

#[test]
fn a_snapshot_that_contradicts_itself_changes_nothing() {
    let world = World::new();
    let good = servable();
    world.apply(&one_version(1), &[("s", &good)]).unwrap();
    for bad in [
        json!({"m": {"default": 2, "versions": {}}}),
        json!({"m": {"versions": {"2": {"servable": "nowhere"}}}}),
        json!({"m": {"versions": {"two": {"servable": "s"}}}}),
    ] {
        assert!(world.apply(&bad, &[("s", &good)]).is_err(), "{bad}");
    }
    assert_eq!(world.resolve("m", Choice::Latest), Ok(1));
}

#[test]
fn during_a_swap_requests_wait_for_the_new_version() {
    let world = World::new();
    world.apply(&json!({"m": {"hold": true}}), &[]).unwrap();
    let router = world.router.clone();
    let waiting = std::thread::spawn(move || {
        block_on(router.resolve("m", Choice::Latest, Some(Instant::now() + Duration::from_secs(60))))
            .map(|version| version.number)
    });
    let new = servable();
    world.apply(&one_version(2), &[("s", &new)]).unwrap();
    assert_eq!(waiting.join().unwrap(), Ok(2));
}

#[test]
fn a_held_request_ends_with_its_deadline_or_when_the_swap_fails() {
    let world = World::new();
    world.apply(&json!({"m": {"hold": true}}), &[]).unwrap();
    assert_eq!(world.resolve("m", Choice::Latest).unwrap_err().code, Code::DeadlineExceeded);
    let router = world.router.clone();
    let waiting =
        std::thread::spawn(move || block_on(router.resolve("m", Choice::Latest, None)).map(|version| version.number));
    world.apply(&json!({"m": {}}), &[]).unwrap();
    assert_eq!(waiting.join().unwrap().unwrap_err().code, Code::NotFound);
}

#[test]
fn a_request_for_a_model_that_is_loaded_on_demand_is_noted_and_waits() {
    let world = World::new();
    world.apply(&json!({"m": {"hold": true, "on_demand": [3]}}), &[]).unwrap();
    assert_eq!(world.resolve("m", Choice::Specific(4)).unwrap_err().code, Code::NotFound);
    assert_eq!(world.router.demand().wait(Duration::ZERO).unwrap(), Vec::<String>::new());
    assert_eq!(world.resolve("m", Choice::Latest).unwrap_err().code, Code::DeadlineExceeded);
    assert_eq!(world.router.demand().wait(Duration::ZERO).unwrap(), ["m"]);
}

#[test]
fn those_who_wait_for_a_load_that_fails_are_told_why() {
    let world = World::new();
    world.apply(&json!({"m": {"failure": {"message": "no file", "retry_s": 60.0}}}), &[]).unwrap();
    let error = world.resolve("m", Choice::Latest).unwrap_err();
    assert_eq!((error.code, error.message.as_ref()), (Code::Unavailable, "Model m cannot be loaded: no file"));
}

#[test]
fn the_requests_that_have_a_version_are_in_flight() {
    let world = World::new();
    let servable = servable();
    world.apply(&one_version(1), &[("s", &servable)]).unwrap();
    let request = block_on(world.router.resolve("m", Choice::Latest, None)).unwrap();
    assert_eq!(world.router.usage()["m"].in_flight, 1);
    drop(request);
    assert_eq!(world.router.usage()["m"].in_flight, 0);
    assert_eq!(world.router.usage()["m"].idle_s, None);
}

#[test]
fn no_more_requests_are_held_than_allowed() {
    let world = World::new();
    world.apply(&json!({"m": {"hold": true}}), &[]).unwrap();
    let refused = block_on(async {
        let mut held: Vec<_> = (0..3).map(|_| Box::pin(world.router.resolve("m", Choice::Latest, None))).collect();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let polls: Vec<_> = held.iter_mut().map(|future| future.as_mut().poll(&mut context)).collect();
        polls
            .into_iter()
            .filter_map(|poll| match poll {
                std::task::Poll::Ready(Err(error)) => Some(error.code),
                _ => None,
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(refused, [Code::ResourceExhausted]);
}

#[test]
fn a_version_ends_only_when_the_last_request_lets_go_of_it() {
    let world = World::new();
    let (engine, seen) = AddOne::new(Concurrency::Inline);
    let old = engine.servable();
    let ended = old.ended();
    world.apply(&one_version(1), &[("s", &old)]).unwrap();
    drop(old);
    let request = block_on(world.router.resolve("m", Choice::Latest, None)).unwrap();
    let new = servable();
    world.apply(&one_version(2), &[("s", &new)]).unwrap();
    assert!(!ended.wait(Duration::ZERO), "a request still uses it");
    assert_eq!(seen.dropped.load(Ordering::SeqCst), 0);
    drop(request);
    assert!(ended.wait(Duration::from_secs(60)));
    assert_eq!(seen.dropped.load(Ordering::SeqCst), 1);
}

#[test]
fn what_did_not_change_keeps_its_queue() {
    let world = World::new();
    let kept = servable();
    world.apply(&one_version(1), &[("s", &kept)]).unwrap();
    let before = block_on(world.router.resolve("m", Choice::Latest, None)).unwrap();
    world.apply(&one_version(1), &[("s", &kept)]).unwrap();
    let after = block_on(world.router.resolve("m", Choice::Latest, None)).unwrap();
    assert!(Arc::ptr_eq(&before.queue, &after.queue));
    let batched = json!({"m": {"default": 1, "versions": {"1": {"servable": "s", "batching": {"max_rows": 4}}}}});
    world.apply(&batched, &[("s", &kept)]).unwrap();
    let changed = block_on(world.router.resolve("m", Choice::Latest, None)).unwrap();
    assert!(!Arc::ptr_eq(&before.queue, &changed.queue));
}

#[test]
fn a_version_whose_log_changes_keeps_its_queue() {
    let world = World::new();
    let kept = servable();
    let folder = std::env::temp_dir().join("never-written");
    let logged = |sample: f64| {
        let mut models = one_version(1);
        models["m"]["request_log"] =
            json!({"prefix": folder, "sample": sample, "format": "json", "max_bytes": 1 << 20});
        world.apply(&models, &[("s", &kept)]).unwrap();
        block_on(world.router.resolve("m", Choice::Latest, None)).unwrap()
    };
    let (all, same, none) = (logged(1.0), logged(1.0), logged(0.0));
    assert!(Arc::ptr_eq(&all, &same));
    assert!(all.sampled().is_some() && none.sampled().is_none());
    assert!(Arc::ptr_eq(&all.queue, &none.queue));
}

#[test]
fn states_and_memory_are_on_the_metrics_page() {
    let world = World::new();
    let loaded = servable();
    world.apply(&one_version(3), &[("s", &loaded)]).unwrap();
    let mut page = String::new();
    world.router.routes().write_metrics(&mut page);
    assert!(page.contains("servable_model_state{model=\"m\",version=\"3\",state=\"AVAILABLE\"} 1"), "{page}");
    assert!(page.contains("servable_replica_memory_bytes{model=\"m\",version=\"3\",device=\"cpu\"} 7"), "{page}");
}

#[test]
fn a_closed_router_holds_nothing_and_takes_nothing() {
    let world = World::new();
    let servable = servable();
    let ended = servable.ended();
    world.apply(&one_version(1), &[("s", &servable)]).unwrap();
    world.router.close();
    world.apply(&one_version(1), &[("s", &servable)]).unwrap();
    drop(servable);
    assert!(ended.wait(Duration::from_secs(10)));
    assert_eq!(world.resolve("m", Choice::Latest).unwrap_err().code, Code::NotFound);
}

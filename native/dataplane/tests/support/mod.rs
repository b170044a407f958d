//! An engine for tests: adds one to every number, and does what the test asks.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane::engine::{Call, Concurrency, Engine};
use dataplane::servable::Servable;
use dataplane::wire::{DType, Shape, Signature, Signatures, Tensor, TensorSpec};
use dataplane::{Error, Result};

/// What the test sees of the engine.
#[derive(Default)]
pub struct Seen {
    /// Rows of each run, in order.
    pub runs: Mutex<Vec<usize>>,
    pub dropped: AtomicUsize,
}

pub struct AddOne {
    signatures: Signatures,
    concurrency: Concurrency,
    seen: Arc<Seen>,
    /// A run waits for one word from here, when there is a gate.
    gate: Option<Mutex<Receiver<()>>>,
}

impl AddOne {
    pub fn new(concurrency: Concurrency) -> (AddOne, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            tensor_name: name.to_owned(),
            dtype: DType::F32,
            shape: Some(vec![-1]),
        };
        let signature = Signature {
            name: "serving_default".to_owned(),
            method_name: "tensorflow/serving/predict".to_owned(),
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            ..Signature::default()
        };
        let signatures = Signatures(vec![Arc::new(signature)]);
        (AddOne { signatures, concurrency, seen: seen.clone(), gate: None }, seen)
    }

    pub fn behind(mut self, gate: Receiver<()>) -> AddOne {
        self.gate = Some(Mutex::new(gate));
        self
    }

    pub fn servable(self) -> Arc<Servable> {
        Servable::new(Box::new(self), Duration::ZERO)
    }
}

impl Engine for AddOne {
    fn name(&self) -> &'static str {
        "add-one"
    }

    fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    fn run(&self, call: &Call<'_>) -> Result<Vec<Tensor>> {
        if let Some(gate) = &self.gate {
            gate.lock().unwrap().recv().expect("the test opens the gate");
        }
        let x = call.inputs[0].values::<f32>().unwrap();
        self.seen.runs.lock().unwrap().push(x.len());
        if x.iter().any(|value| *value < 0.0) {
            return Err(Error::invalid("Negative numbers are refused"));
        }
        assert!(!x.contains(&666.0), "a fault inside the engine");
        let y = x.iter().map(|value| value + 1.0).collect();
        Ok(vec![Tensor::from_vec(call.inputs[0].shape.clone(), y).unwrap()])
    }

    fn footprint(&self) -> u64 {
        7
    }

    fn concurrency(&self) -> Concurrency {
        self.concurrency
    }
}

impl Drop for AddOne {
    fn drop(&mut self) {
        self.seen.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn floats(values: &[f32]) -> Tensor {
    Tensor::from_vec(Shape::from_slice(&[values.len() as i64]), values.to_vec()).unwrap()
}

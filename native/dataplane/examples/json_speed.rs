//! How long reading and writing JSON takes: `cargo run --release -p dataplane --example json_speed`.
//!
//! Prints the best of many rounds for bodies of 784 numbers, and for answers of ten.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use dataplane::wire::json::{Form, Limits, read_predict, write_predictions};
use dataplane::wire::{DType, Signature, Signatures, Tensor, TensorSpec};

const COUNT: usize = 784;

fn signatures(dtype: DType) -> Signatures {
    let x = TensorSpec { name: "x".into(), tensor_name: "x".into(), dtype, shape: None };
    let name = "serving_default".to_owned();
    Signatures(vec![Arc::new(Signature { name, inputs: vec![x], ..Signature::default() })])
}

/// Numbers that look random, between 0 and 1.
fn random(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    })
}

/// Many bodies, so that branches are not learned by heart.
fn bodies(separator: &str, number: impl Fn(f64, f64) -> String) -> Vec<Vec<u8>> {
    let body = |seed: u64| {
        let mut random = random(seed);
        let mut next = || random.next().unwrap_or_default();
        let numbers: Vec<String> = (0..COUNT).map(|_| number(next(), next())).collect();
        format!("{{\"instances\": [[{}]]}}", numbers.join(separator)).into_bytes()
    };
    (0..64).map(body).collect()
}

/// The shortest time of one call, in nanoseconds, when all calls of a round are measured together.
fn best_time<T>(inputs: &[T], mut call: impl FnMut(&T)) -> f64 {
    let rounds = (0..400).map(|_| {
        let start = Instant::now();
        inputs.iter().for_each(&mut call);
        start.elapsed().as_nanos() as f64 / inputs.len() as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn time_reading(what: &str, dtype: DType, bodies: &[Vec<u8>]) {
    let signatures = signatures(dtype);
    let read = |body: &Vec<u8>| {
        black_box(read_predict(black_box(body), Ok(&signatures), &Limits::default())).expect("the body is right");
    };
    let (same, other) = (best_time(&bodies[..1], read), best_time(bodies, read));
    println!("read  {what:44} {:6} bytes {same:7.0} ns the same {other:7.0} ns others", bodies[0].len());
}

fn time_writing(what: &str, values: Vec<f32>) {
    let tensor = Tensor::from_vec([1, values.len() as i64].as_slice().into(), values).expect("the shape is right");
    let mut out = Vec::new();
    let time = best_time(&[(); 100], |()| {
        out.clear();
        write_predictions(black_box(&mut out), Form::Row, &[("y", &tensor)]).expect("floats can be written");
    });
    println!("write {what:44} {:6} bytes {time:7.0} ns", out.len());
}

fn main() {
    let sparse = |chance: f64, value: String| if chance < 0.8 { "0.0".to_owned() } else { value };
    let short = bodies(", ", |chance, value| sparse(chance, format!("{value:.6}")));
    time_reading("f32, 80 % 0.0, others 6 digits", DType::F32, &short);
    time_reading("f64, 80 % 0.0, others 6 digits", DType::F64, &short);
    let long = bodies(", ", |chance, value| sparse(chance, format!("{value}")));
    time_reading("f32, 80 % 0.0, others full doubles", DType::F32, &long);
    time_reading("f64, 80 % 0.0, others full doubles", DType::F64, &long);
    let dense = bodies(",", |_, value| format!("{value:.6}"));
    time_reading("f32, all 6 digits", DType::F32, &dense);
    let singles = bodies(", ", |_, value| format!("{}", f64::from(value as f32)));
    time_reading("f32, all singles as Python writes them", DType::F32, &singles);
    time_reading("f64, all singles as Python writes them", DType::F64, &singles);
    let pixels = bodies(", ", |_, value| format!("{:.0}", value * 255.0));
    time_reading("f32, pixels", DType::F32, &pixels);
    time_reading("u8, pixels", DType::U8, &pixels);
    time_reading("i64, pixels", DType::I64, &pixels);
    time_writing("10 probabilities", random(7).map(|value| (value / 10.0) as f32).take(10).collect());
    time_writing("10 short decimals", (0..10).map(|value| value as f32 / 8.0).collect());
}

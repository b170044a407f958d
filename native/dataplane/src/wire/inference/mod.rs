//! What TensorFlow Serving's Classify, Regress and MultiInference have in common over REST and gRPC: examples go in, each
//! a serialized `tf.Example`, and classes with scores or plain values come out.
//!
//! Sources: tensorflow_serving/apis/{input,classification,regression,inference}.proto;
//! tensorflow_serving/servables/tensorflow/{classifier,regressor,multi_inference}.cc for rules and texts.

mod examples;
mod method;
mod results;

pub use examples::Examples;
pub use method::{Method, find_signature};
pub use results::{Classes, Results};

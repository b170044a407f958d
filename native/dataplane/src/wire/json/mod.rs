//! The JSON dialect of TensorFlow Serving's REST API.
//!
//! Requests are read in one pass, straight into the memory of the tensors, without a tree of the document. Only a
//! request that is wrong, or that names its signature after its tensors, is read a second time: then every check comes
//! in upstream's order, so that errors say what TensorFlow Serving would say. Reading takes time linear in the length
//! of the text and no stack, however deep the text is nested.
//!
//! Source: TensorFlow Serving, docs "RESTful API"; tensorflow_serving/util/json_tensor.cc for texts and number forms.

pub(super) mod cursor;
mod dump;
mod examples;
mod explain;
mod float;
mod inputs;
mod list;
mod model;
pub(super) mod number;
mod outline;
mod predict;
mod results;
pub(super) mod string;
mod syntax;
mod write;

#[cfg(test)]
mod tests;

pub use examples::{ExamplesRequest, read_examples};
pub use float::{write_bf16, write_f16, write_f32, write_f64};
pub use model::{write_metadata, write_status};
#[cfg(any(test, fuzzing))]
pub use predict::check_body;
pub use predict::{Form, Limits, PredictRequest, read_predict};
pub use results::write_results;
pub use string::write_string;
pub use write::{write_error, write_predictions};

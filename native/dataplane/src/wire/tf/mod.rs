//! TensorFlow Serving's gRPC messages.
//!
//! The messages of a prediction are walked by hand, so that tensors share the memory of the request; the rare ones are
//! plain structs with `prost` attributes. `proto/tensorflow_serving` and `proto/tensorflow` declare the same messages.
//!
//! Sources: `tensorflow_serving/apis/*.proto`, `tensorflow/core/framework/tensor.proto`,
//! `tensorflow/core/protobuf/meta_graph.proto`.

pub mod bind;
pub mod inference;
pub mod message;
pub mod metadata;
pub mod model_spec;
pub mod predict;
pub mod read_tensor;
pub mod status;
pub mod write_tensor;

pub use message::truncate;
pub use model_spec::{ModelSpec, VersionChoice};
pub use predict::{PredictRequest, PredictResponse};
pub use read_tensor::read_tensor;
pub use write_tensor::{TensorForm, put_tensor};

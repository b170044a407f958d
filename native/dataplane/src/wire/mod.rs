//! Wire formats: bytes on one side, tensors on the other. Pure: no sockets, no threads, no clock.

pub mod budget;
pub mod dtype;
pub mod inference;
pub mod json;
pub mod npy;
pub mod oip;
pub mod protobuf;
pub mod raw;
pub mod signature;
pub mod status;
pub mod tensor;
pub mod text;
pub mod tf;

pub use budget::Budget;
pub use dtype::DType;
pub use signature::{Signature, Signatures, TensorSpec};
pub use status::{VersionState, VersionStatus};
pub use tensor::{Data, Element, Shape, Tensor};
pub use text::Text;

#[cfg(test)]
pub(crate) mod fixtures;

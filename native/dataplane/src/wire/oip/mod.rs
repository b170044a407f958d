//! The Open Inference Protocol, version 2: gRPC and REST. It is also the protocol between our own servers.
//!
//! Both transports read into the same [`InferRequest`] and write the same [`InferResponse`]. Tensors in binary form
//! share the memory of the message.
//!
//! Sources: <https://github.com/kserve/open-inference-protocol> (`inference_rest.md`, `inference_grpc.md`,
//! `open_inference_grpc.proto`); the binary tensor data extension,
//! <https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html>.

pub mod grpc;
pub mod infer;
pub mod metadata;
pub mod raw;
pub mod repository;
pub mod rest;

pub use infer::{InferRequest, InferResponse, Parameters, RequestedOutput};
pub use metadata::{ModelMetadata, ModelReady, ModelRequest, ServerLive, ServerMetadata, ServerReady};

//! ONNX Runtime, through the C API of the library inside the installed `onnxruntime` wheel.
//!
//! Source of the call sequence: <https://onnxruntime.ai/docs/api/c/struct_ort_api.html>. The API table only grows, so
//! asking for an old version of it works with every newer wheel.

mod runtime;
mod value;

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use ort_sys::{OrtMemoryInfo, OrtSession, OrtValue};
use serde::Deserialize;
use smallvec::SmallVec;

use self::runtime::Runtime;
use self::value::Value;
use super::{Call, Concurrency, Engine, check_dtypes, footprint};
use crate::memory::resident_bytes;
use crate::wire::signature::SignatureDescription;
use crate::wire::{Data, Signature, Signatures, Tensor, TensorSpec};
use crate::{Code, Error, Result};

/// How a model is loaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Absolute path of `libonnxruntime.so.*` (or `.dylib`).
    pub library: PathBuf,
    /// Threads inside one operator. 1 means: the calling thread alone, which is fastest for small models.
    #[serde(default = "one")]
    pub intra_op_threads: usize,
    /// Operators run at once inside one call.
    #[serde(default = "one")]
    pub inter_op_threads: usize,
    /// Names for clients where they differ from those in the graph; the graph's own when absent.
    #[serde(default)]
    pub signatures: Option<Vec<SignatureDescription>>,
}

fn one() -> usize {
    1
}

/// A loaded ONNX model.
pub struct OnnxEngine {
    runtime: &'static Runtime,
    session: *mut OrtSession,
    memory_info: *mut OrtMemoryInfo,
    signatures: Signatures,
    /// Names inside the graph, in the order of the signature with the same index.
    names: Vec<Names>,
    footprint: u64,
    intra_op_threads: usize,
}

struct Names {
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

// SAFETY: ONNX Runtime sessions may be run from several threads at once; the other pointers are read only.
unsafe impl Send for OnnxEngine {}
// SAFETY: as above.
unsafe impl Sync for OnnxEngine {}

impl OnnxEngine {
    /// Loads an ONNX file. External weights are looked for beside it.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when ONNX Runtime cannot be opened, else what it says about the file.
    pub fn load(path: &Path, options: &Options) -> Result<OnnxEngine> {
        let runtime = Runtime::get(&options.library)?;
        let resident_before = resident_bytes();
        let session = runtime.create_session(path, options)?;
        let mut engine = OnnxEngine {
            runtime,
            session,
            memory_info: null_mut(),
            signatures: Signatures::default(),
            names: Vec::new(),
            footprint: 0,
            intra_op_threads: options.intra_op_threads,
        };
        engine.memory_info = runtime.cpu_memory_info()?;
        engine.describe(options.signatures.as_deref())?;
        engine.footprint = footprint(resident_before, path.parent().unwrap_or(path));
        Ok(engine)
    }

    fn describe(&mut self, descriptions: Option<&[SignatureDescription]>) -> Result<()> {
        let graph = self.runtime.graph_signature(self.session)?;
        let signatures: Vec<Signature> = match descriptions {
            None => vec![graph],
            Some(descriptions) => {
                descriptions.iter().map(|description| renamed(&graph, description.clone())).collect::<Result<_>>()?
            }
        };
        self.signatures = Signatures(signatures.into_iter().map(Arc::new).collect());
        self.names = self
            .signatures
            .iter()
            .map(|signature| {
                let c_names = |specs: &[TensorSpec]| {
                    specs.iter().map(|spec| c_string(&spec.tensor_name)).collect::<Result<Vec<_>>>()
                };
                Ok(Names { inputs: c_names(&signature.inputs)?, outputs: c_names(&signature.outputs)? })
            })
            .collect::<Result<_>>()?;
        Ok(())
    }

    fn input_value(&self, tensor: &Tensor) -> Result<Value> {
        match &tensor.data {
            Data::Fixed(bytes) => Value::borrowed(self.runtime, self.memory_info, tensor, bytes),
            Data::Strings(strings) => Value::of_strings(self.runtime, &tensor.shape, strings),
        }
    }
}

impl Engine for OnnxEngine {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    fn run(&self, call: &Call<'_>) -> Result<Vec<Tensor>> {
        check_dtypes(call)?;
        let names = &self.names[self.signatures.position(call.signature)?];
        let values = call.inputs.iter().map(|tensor| self.input_value(tensor)).collect::<Result<SmallVec<[_; 4]>>>()?;
        let inputs: SmallVec<[*const OrtValue; 4]> = values.iter().map(|value| value.raw.cast_const()).collect();
        let input_names: SmallVec<[*const c_char; 4]> = names.inputs.iter().map(|name| name.as_ptr()).collect();
        let output_names: SmallVec<[*const c_char; 4]> =
            call.outputs.iter().map(|&index| names.outputs[index].as_ptr()).collect();
        let mut outputs: SmallVec<[*mut OrtValue; 4]> = SmallVec::from_elem(null_mut(), output_names.len());
        // SAFETY: all arrays are as long as the counts say and live through the call; the inputs' memory is borrowed
        // by `values`, which lives as long.
        let status = unsafe {
            (self.runtime.api.Run)(
                self.session,
                null(),
                input_names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr(),
            )
        };
        let outputs: SmallVec<[Value; 4]> =
            outputs.into_iter().map(|raw| Value { runtime: self.runtime, raw }).collect();
        self.runtime.check(status)?;
        outputs
            .into_iter()
            .zip(call.outputs)
            .map(|(value, &index)| value.into_tensor(&call.signature.outputs[index].name))
            .collect()
    }

    fn footprint(&self) -> u64 {
        self.footprint
    }

    fn concurrency(&self) -> Concurrency {
        // With threads of its own, one run already spreads over the cores.
        if self.intra_op_threads == 1 { Concurrency::Inline } else { Concurrency::Threads(usize::MAX) }
    }
}

impl Drop for OnnxEngine {
    fn drop(&mut self) {
        // SAFETY: both were made by this runtime, are released once, and no run is under way (`self` is exclusive).
        unsafe {
            (self.runtime.api.ReleaseSession)(self.session);
            if !self.memory_info.is_null() {
                (self.runtime.api.ReleaseMemoryInfo)(self.memory_info);
            }
        }
    }
}

/// A signature over the graph's tensors under other names.
fn renamed(graph: &Signature, description: SignatureDescription) -> Result<Signature> {
    let mut signature = Signature::try_from(description)?;
    for (specs, known, kind) in
        [(&mut signature.inputs, &graph.inputs, "input"), (&mut signature.outputs, &graph.outputs, "output")]
    {
        for spec in specs {
            let found = known.iter().find(|known| known.tensor_name == spec.tensor_name).ok_or_else(|| {
                Error::new(
                    Code::FailedPrecondition,
                    format!("The model has no {kind} '{}' (signature '{}')", spec.tensor_name, signature.name),
                )
            })?;
            spec.dtype = found.dtype;
        }
    }
    Ok(signature)
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(format!("The name {text:?} holds a NUL byte")))
}

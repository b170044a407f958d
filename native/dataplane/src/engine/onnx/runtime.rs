//! The opened library: its functions, its environment, and the models that it describes.

use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::Mutex;

use ort_sys::{
    GraphOptimizationLevel, OrtAllocator, OrtAllocatorType, OrtApi, OrtApiBase, OrtEnv, OrtErrorCode, OrtLoggingLevel,
    OrtMemType, OrtMemoryInfo, OrtSession, OrtSessionOptions, OrtStatusPtr, OrtTensorTypeAndShapeInfo, OrtTypeInfo,
};

use super::value::from_onnx;
use super::{Options, c_string};
use crate::engine::library;
use crate::wire::signature::DEFAULT_SIGNATURE;
use crate::wire::{DType, Shape, Signature, TensorSpec};
use crate::{Code, Error, Result};

/// ONNX Runtime 1.20 (2024) and later have this table.
const API_VERSION: u32 = 20;

/// The opened library: its function table and the process-wide environment.
pub(super) struct Runtime {
    pub(super) api: &'static OrtApi,
    env: *mut OrtEnv,
    pub(super) allocator: *mut OrtAllocator,
}

// SAFETY: the environment and the default allocator are thread-safe by ONNX Runtime's contract; the table is constant.
unsafe impl Send for Runtime {}
// SAFETY: as above.
unsafe impl Sync for Runtime {}

impl Runtime {
    pub(super) fn get(library: &Path) -> Result<&'static Runtime> {
        static RUNTIMES: Mutex<Vec<(PathBuf, &'static Runtime)>> = Mutex::new(Vec::new());
        let mut runtimes = RUNTIMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, runtime)) = runtimes.iter().find(|(path, _)| path == library) {
            return Ok(runtime);
        }
        let runtime: &'static Runtime = Box::leak(Box::new(Runtime::open(library)?));
        runtimes.push((library.to_owned(), runtime));
        Ok(runtime)
    }

    fn open(path: &Path) -> Result<Runtime> {
        let missing = |message: String| Error::new(Code::FailedPrecondition, message).with_reason("engine_missing");
        let library = library::open(path)?;
        // SAFETY: this is the documented entry point and its documented type.
        let entry = unsafe { library.get::<unsafe extern "system" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0") }
            .map_err(|error| missing(format!("{} is not ONNX Runtime: {error}", path.display())))?;
        // SAFETY: the base and the table it gives are static data of the library, which is never closed.
        let api = unsafe {
            let base = &*entry();
            (base.GetApi)(API_VERSION).as_ref().ok_or_else(|| {
                let version = CStr::from_ptr((base.GetVersionString)()).to_string_lossy();
                missing(format!("ONNX Runtime {version} is too old: 1.{API_VERSION} or later is needed"))
            })?
        };
        let mut runtime = Runtime { api, env: null_mut(), allocator: null_mut() };
        // SAFETY: out-pointers are valid; the name is a constant C string.
        unsafe {
            let level = OrtLoggingLevel::ORT_LOGGING_LEVEL_ERROR;
            let created = (api.CreateEnv)(level, c"servable".as_ptr(), &raw mut runtime.env);
            runtime.check(created)?;
            let found = (api.GetAllocatorWithDefaultOptions)(&raw mut runtime.allocator);
            runtime.check(found)?;
        }
        Ok(runtime)
    }

    /// The error of a status, which is released.
    pub(super) fn check(&self, status: OrtStatusPtr) -> Result<()> {
        if status.0.is_null() {
            return Ok(());
        }
        // SAFETY: the status is not null, is read before it is released, and is released once.
        let (code, message) = unsafe {
            let code = (self.api.GetErrorCode)(status.0) as i32;
            let message = CStr::from_ptr((self.api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
            (self.api.ReleaseStatus)(status.0);
            (code, message)
        };
        Err(Error::new(canonical(code, &message), message))
    }

    pub(super) fn create_session(&self, path: &Path, options: &Options) -> Result<*mut OrtSession> {
        let path = c_string(path.to_str().ok_or_else(|| Error::invalid("The model's path is not UTF-8"))?)?;
        let mut session = null_mut();
        let session_options = SessionOptions::new(self)?;
        session_options.configure(options)?;
        // SAFETY: all pointers are valid through the call.
        self.check(unsafe {
            (self.api.CreateSession)(self.env, path.as_ptr(), session_options.raw, &raw mut session)
        })?;
        Ok(session)
    }

    pub(super) fn cpu_memory_info(&self) -> Result<*mut OrtMemoryInfo> {
        let mut info = null_mut();
        // SAFETY: the out-pointer is valid.
        self.check(unsafe {
            (self.api.CreateCpuMemoryInfo)(
                OrtAllocatorType::OrtDeviceAllocator,
                OrtMemType::OrtMemTypeDefault,
                &raw mut info,
            )
        })?;
        Ok(info)
    }

    pub(super) fn graph_signature(&self, session: *mut OrtSession) -> Result<Signature> {
        let (mut inputs, mut outputs) = (0usize, 0usize);
        // SAFETY: the session is valid; the out-pointers are valid.
        unsafe {
            self.check((self.api.SessionGetInputCount)(session, &raw mut inputs))?;
            self.check((self.api.SessionGetOutputCount)(session, &raw mut outputs))?;
        }
        Ok(Signature {
            name: DEFAULT_SIGNATURE.to_owned(),
            method_name: "tensorflow/serving/predict".to_owned(),
            inputs: (0..inputs).map(|index| self.graph_tensor(session, index, true)).collect::<Result<_>>()?,
            outputs: (0..outputs).map(|index| self.graph_tensor(session, index, false)).collect::<Result<_>>()?,
            ..Signature::default()
        })
    }

    fn graph_tensor(&self, session: *mut OrtSession, index: usize, input: bool) -> Result<TensorSpec> {
        let api = self.api;
        let (get_name, get_type) = if input {
            (api.SessionGetInputName, api.SessionGetInputTypeInfo)
        } else {
            (api.SessionGetOutputName, api.SessionGetOutputTypeInfo)
        };
        let mut raw_name: *mut c_char = null_mut();
        let mut type_info: *mut OrtTypeInfo = null_mut();
        // SAFETY: the index is below the session's count, the out-pointers are valid, and what the session gives is
        // copied and then freed as the API asks.
        unsafe {
            self.check(get_name(session, index, self.allocator, &raw mut raw_name))?;
            let name = CStr::from_ptr(raw_name).to_string_lossy().into_owned();
            self.check((api.AllocatorFree)(self.allocator, raw_name.cast()))?;
            self.check(get_type(session, index, &raw mut type_info))?;
            let described = self.describe_type(&name, type_info);
            (api.ReleaseTypeInfo)(type_info);
            let (dtype, shape) = described?;
            Ok(TensorSpec { tensor_name: name.clone(), name, dtype, shape })
        }
    }

    fn describe_type(&self, name: &str, type_info: *const OrtTypeInfo) -> Result<(DType, Option<Vec<i64>>)> {
        let mut info: *const OrtTensorTypeAndShapeInfo = null();
        // SAFETY: the type info is valid; the tensor info borrows from it.
        self.check(unsafe { (self.api.CastTypeInfoToTensorInfo)(type_info, &raw mut info) })?;
        if info.is_null() {
            return Err(Error::new(
                Code::Unimplemented,
                format!(
                    "'{name}' is not a tensor (a sequence or map). Classifiers from scikit-learn: convert with the \
                     option zipmap=False"
                ),
            ));
        }
        let (dtype, shape) = self.type_and_shape(info)?;
        Ok((dtype, Some(shape.into_vec())))
    }

    pub(super) fn type_and_shape(&self, info: *const OrtTensorTypeAndShapeInfo) -> Result<(DType, Shape)> {
        let mut element = 0i32;
        let mut rank = 0usize;
        // SAFETY: the info is valid. The element type is read as a plain number, since newer libraries may give
        // numbers that the enum does not know.
        unsafe {
            self.check((self.api.GetTensorElementType)(info, (&raw mut element).cast()))?;
            self.check((self.api.GetDimensionsCount)(info, &raw mut rank))?;
            let mut shape = Shape::from_elem(0, rank);
            self.check((self.api.GetDimensions)(info, shape.as_mut_ptr(), rank))?;
            Ok((from_onnx(element), shape))
        }
    }
}

/// Session options that are released when they go out of scope.
struct SessionOptions<'a> {
    runtime: &'a Runtime,
    raw: *mut OrtSessionOptions,
}

impl<'a> SessionOptions<'a> {
    fn new(runtime: &'a Runtime) -> Result<Self> {
        let mut raw = null_mut();
        // SAFETY: the out-pointer is valid.
        runtime.check(unsafe { (runtime.api.CreateSessionOptions)(&raw mut raw) })?;
        Ok(SessionOptions { runtime, raw })
    }

    fn configure(&self, options: &Options) -> Result<()> {
        let api = self.runtime.api;
        let threads = |count: usize| c_int::try_from(count).unwrap_or(c_int::MAX);
        // SAFETY: the options are valid through all calls; strings are constant C strings.
        unsafe {
            let check = |status| self.runtime.check(status);
            check((api.SetIntraOpNumThreads)(self.raw, threads(options.intra_op_threads)))?;
            check((api.SetInterOpNumThreads)(self.raw, threads(options.inter_op_threads)))?;
            check((api.SetSessionGraphOptimizationLevel)(self.raw, GraphOptimizationLevel::ORT_ENABLE_ALL))?;
            // Spinning workers would take the cores that other models and the sockets need.
            check((api.AddSessionConfigEntry)(self.raw, c"session.intra_op.allow_spinning".as_ptr(), c"0".as_ptr()))
        }
    }
}

impl Drop for SessionOptions<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, released once.
        unsafe { (self.runtime.api.ReleaseSessionOptions)(self.raw) }
    }
}

/// The canonical code of an ONNX Runtime error.
fn canonical(code: i32, message: &str) -> Code {
    // Wrong shapes surface as plain failures of the first operator that meets them: still the caller's fault.
    const SHAPES: [&str; 4] = ["dimension", "Got invalid", "shape", "Shape"];
    const INVALID: i32 = OrtErrorCode::ORT_INVALID_ARGUMENT as i32;
    const NO_FILE: i32 = OrtErrorCode::ORT_NO_SUCHFILE as i32;
    const NO_MODEL: i32 = OrtErrorCode::ORT_INVALID_PROTOBUF as i32;
    const BAD_GRAPH: i32 = OrtErrorCode::ORT_INVALID_GRAPH as i32;
    const NOT_IMPLEMENTED: i32 = OrtErrorCode::ORT_NOT_IMPLEMENTED as i32;
    const RUNTIME: i32 = OrtErrorCode::ORT_RUNTIME_EXCEPTION as i32;
    const FAIL: i32 = OrtErrorCode::ORT_FAIL as i32;
    match code {
        INVALID | NO_MODEL | BAD_GRAPH => Code::InvalidArgument,
        NO_FILE => Code::NotFound,
        NOT_IMPLEMENTED => Code::Unimplemented,
        RUNTIME | FAIL if SHAPES.iter().any(|word| message.contains(word)) => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

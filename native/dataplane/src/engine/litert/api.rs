//! The functions of LiteRT's C API that are called here, found in the library of the installed wheel.
//!
//! The wheel brings no headers, and argument lists have changed between versions: what is declared here is that of 2.2
//! and 2.3, and Python lets no other version come this far.
//!
//! Source: litert/c/{litert_environment,litert_model,litert_options,litert_compiled_model,litert_tensor_buffer}.h.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use super::file::MappedFile;
use super::memory::Memory;
use crate::engine::library::{self, engine_functions};
use crate::{Code, Error, Result};

/// What the C API only hands out pointers to.
macro_rules! opaque {
    ($($name:ident),*) => {
        $(#[repr(C)] pub(super) struct $name { _private: [u8; 0], _not_send: PhantomData<*mut u8> })*
    };
}

opaque!(RtEnvironment, RtModel, RtOptions, RtOpaqueOptions, RtCompiledModel, RtTensorBuffer);

pub(super) const MAX_RANK: usize = 8;

/// `LiteRtLayout`: a shape. Its first word holds the rank in seven bits, and in the eighth whether there are strides.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Layout {
    rank: u32,
    dimensions: [i32; MAX_RANK],
    strides: [u32; MAX_RANK],
}

impl Layout {
    /// # Errors
    /// `INVALID_ARGUMENT` for shapes that LiteRT cannot say: more than eight dimensions, or longer ones than 2^31 - 1.
    pub(super) fn new(shape: &[i64]) -> Result<Layout> {
        let mut layout = Layout::default();
        let unfit = || Error::invalid(format!("LiteRT takes no tensors of shape {shape:?}"));
        let dimensions = layout.dimensions.get_mut(..shape.len()).ok_or_else(unfit)?;
        for (dimension, &size) in dimensions.iter_mut().zip(shape) {
            *dimension = i32::try_from(size).map_err(|_| unfit())?;
        }
        layout.rank = u32::try_from(shape.len()).map_err(|_| unfit())?;
        Ok(layout)
    }

    pub(super) fn shape(&self) -> &[i32] {
        &self.dimensions[..(self.rank as usize & 0x7f).min(MAX_RANK)]
    }
}

/// `LiteRtRankedTensorType`.
#[repr(C)]
struct TensorType {
    element: c_int,
    layout: Layout,
}

/// `LiteRtEnvOption`.
#[repr(C)]
struct EnvironmentOption {
    tag: c_int,
    value: AnyValue,
}

/// `LiteRtAny` that is an integer.
#[repr(C)]
struct AnyValue {
    kind: c_int,
    integer: i64,
}

const KIND_INTEGER: c_int = 2;
const TAG_ACCELERATORS: c_int = 24;
const TAG_MIN_LOG_SEVERITY: c_int = 25;
const ACCELERATOR_CPU: c_int = 1;
// What a call does wrong is for its caller, not for the log.
const SEVERITY_SILENT: i64 = 4;

type Status = c_int;
type Payload = unsafe extern "C" fn(*mut c_void);

engine_functions! {
    "LiteRt";
    create_environment = "CreateEnvironment":
        fn(c_int, *const EnvironmentOption, *mut *mut RtEnvironment) -> Status;
    create_model = "CreateModelFromBuffer":
        fn(*mut RtEnvironment, *const c_void, usize, *mut *mut RtModel) -> Status;
    destroy_model = "DestroyModel": fn(*mut RtModel);
    create_options = "CreateOptions": fn(*mut *mut RtOptions) -> Status;
    destroy_options = "DestroyOptions": fn(*mut RtOptions);
    set_accelerators = "SetOptionsHardwareAccelerators": fn(*mut RtOptions, c_int) -> Status;
    create_opaque = "CreateOpaqueOptions":
        fn(*const c_char, *mut c_void, Payload, *mut *mut RtOpaqueOptions) -> Status;
    destroy_opaque = "DestroyOpaqueOptions": fn(*mut RtOpaqueOptions);
    add_opaque = "AddOpaqueOptions": fn(*mut RtOptions, *mut RtOpaqueOptions) -> Status;
    create_compiled = "CreateCompiledModel":
        fn(*mut RtEnvironment, *mut RtModel, *mut RtOptions, *mut *mut RtCompiledModel) -> Status;
    destroy_compiled = "DestroyCompiledModel": fn(*mut RtCompiledModel);
    resize_input = "CompiledModelResizeInputTensorNonStrict":
        fn(*mut RtCompiledModel, usize, usize, *const c_int, usize) -> Status;
    output_layouts = "GetCompiledModelOutputTensorLayouts":
        fn(*mut RtCompiledModel, usize, usize, *mut Layout, bool) -> Status;
    run = "RunCompiledModel": fn(
        *mut RtCompiledModel, usize, usize, *const *mut RtTensorBuffer, usize, *const *mut RtTensorBuffer
    ) -> Status;
    error_messages = "CompiledModelGetErrorMessages": fn(*mut RtCompiledModel, *mut *mut c_char) -> Status;
    clear_errors = "CompiledModelClearErrors": fn(*mut RtCompiledModel) -> Status;
    create_buffer = "CreateTensorBufferFromHostMemory": fn(
        *const TensorType, *mut c_void, usize, Option<Payload>, *mut *mut RtTensorBuffer
    ) -> Status;
    destroy_buffer = "DestroyTensorBuffer": fn(*mut RtTensorBuffer);
}

/// The opened library and its environment, of which there is one in a process.
pub(super) struct Api {
    functions: Functions,
    environment: *mut RtEnvironment,
}

// SAFETY: an environment is only read once it is made.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

impl Api {
    /// Opens the library of the wheel: `ai_edge_litert/libLiteRt.so`.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` (`engine_missing`) where it is not there, or is not LiteRT as it is known here.
    pub(super) fn open(path: &Path) -> Result<&'static Api> {
        static OPEN: Mutex<Option<&'static Api>> = Mutex::new(None);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(api) = *open {
            return Ok(api);
        }
        let functions = Functions::find(library::open(path)?).map_err(|error| {
            Error::new(Code::FailedPrecondition, format!("{} is no LiteRT that is known here: {error}", path.display()))
                .with_reason("engine_missing")
        })?;
        let mut api = Api { functions, environment: null_mut() };
        // Without the first, libraries for other hardware are looked for, and what is missing is told on stderr.
        let options = [(TAG_ACCELERATORS, i64::from(ACCELERATOR_CPU)), (TAG_MIN_LOG_SEVERITY, SEVERITY_SILENT)]
            .map(|(tag, value)| EnvironmentOption { tag, value: AnyValue { kind: KIND_INTEGER, integer: value } });
        // SAFETY: there are as many options as is said, and the out-pointer is valid.
        let status = unsafe { (functions.create_environment)(2, options.as_ptr(), &raw mut api.environment) };
        check(status, "make its environment")?;
        let api: &'static Api = Box::leak(Box::new(api));
        *open = Some(api);
        Ok(api)
    }

    /// A model over the bytes of its file, which it keeps mapped.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where LiteRT finds it damaged.
    pub(super) fn model(&'static self, file: MappedFile) -> Result<Model> {
        let mut model = Model { api: self, raw: null_mut(), file };
        let bytes = model.file.bytes();
        // SAFETY: the bytes stay where they are for as long as the model, which owns their mapping.
        let status = unsafe {
            (self.functions.create_model)(self.environment, bytes.as_ptr().cast(), bytes.len(), &raw mut model.raw)
        };
        check(status, "read the model")?;
        Ok(model)
    }

    fn options(&'static self, threads: usize) -> Result<Options> {
        let mut options = Options { api: self, raw: null_mut() };
        // SAFETY: the out-pointer is valid; the options are, once they are made.
        unsafe {
            check((self.functions.create_options)(&raw mut options.raw), "make options")?;
            check((self.functions.set_accelerators)(options.raw, ACCELERATOR_CPU), "choose the processor")?;
        }
        // In TOML, under the names by which LiteRT's own helpers pass them.
        let text = CString::new(format!("num_threads = {threads}\n")).expect("no NUL byte");
        options.add(c"xnnpack", text)?;
        // Messages are kept (2) for the error, not printed (1).
        options.add(c"runtime_options_string", c"error_reporter_mode = 2\n".to_owned())?;
        Ok(options)
    }
}

/// What LiteRT's status says, where it is not well.
fn check(status: Status, doing: &str) -> Result<()> {
    let code = match status {
        0 => return Ok(()),
        2 => Code::ResourceExhausted,
        1 | 3 | 500 | 501 => Code::InvalidArgument,
        5 => Code::Unimplemented,
        _ => Code::Internal,
    };
    Err(Error::new(code, format!("LiteRT cannot {doing} (its status {status})")))
}

struct Options {
    api: &'static Api,
    raw: *mut RtOptions,
}

impl Options {
    fn add(&self, identifier: &CStr, text: CString) -> Result<()> {
        unsafe extern "C" fn free(text: *mut c_void) {
            // SAFETY: made by `CString::into_raw` below, and called once.
            drop(unsafe { CString::from_raw(text.cast()) });
        }
        let functions = &self.api.functions;
        let text = text.into_raw();
        let mut opaque = null_mut();
        // SAFETY: the pointers are valid; the text then belongs to what is made, and that to the options, unless the call
        // that should take it fails.
        unsafe {
            let status = (functions.create_opaque)(identifier.as_ptr(), text.cast(), free, &raw mut opaque);
            if status != 0 {
                free(text.cast());
                return check(status, "make options");
            }
            let status = (functions.add_opaque)(self.raw, opaque);
            if status != 0 {
                (functions.destroy_opaque)(opaque);
            }
            check(status, "take options")
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: made by `create_options`, destroyed once.
            unsafe { (self.api.functions.destroy_options)(self.raw) }
        }
    }
}

/// A model, which all that is compiled from it shares.
pub(super) struct Model {
    api: &'static Api,
    raw: *mut RtModel,
    file: MappedFile,
}

// SAFETY: a model is only read once it is made.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Makes something that runs the model, on so many threads and for one caller at a time.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` where LiteRT has not all that the model needs.
    pub(super) fn compile(self: &Arc<Model>, threads: usize) -> Result<CompiledModel> {
        let options = self.api.options(threads)?;
        let mut compiled = CompiledModel { model: self.clone(), raw: null_mut() };
        // SAFETY: all are valid; the options are only read during the call.
        let status = unsafe {
            (self.api.functions.create_compiled)(self.api.environment, self.raw, options.raw, &raw mut compiled.raw)
        };
        check(status, "prepare the model; what it says of it is on stderr").map_err(|error| Error {
            code: if error.code == Code::ResourceExhausted { error.code } else { Code::FailedPrecondition },
            ..error
        })?;
        Ok(compiled)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: made by `create_model`, destroyed once, before its bytes go.
            unsafe { (self.api.functions.destroy_model)(self.raw) }
        }
    }
}

/// A model that is ready to run. Signatures, inputs and outputs go by their numbers in the model.
pub(super) struct CompiledModel {
    model: Arc<Model>,
    raw: *mut RtCompiledModel,
}

// SAFETY: it may be used on any thread, by one at a time: whatever changes it takes `&mut self`.
unsafe impl Send for CompiledModel {}

impl CompiledModel {
    fn functions(&self) -> &'static Functions {
        &self.model.api.functions
    }

    /// Gives an input another shape, whatever the model says of it. LiteRT takes neither scalars nor empty shapes here.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for shapes that LiteRT does not take.
    pub(super) fn resize(&mut self, signature: usize, input: usize, layout: &Layout) -> Result<()> {
        let shape = layout.shape();
        // SAFETY: the sizes are as many as is said.
        let status =
            unsafe { (self.functions().resize_input)(self.raw, signature, input, shape.as_ptr(), shape.len()) };
        self.check(status, "take inputs of this shape")
    }

    /// The shapes of all outputs: with `propagate`, those that follow from the inputs', else those of the last run.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where the graph cannot run on inputs of these shapes.
    pub(super) fn output_layouts(&mut self, signature: usize, count: usize, propagate: bool) -> Result<Vec<Layout>> {
        let mut layouts = vec![Layout::default(); count];
        // SAFETY: there is room for as many layouts as is said.
        let status =
            unsafe { (self.functions().output_layouts)(self.raw, signature, count, layouts.as_mut_ptr(), propagate) };
        self.check(status, "run on inputs of these shapes")?;
        Ok(layouts)
    }

    /// # Errors
    /// What the graph's operations say.
    pub(super) fn run(&mut self, signature: usize, inputs: &[TensorBuffer], outputs: &[TensorBuffer]) -> Result<()> {
        let raw = |buffers: &[TensorBuffer]| buffers.iter().map(|buffer| buffer.raw).collect::<SmallVec<[_; 4]>>();
        let (inputs, outputs) = (raw(inputs), raw(outputs));
        // SAFETY: the arrays are as long as is said and live through the call, as do the buffers.
        let status = unsafe {
            (self.functions().run)(self.raw, signature, inputs.len(), inputs.as_ptr(), outputs.len(), outputs.as_ptr())
        };
        self.check(status, "run the model")
    }

    /// Memory for an input or output of this type and shape, with room for `size` bytes.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` where LiteRT has no buffers for the type, `RESOURCE_EXHAUSTED` where there is no memory.
    pub(super) fn buffer(&self, element: i32, layout: &Layout, size: usize) -> Result<TensorBuffer> {
        let memory = Memory::new(size)?;
        let kind = TensorType { element, layout: *layout };
        let mut raw = null_mut();
        // SAFETY: the memory is aligned as LiteRT asks for, as long as is said, and outlives the buffer.
        let status = unsafe {
            (self.functions().create_buffer)(&raw const kind, memory.start().cast(), size, None, &raw mut raw)
        };
        check(status, "make a buffer for a tensor")?;
        Ok(TensorBuffer { api: self.model.api, raw, memory })
    }

    /// Adds what the operations reported to LiteRT's status.
    fn check(&mut self, status: Status, doing: &str) -> Result<()> {
        let Err(error) = check(status, doing) else { return Ok(()) };
        let report = self.take_report();
        if report.is_empty() {
            return Err(error);
        }
        Err(Error::new(error.code, format!("LiteRT cannot {doing}: {report}")))
    }

    fn take_report(&mut self) -> String {
        let mut text: *mut c_char = null_mut();
        // SAFETY: LiteRT sets the pointer to a text of its own making, which is to be freed.
        unsafe {
            if (self.functions().error_messages)(self.raw, &raw mut text) != 0 || text.is_null() {
                return String::new();
            }
            let report = CStr::from_ptr(text).to_string_lossy().trim().replace('\n', "; ");
            libc::free(text.cast());
            (self.functions().clear_errors)(self.raw);
            report
        }
    }
}

impl Drop for CompiledModel {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: made by `create_compiled`, destroyed once, before its model.
            unsafe { (self.functions().destroy_compiled)(self.raw) }
        }
    }
}

/// A tensor's memory, as LiteRT knows it.
pub(super) struct TensorBuffer {
    api: &'static Api,
    raw: *mut RtTensorBuffer,
    pub(super) memory: Memory,
}

// SAFETY: a buffer may be used on any thread, by one at a time.
unsafe impl Send for TensorBuffer {}

impl Drop for TensorBuffer {
    fn drop(&mut self) {
        // SAFETY: made by `create_buffer`, destroyed once, before its memory.
        unsafe { (self.api.functions.destroy_buffer)(self.raw) }
    }
}

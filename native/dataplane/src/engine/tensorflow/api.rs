//! The functions of TensorFlow's C API that are called here, found in the library of the installed wheel.
//!
//! Source: `tensorflow/include/tensorflow/c/{c_api,tf_tensor,tf_status,tf_buffer}.h` of the wheel.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::{NonNull, null, null_mut};
use std::sync::{Mutex, PoisonError};

use crate::engine::library::{self, engine_functions};
use crate::{Code, Error, Result};

/// What the C API only hands out pointers to.
macro_rules! opaque {
    ($($name:ident),*) => {
        $(#[repr(C)] pub(super) struct $name { _private: [u8; 0], _not_send: PhantomData<*mut u8> })*
    };
}

opaque!(TfStatus, TfGraph, TfSession, TfSessionOptions, TfOperation, TfTensor, TfLibrary);

/// One output of an operation.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct TfOutput {
    pub(super) operation: *mut TfOperation,
    pub(super) index: c_int,
}

#[repr(C)]
pub(super) struct TfBuffer {
    pub(super) data: *const c_void,
    pub(super) length: usize,
    data_deallocator: Option<unsafe extern "C" fn(*mut c_void, usize)>,
}

pub(super) type Deallocator = unsafe extern "C" fn(*mut c_void, usize, *mut c_void);

engine_functions! {
    "TF_";
    version = "Version": fn() -> *const c_char;
    new_status = "NewStatus": fn() -> *mut TfStatus;
    delete_status = "DeleteStatus": fn(*mut TfStatus);
    get_code = "GetCode": fn(*const TfStatus) -> c_int;
    message = "Message": fn(*const TfStatus) -> *const c_char;
    new_buffer = "NewBuffer": fn() -> *mut TfBuffer;
    delete_buffer = "DeleteBuffer": fn(*mut TfBuffer);
    new_graph = "NewGraph": fn() -> *mut TfGraph;
    delete_graph = "DeleteGraph": fn(*mut TfGraph);
    operation = "GraphOperationByName": fn(*mut TfGraph, *const c_char) -> *mut TfOperation;
    num_outputs = "OperationNumOutputs": fn(*mut TfOperation) -> c_int;
    new_session_options = "NewSessionOptions": fn() -> *mut TfSessionOptions;
    delete_session_options = "DeleteSessionOptions": fn(*mut TfSessionOptions);
    set_config = "SetConfig": fn(*mut TfSessionOptions, *const c_void, usize, *mut TfStatus);
    load_session = "LoadSessionFromSavedModel": fn(
        *const TfSessionOptions, *const TfBuffer, *const c_char, *const *const c_char, c_int, *mut TfGraph,
        *mut TfBuffer, *mut TfStatus
    ) -> *mut TfSession;
    close_session = "CloseSession": fn(*mut TfSession, *mut TfStatus);
    delete_session = "DeleteSession": fn(*mut TfSession, *mut TfStatus);
    session_run = "SessionRun": fn(
        *mut TfSession, *const TfBuffer, *const TfOutput, *const *mut TfTensor, c_int, *const TfOutput,
        *mut *mut TfTensor, c_int, *const *const TfOperation, c_int, *mut TfBuffer, *mut TfStatus
    );
    new_tensor = "NewTensor": fn(
        c_int, *const i64, c_int, *mut c_void, usize, Deallocator, *mut c_void
    ) -> *mut TfTensor;
    delete_tensor = "DeleteTensor": fn(*mut TfTensor);
    tensor_type = "TensorType": fn(*const TfTensor) -> c_int;
    num_dims = "NumDims": fn(*const TfTensor) -> c_int;
    dim = "Dim": fn(*const TfTensor, c_int) -> i64;
    tensor_data = "TensorData": fn(*const TfTensor) -> *mut c_void;
    tensor_byte_size = "TensorByteSize": fn(*const TfTensor) -> usize;
    load_library = "LoadLibrary": fn(*const c_char, *mut TfStatus) -> *mut TfLibrary;
}

/// The opened library. There is one in a process: TensorFlow's threads and devices belong to the process.
pub(super) struct Api {
    functions: Functions,
    /// Libraries of custom operations that are loaded; they cannot be taken back.
    custom_ops: Mutex<Vec<CString>>,
}

impl Api {
    /// Opens the library of the wheel, e.g. `tensorflow/libtensorflow_cc.so.2`.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` (`engine_missing`) where it is not there, or is not TensorFlow.
    pub(super) fn open(path: &Path) -> Result<&'static Api> {
        static OPEN: Mutex<Option<&'static Api>> = Mutex::new(None);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(api) = *open {
            return Ok(api);
        }
        let functions = Functions::find(library::open(path)?).map_err(|error| {
            Error::new(Code::FailedPrecondition, format!("{} is not TensorFlow 2.16 or later: {error}", path.display()))
                .with_reason("engine_missing")
        })?;
        let api: &'static Api = Box::leak(Box::new(Api { functions, custom_ops: Mutex::default() }));
        *open = Some(api);
        Ok(api)
    }

    /// The version of the library, e.g. `2.21.0`.
    pub(super) fn version(&self) -> String {
        // SAFETY: a constant string of the library.
        unsafe { CStr::from_ptr((self.functions.version)()) }.to_string_lossy().into_owned()
    }

    /// Loads libraries of custom operations, each once.
    ///
    /// # Errors
    /// What TensorFlow says of one.
    pub(super) fn load_custom_ops(&self, libraries: &[PathBuf]) -> Result<()> {
        let mut loaded = self.custom_ops.lock().unwrap_or_else(PoisonError::into_inner);
        for path in libraries {
            let path = CString::new(path.as_os_str().as_bytes())
                .map_err(|_| Error::invalid("The path of a library of custom operations holds a NUL byte"))?;
            if loaded.contains(&path) {
                continue;
            }
            let status = Status::new(self);
            // SAFETY: path and status live through the call; the handle is kept by TensorFlow for ever.
            unsafe { (self.functions.load_library)(path.as_ptr(), status.raw) };
            status.check()?;
            loaded.push(path);
        }
        Ok(())
    }

    /// Loads the meta graph with these tags: the session, its graph, and the serialized `MetaGraphDef`.
    ///
    /// # Errors
    /// What TensorFlow says of the folder.
    pub(super) fn load(&'static self, folder: &Path, tags: &[String], config: &[u8]) -> Result<(Session, Vec<u8>)> {
        let folder = CString::new(folder.as_os_str().as_bytes())
            .map_err(|_| Error::invalid("The model's path holds a NUL byte"))?;
        let tags = tags
            .iter()
            .map(|tag| CString::new(tag.as_str()).map_err(|_| Error::invalid("A tag holds a NUL byte")))
            .collect::<Result<Vec<_>>>()?;
        let tags: Vec<*const c_char> = tags.iter().map(|tag| tag.as_ptr()).collect();
        let options = SessionOptions::new(self, config)?;
        let meta_graph = Buffer::new(self);
        let mut session = Session { api: self, graph: self.new_graph(), raw: null_mut() };
        let status = Status::new(self);
        // SAFETY: all pointers are valid through the call, and the array has as many tags as is said.
        session.raw = unsafe {
            (self.functions.load_session)(
                options.raw,
                null(),
                folder.as_ptr(),
                tags.as_ptr(),
                count(tags.len()),
                session.graph,
                meta_graph.raw,
                status.raw,
            )
        };
        status.check()?;
        Ok((session, meta_graph.to_vec()))
    }

    fn new_graph(&self) -> *mut TfGraph {
        // SAFETY: takes nothing.
        unsafe { (self.functions.new_graph)() }
    }

    /// A tensor over `data`, which `deallocator` frees, perhaps much later and on another thread.
    ///
    /// # Safety
    /// `data` points to `length` bytes that stay readable until the deallocator has been called; they are what a tensor
    /// of this type and shape has.
    pub(super) unsafe fn new_tensor(
        &'static self,
        dtype: i32,
        shape: &[i64],
        data: *mut c_void,
        length: usize,
        deallocator: Deallocator,
        argument: *mut c_void,
    ) -> Result<OwnedTensor> {
        // SAFETY: the shape is as long as is said; the caller answers for the data.
        let raw = unsafe {
            (self.functions.new_tensor)(dtype, shape.as_ptr(), count(shape.len()), data, length, deallocator, argument)
        };
        let raw = NonNull::new(raw).ok_or_else(|| Error::internal("TensorFlow made no tensor of an input"))?;
        Ok(OwnedTensor { api: self, raw })
    }
}

/// A count that C takes as an int; none here comes near its limit.
fn count(length: usize) -> c_int {
    c_int::try_from(length).unwrap_or(c_int::MAX)
}

struct Status<'a> {
    api: &'a Api,
    raw: *mut TfStatus,
}

impl<'a> Status<'a> {
    fn new(api: &'a Api) -> Status<'a> {
        // SAFETY: takes nothing.
        Status { api, raw: unsafe { (api.functions.new_status)() } }
    }

    /// TensorFlow's codes are the canonical ones.
    fn check(&self) -> Result<()> {
        // SAFETY: the status is valid; its message is copied.
        let (code, message) = unsafe {
            let code = (self.api.functions.get_code)(self.raw);
            if code == 0 {
                return Ok(());
            }
            (code, CStr::from_ptr((self.api.functions.message)(self.raw)).to_string_lossy().into_owned())
        };
        Err(Error::new(Code::from_number(code.into()), message))
    }
}

impl Drop for Status<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted once.
        unsafe { (self.api.functions.delete_status)(self.raw) }
    }
}

struct Buffer<'a> {
    api: &'a Api,
    raw: *mut TfBuffer,
}

impl<'a> Buffer<'a> {
    fn new(api: &'a Api) -> Buffer<'a> {
        // SAFETY: takes nothing.
        Buffer { api, raw: unsafe { (api.functions.new_buffer)() } }
    }

    fn to_vec(&self) -> Vec<u8> {
        // SAFETY: the buffer is valid, and what it points to is as long as it says.
        unsafe {
            let buffer = &*self.raw;
            if buffer.data.is_null() {
                return Vec::new();
            }
            std::slice::from_raw_parts(buffer.data.cast::<u8>(), buffer.length).to_vec()
        }
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted once.
        unsafe { (self.api.functions.delete_buffer)(self.raw) }
    }
}

struct SessionOptions<'a> {
    api: &'a Api,
    raw: *mut TfSessionOptions,
}

impl<'a> SessionOptions<'a> {
    /// `config` is a serialized `ConfigProto`.
    fn new(api: &'a Api, config: &[u8]) -> Result<SessionOptions<'a>> {
        // SAFETY: takes nothing.
        let options = SessionOptions { api, raw: unsafe { (api.functions.new_session_options)() } };
        let status = Status::new(api);
        // SAFETY: the bytes are as long as is said and are copied.
        unsafe { (api.functions.set_config)(options.raw, config.as_ptr().cast(), config.len(), status.raw) };
        status.check()?;
        Ok(options)
    }
}

impl Drop for SessionOptions<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted once.
        unsafe { (self.api.functions.delete_session_options)(self.raw) }
    }
}

/// A tensor that is deleted when it goes out of scope.
pub(super) struct OwnedTensor {
    api: &'static Api,
    pub(super) raw: NonNull<TfTensor>,
}

// SAFETY: tensors are reference counted with atomics and may be deleted on any thread.
unsafe impl Send for OwnedTensor {}
// SAFETY: nothing here writes to a tensor once it is made.
unsafe impl Sync for OwnedTensor {}

impl OwnedTensor {
    pub(super) fn dtype(&self) -> i32 {
        // SAFETY: the tensor is valid.
        unsafe { (self.api.functions.tensor_type)(self.raw.as_ptr()) }
    }

    pub(super) fn shape(&self) -> crate::wire::Shape {
        // SAFETY: the tensor is valid, and the index below its rank.
        unsafe {
            let rank = (self.api.functions.num_dims)(self.raw.as_ptr());
            (0..rank).map(|index| (self.api.functions.dim)(self.raw.as_ptr(), index)).collect()
        }
    }

    /// Its memory, as it lies there.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the tensor is valid and holds as many bytes as it says for as long as it lives.
        unsafe {
            let length = (self.api.functions.tensor_byte_size)(self.raw.as_ptr());
            let data = (self.api.functions.tensor_data)(self.raw.as_ptr());
            if length == 0 || data.is_null() {
                return &[];
            }
            std::slice::from_raw_parts(data.cast::<u8>(), length)
        }
    }
}

impl Drop for OwnedTensor {
    fn drop(&mut self) {
        // SAFETY: owned, deleted once.
        unsafe { (self.api.functions.delete_tensor)(self.raw.as_ptr()) }
    }
}

/// A session and its graph, closed and deleted when it goes out of scope.
pub(super) struct Session {
    api: &'static Api,
    graph: *mut TfGraph,
    raw: *mut TfSession,
}

// SAFETY: TensorFlow's sessions may be run from several threads at once; the graph is not changed any more.
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Session {
    /// The tensor called `operation:index`; an operation's name alone means its first output.
    pub(super) fn output(&self, name: &str) -> Option<TfOutput> {
        let (operation, index) = match name.rsplit_once(':') {
            Some((operation, index)) => (operation, index.parse().ok()?),
            None => (name, 0),
        };
        let operation = CString::new(operation).ok()?;
        // SAFETY: the graph is valid; the name lives through the call.
        let operation = unsafe { (self.api.functions.operation)(self.graph, operation.as_ptr()) };
        // SAFETY: the operation is not null when it is asked.
        let exists = !operation.is_null() && index < unsafe { (self.api.functions.num_outputs)(operation) };
        exists.then_some(TfOutput { operation, index })
    }

    /// Runs the graph.
    ///
    /// # Errors
    /// What TensorFlow says.
    pub(super) fn run(
        &self,
        options: &[u8],
        inputs: &[TfOutput],
        values: &[OwnedTensor],
        outputs: &[TfOutput],
    ) -> Result<Vec<OwnedTensor>> {
        assert_eq!(inputs.len(), values.len(), "a value for each input");
        let options = TfBuffer { data: options.as_ptr().cast(), length: options.len(), data_deallocator: None };
        let values: smallvec::SmallVec<[*mut TfTensor; 4]> = values.iter().map(|value| value.raw.as_ptr()).collect();
        let mut found: smallvec::SmallVec<[*mut TfTensor; 4]> =
            smallvec::SmallVec::from_elem(null_mut(), outputs.len());
        let status = Status::new(self.api);
        // SAFETY: the arrays are as long as is said and, like options and status, live through the call.
        unsafe {
            (self.api.functions.session_run)(
                self.raw,
                &raw const options,
                inputs.as_ptr(),
                values.as_ptr(),
                count(values.len()),
                outputs.as_ptr(),
                found.as_mut_ptr(),
                count(outputs.len()),
                null(),
                0,
                null_mut(),
                status.raw,
            );
        }
        let found: Vec<OwnedTensor> =
            found.into_iter().filter_map(NonNull::new).map(|raw| OwnedTensor { api: self.api, raw }).collect();
        status.check()?;
        if found.len() != outputs.len() {
            return Err(Error::internal("TensorFlow left an output out"));
        }
        Ok(found)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let status = Status::new(self.api);
        // SAFETY: no run is under way (`self` is exclusive); both are deleted once, the session before its graph.
        unsafe {
            if !self.raw.is_null() {
                (self.api.functions.close_session)(self.raw, status.raw);
                (self.api.functions.delete_session)(self.raw, status.raw);
            }
            (self.api.functions.delete_graph)(self.graph);
        }
    }
}

//! `servable._native`: the data plane as a Python module. The only crate that knows Python.
//!
//! What crosses the boundary is a page; `src/servable/_native.pyi` declares and documents it.

mod errors;
mod python_engine;
mod servable;
mod server;
mod tensors;
mod watch;

use pyo3::prelude::*;

/// For the data plane's own memory: requests come and go thousands of times a second, and giving memory back after an
/// unload (`malloc_trim`, which locks glibc's arenas) must not make them wait. Engines keep using glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::crc32c;
    #[pymodule_export]
    use super::errors::NativeError;
    #[pymodule_export]
    use super::servable::{Servable, load, load_python, load_remote};
    #[pymodule_export]
    use super::server::Server;
    #[pymodule_export]
    use super::tensors::TensorBuffer;
    #[pymodule_export]
    use super::watch::FolderWatch;

    #[pymodule_init]
    fn init(_module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        dataplane::memory::give_back_eagerly();
        Ok(())
    }
}

#[pyfunction]
#[pyo3(signature = (data, /))]
fn crc32c(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<u32> {
    let bytes = tensors::borrow(data)?;
    Ok(py.detach(|| ::crc32c::crc32c(&bytes)))
}

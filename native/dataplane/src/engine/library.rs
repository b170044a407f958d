//! Shared libraries of installed wheels, opened once and never closed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::{Code, Error, Result};

/// Declares `Functions`, the functions of an engine's C API, and how they are found in its library.
///
/// First the prefix that all their symbols have, then a line for each: `field = "Symbol": fn(..) -> ..;`.
macro_rules! engine_functions {
    ($prefix:literal; $($field:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions, by their names without the prefix.
        #[derive(Clone, Copy)]
        struct Functions { $($field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl Functions {
            fn find(library: &libloading::Library) -> std::result::Result<Functions, libloading::Error> {
                // SAFETY: the types are those of the C API's headers.
                unsafe { Ok(Functions { $($field: *library.get(concat!($prefix, $symbol, "\0").as_bytes())?,)* }) }
            }
        }
    };
}
pub(crate) use engine_functions;

/// Opens a shared library; the same path gives the same library for the life of the process.
///
/// Libraries stay open for ever: engines leave threads and thread-local state behind that outlive any session.
///
/// # Errors
/// `FAILED_PRECONDITION` (`engine_missing`) when the file is absent or is not a library that this machine can load.
pub(crate) fn open(path: &Path) -> Result<&'static libloading::Library> {
    static OPEN: OnceLock<Mutex<HashMap<PathBuf, &'static libloading::Library>>> = OnceLock::new();
    let mut open = OPEN.get_or_init(Mutex::default).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(library) = open.get(path) {
        return Ok(library);
    }
    // SAFETY: the path names an inference engine's library from an installed wheel; its initialisers are trusted as
    // much as the wheel is.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| {
        Error::new(Code::FailedPrecondition, format!("Cannot open the engine's library {}: {error}", path.display()))
            .with_reason("engine_missing")
    })?;
    let library: &'static libloading::Library = Box::leak(Box::new(library));
    open.insert(path.to_owned(), library);
    Ok(library)
}

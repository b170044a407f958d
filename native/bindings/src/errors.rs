//! Errors of the data plane as Python exceptions, and exceptions of Python models as errors of the data plane.

use dataplane::{Code, Error};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(_native, NativeError, PyException, "args: (grpc_status: int, message: str, reason: str)");

pub(crate) fn to_python(error: Error) -> PyErr {
    NativeError::new_err((error.code as u8, error.message.into_owned(), error.reason))
}

/// What a Python function raised. An exception with a `grpc_status` keeps it, and its `http_status` where it has one of
/// its own; any other is a fault of the model.
pub(crate) fn from_python(py: Python<'_>, error: &PyErr) -> Error {
    let value = error.value(py);
    let status = value.getattr("grpc_status").and_then(|status| status.extract::<i64>());
    match status {
        Ok(status) => {
            let error = Error::new(Code::from_number(status), value.to_string());
            let http = value.getattr("http_status").and_then(|status| status.extract::<u16>());
            match http {
                Ok(http) if (400..600).contains(&http) => error.with_http(http),
                _ => error,
            }
        }
        Err(_) => {
            let name = value.get_type().name().map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
            Error::internal(format!("The model raised {name}: {value}")).with_reason("model_raised")
        }
    }
}

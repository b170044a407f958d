//! The server: start, apply, stop, metrics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dataplane::skew::InputSample;
use dataplane::{Code, Error, listen};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::errors::{from_python, to_python};
use crate::servable::{Servable, parse};
use crate::tensors;

/// Sockets and routing.
#[pyclass(frozen, module = "servable._native")]
pub(crate) struct Server {
    settings: listen::Settings,
    reload: Option<listen::ReloadHandler>,
    repository: Option<listen::RepositoryHandler>,
    warn: Option<listen::Warn>,
    running: Mutex<Option<std::sync::Arc<listen::Server>>>,
}

impl Server {
    fn get(&self) -> PyResult<std::sync::Arc<listen::Server>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.clone().ok_or_else(|| to_python(Error::new(Code::FailedPrecondition, "The server is not running")))
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (settings, reload = None, repository = None, warn = None))]
    fn new(
        settings: &str,
        reload: Option<Py<PyAny>>,
        repository: Option<Py<PyAny>>,
        warn: Option<Py<PyAny>>,
    ) -> PyResult<Server> {
        let settings = parse(settings).map_err(to_python)?;
        Ok(Server {
            settings,
            reload: reload.map(reload_handler),
            repository: repository.map(repository_handler),
            warn: warn.map(warn_handler),
            running: Mutex::new(None),
        })
    }

    fn start(&self, py: Python<'_>) -> PyResult<String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return Err(to_python(Error::new(Code::FailedPrecondition, "The server was started already")));
        }
        let start = || listen::Server::start(self.settings.clone(), self.reload.clone(), self.repository.clone());
        let server = py.detach(start).map_err(to_python)?;
        if let Some(warn) = &self.warn {
            server.on_warning(warn.clone());
        }
        let addresses =
            serde_json::to_string(server.addresses()).map_err(|error| to_python(Error::internal(error.to_string())))?;
        *running = Some(std::sync::Arc::new(server));
        Ok(addresses)
    }

    fn apply(&self, py: Python<'_>, snapshot: &str, servables: HashMap<String, Py<Servable>>) -> PyResult<()> {
        let server = self.get()?;
        let snapshot = parse(snapshot).map_err(to_python)?;
        let servables = servables
            .into_iter()
            .map(|(key, servable)| Ok((key, servable.get().get()?)))
            .collect::<dataplane::Result<HashMap<_, _>>>()
            .map_err(to_python)?;
        py.detach(|| server.apply(snapshot, &servables)).map_err(to_python)
    }

    fn stop(&self, py: Python<'_>, grace: f64) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let grace = Duration::try_from_secs_f64(grace).unwrap_or(Duration::ZERO);
        running.is_none_or(|server| py.detach(|| server.stop(grace)))
    }

    fn set_tls(&self, py: Python<'_>, settings: &str) -> PyResult<()> {
        let (server, settings) = (self.get()?, parse(settings).map_err(to_python)?);
        py.detach(|| server.set_tls(&settings)).map_err(to_python)
    }

    fn set_tokens(&self, py: Python<'_>, tokens: &str) -> PyResult<()> {
        let (server, tokens): (_, Vec<listen::Token>) = (self.get()?, parse(tokens).map_err(to_python)?);
        py.detach(|| server.set_tokens(&tokens)).map_err(to_python)
    }

    fn wait_demand(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<Vec<String>>> {
        let server = self.get()?;
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::ZERO);
        Ok(py.detach(|| server.wait_demand(timeout)))
    }

    fn take_inputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.get()?.take_inputs().iter().map(|sample| sample_tuple(py, sample)).collect()
    }

    #[pyo3(signature = (page, /))]
    fn set_skew_metrics(&self, page: String) -> PyResult<()> {
        self.get()?.set_skew_metrics(page);
        Ok(())
    }

    fn usage(&self) -> PyResult<String> {
        Ok(self.get()?.usage())
    }

    fn metrics(&self) -> PyResult<String> {
        Ok(self.get()?.metrics())
    }
}

fn sample_tuple<'py>(py: Python<'py>, sample: &InputSample) -> PyResult<Bound<'py, PyTuple>> {
    let named = sample.signature.inputs.iter().zip(&sample.inputs);
    let inputs = named.map(|(spec, tensor)| tensors::to_tuple(py, &spec.name, tensor)).collect::<PyResult<Vec<_>>>()?;
    (&*sample.model, sample.version, sample.signature.name.as_str(), inputs).into_pyobject(py)
}

fn warn_handler(function: Py<PyAny>) -> listen::Warn {
    Arc::new(move |text| {
        // What a logger raises is its own affair.
        Python::attach(|py| drop(function.call1(py, (text,))));
    })
}

fn reload_handler(function: Py<PyAny>) -> listen::ReloadHandler {
    Arc::new(move |request| {
        Python::attach(|py| {
            let called = function.bind(py).call1((PyBytes::new(py, &request),));
            called.map(drop).map_err(|error| from_python(py, &error))
        })
    })
}

fn repository_handler(function: Py<PyAny>) -> listen::RepositoryHandler {
    Arc::new(move |request| {
        Python::attach(|py| {
            let called = function.bind(py).call1((request,)).and_then(|answer| answer.extract());
            called.map_err(|error| from_python(py, &error))
        })
    })
}

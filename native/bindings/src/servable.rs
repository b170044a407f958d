//! Loaded versions: load, run, release.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dataplane::batch::queue::Outputs;
use dataplane::engine::litert::{self, LiteRtEngine};
use dataplane::engine::onnx::{self, OnnxEngine};
use dataplane::engine::remote::RemoteEngine;
use dataplane::engine::tensorflow::{self, TensorFlowEngine};
use dataplane::engine::{Call, Engine};
use dataplane::priority::load_beside_serving;
use dataplane::servable::Latch;
use dataplane::wire::signature::SignatureDescription;
use dataplane::wire::{Signature, Tensor};
use dataplane::{Code, Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::errors::to_python;
use crate::python_engine::PythonEngine;
use crate::tensors;

/// What an engine loaded for one version.
#[pyclass(frozen, module = "servable._native")]
pub(crate) struct Servable {
    inner: Mutex<Option<Arc<dataplane::servable::Servable>>>,
    ended: Arc<Latch>,
}

impl Servable {
    fn new(engine: Box<dyn Engine>, since: Instant) -> Servable {
        let servable = dataplane::servable::Servable::new(engine, since.elapsed());
        Servable { ended: servable.ended(), inner: Mutex::new(Some(servable)) }
    }

    pub(crate) fn get(&self) -> Result<Arc<dataplane::servable::Servable>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clone().ok_or_else(|| Error::new(Code::FailedPrecondition, "This servable was released"))
    }
}

#[pymethods]
impl Servable {
    #[getter]
    fn signatures(&self) -> PyResult<String> {
        let servable = self.get().map_err(to_python)?;
        let described: Vec<SignatureDescription> = servable
            .signatures()
            .iter()
            .filter(|signature| signature.is_callable())
            .map(|signature| signature.as_ref().into())
            .collect();
        serde_json::to_string(&described).map_err(|error| to_python(Error::internal(error.to_string())))
    }

    #[getter]
    fn description(&self) -> PyResult<String> {
        let servable = self.get().map_err(to_python)?;
        let described: Vec<SignatureDescription> =
            servable.signatures().iter().map(|signature| signature.as_ref().into()).collect();
        serde_json::to_string(&described).map_err(|error| to_python(Error::internal(error.to_string())))
    }

    #[getter]
    fn footprint(&self) -> PyResult<u64> {
        Ok(self.get().map_err(to_python)?.footprint())
    }

    #[pyo3(signature = (signature, inputs, outputs, timeout))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        signature: &str,
        inputs: Vec<Bound<'py, PyAny>>,
        outputs: Vec<String>,
        timeout: Option<f64>,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let servable = self.get().map_err(to_python)?;
        let given = inputs.iter().map(tensors::from_python).collect::<PyResult<Vec<_>>>()?;
        let signature = servable
            .signatures()
            .get(signature)
            .ok_or_else(|| Error::new(Code::NotFound, format!("The model has no signature '{signature}'")))
            .map_err(to_python)?
            .clone();
        let inputs = in_order(&signature, given).map_err(to_python)?;
        let wanted = wanted(&signature, &outputs).map_err(to_python)?;
        let deadline = timeout
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .and_then(|limit| Instant::now().checked_add(limit));
        let rows = inputs.first().and_then(Tensor::rows).unwrap_or(1);
        let run = || {
            let call = Call { signature: &signature, inputs: &inputs, outputs: &wanted, deadline, wanted: &|| true };
            servable.run(&call, rows)
        };
        let answers = py.detach(run).map_err(to_python)?;
        wanted
            .iter()
            .zip(&answers)
            .map(|(&index, tensor)| tensors::to_tuple(py, &signature.outputs[index].name, tensor))
            .collect()
    }

    fn release(&self) {
        // The last owner's drop hands the engine to the thread that unloads.
        drop(self.inner.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn wait_ended(&self, py: Python<'_>, timeout: f64) -> bool {
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX);
        py.detach(|| self.ended.wait(timeout))
    }
}

/// The tensors in the signature's order.
fn in_order(signature: &Signature, mut given: Vec<(String, Tensor)>) -> Result<Vec<Tensor>> {
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let index = given
            .iter()
            .position(|(name, _)| *name == spec.name)
            .ok_or_else(|| Error::invalid(format!("The input '{}' is missing", spec.name)))?;
        inputs.push(given.swap_remove(index).1);
    }
    match given.first() {
        None => Ok(inputs),
        Some((name, _)) => {
            let known: Vec<&str> = signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
            Err(Error::invalid(format!("There is no input '{name}'; the inputs are: {}", known.join(", "))))
        }
    }
}

fn wanted(signature: &Signature, names: &[String]) -> Result<Outputs> {
    if names.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    names
        .iter()
        .map(|name| {
            signature.output(name).ok_or_else(|| {
                let known: Vec<&str> = signature.outputs.iter().map(|spec| spec.name.as_str()).collect();
                Error::invalid(format!("There is no output '{name}'; the outputs are: {}", known.join(", ")))
            })
        })
        .collect()
}

#[pyfunction]
pub(crate) fn load(py: Python<'_>, path: &str, engine: &str, options: &str) -> PyResult<Servable> {
    let since = Instant::now();
    let loaded = py.detach(|| match engine {
        "onnx" => load_onnx(path, parse(options)?),
        "tensorflow" => load_tensorflow(path, parse(options)?),
        "litert" => load_litert(path, parse(options)?),
        other => Err(Error::invalid(format!("There is no engine '{other}'"))),
    });
    Ok(Servable::new(loaded.map_err(to_python)?, since))
}

fn load_onnx(path: &str, options: onnx::Options) -> Result<Box<dyn Engine>> {
    // Threads that one run spreads over are made while loading and would keep its low priority for ever.
    let gently = options.intra_op_threads == 1 && options.inter_op_threads == 1;
    let path = path.to_owned();
    load_beside_serving(gently, move || Ok(Box::new(OnnxEngine::load(Path::new(&path), &options)?) as Box<dyn Engine>))
}

fn load_tensorflow(folder: &str, options: tensorflow::Options) -> Result<Box<dyn Engine>> {
    let folder = folder.to_owned();
    // The first load starts the threads that all models run on.
    load_beside_serving(false, move || {
        Ok(Box::new(TensorFlowEngine::load(Path::new(&folder), &options)?) as Box<dyn Engine>)
    })
}

fn load_litert(path: &str, options: litert::Options) -> Result<Box<dyn Engine>> {
    let gently = options.intra_op_threads == 1;
    let path = path.to_owned();
    load_beside_serving(
        gently,
        move || Ok(Box::new(LiteRtEngine::load(Path::new(&path), &options)?) as Box<dyn Engine>),
    )
}

#[pyfunction]
pub(crate) fn load_python(function: Py<PyAny>, signatures: &str, options: &str) -> PyResult<Servable> {
    let since = Instant::now();
    let described: Vec<SignatureDescription> = parse(signatures).map_err(to_python)?;
    let options = parse(options).map_err(to_python)?;
    let engine = PythonEngine::new(function, described, options).map_err(to_python)?;
    Ok(Servable::new(Box::new(engine), since))
}

#[pyfunction]
pub(crate) fn load_remote(signatures: &str, options: &str, unload: Py<PyAny>) -> PyResult<Servable> {
    let since = Instant::now();
    let described: Vec<SignatureDescription> = parse(signatures).map_err(to_python)?;
    let options = parse(options).map_err(to_python)?;
    let farewell = Box::new(move || {
        // While the interpreter ends it takes no calls; the replica then ends with this process.
        Python::try_attach(|py| {
            if let Err(error) = unload.call0(py) {
                error.write_unraisable(py, None);
            }
        });
    });
    let engine = RemoteEngine::new(options, described, farewell).map_err(to_python)?;
    Ok(Servable::new(Box::new(engine), since))
}

/// Reads what Python described.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| Error::invalid(format!("The description cannot be read: {error}")))
}

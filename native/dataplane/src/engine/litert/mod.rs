//! LiteRT (TensorFlow Lite), through the C API of the library inside the installed `ai-edge-litert` wheel.
//!
//! Models are run as TensorFlow Serving runs them: inputs are resized to whatever shape arrives, and quantised tensors are
//! plain integers. What is compiled for a model serves one caller at a time, so there is a pool of it; the weights in the
//! file are mapped once for all.

mod api;
mod file;
mod flatbuffer;
mod flexbuffer;
mod interpreter;
mod memory;
mod model;
mod pool;
mod signatures;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use smallvec::SmallVec;

use self::api::{Api, Model};
use self::file::MappedFile;
use self::interpreter::{Failure, Interpreter};
use self::model::Runnable;
use self::pool::Pool;
use self::signatures::Plan;
use super::{Call, Concurrency, Engine, check_dtypes, footprint_of};
use crate::memory::resident_bytes;
use crate::wire::{Signatures, Tensor};
use crate::{Code, Error, Result};

/// How a model is loaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Absolute path of `libLiteRt.so`.
    pub library: PathBuf,
    /// Threads inside one run.
    pub intra_op_threads: usize,
    /// Most interpreters, that is runs at the same time. They are made when they are needed.
    pub interpreters: usize,
}

/// A loaded `.tflite` file.
pub struct LiteRtEngine {
    // Goes before the model that its interpreters were made from.
    pool: Pool<Interpreter>,
    model: Arc<Model>,
    signatures: Signatures,
    /// How the signature with the same index is run.
    plans: Vec<Plan>,
    runnables: Vec<Runnable>,
    threads: usize,
    footprint: u64,
}

impl LiteRtEngine {
    /// Loads a file, and makes the first interpreter: so a model that LiteRT cannot run is refused here.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when LiteRT cannot be opened or lacks operations, `INVALID_ARGUMENT` for a damaged file.
    pub fn load(path: &Path, options: &Options) -> Result<LiteRtEngine> {
        let api = Api::open(&options.library)?;
        let resident_before = resident_bytes();
        let file = MappedFile::open(path)?;
        let size = file.bytes().len() as u64;
        let described = model::read_model(file.bytes())?;
        let (signatures, plans) = signatures::signatures(&described)?;
        let (runnables, custom_operations) = (described.runnables, described.custom_operations);
        let mut engine = LiteRtEngine {
            pool: Pool::new(options.interpreters.max(1)),
            model: Arc::new(api.model(file)?),
            signatures,
            plans,
            runnables,
            threads: options.intra_op_threads,
            footprint: 0,
        };
        engine.make_first(&custom_operations)?;
        engine.footprint = footprint_of(resident_before, size);
        Ok(engine)
    }

    /// Makes the first interpreter. Operations that LiteRT does not know are missed when memory is laid out; other errors may
    /// come then that only mean that the shapes in the file are none to run on.
    fn make_first(&self, custom_operations: &[String]) -> Result<()> {
        self.pool.with(
            None,
            || self.interpreter(),
            |lent| {
                let Some(interpreter) = lent else { return Ok(()) };
                let mut graphs = self.runnables.iter().enumerate();
                match graphs.try_for_each(|(number, graph)| interpreter.allocate(number, graph)) {
                    Err(error) if !custom_operations.is_empty() => Err(lacks(custom_operations, &error)),
                    _ => Ok(()),
                }
            },
        )
    }

    fn interpreter(&self) -> Result<Interpreter> {
        Interpreter::new(&self.model, self.threads, self.runnables.len())
    }

    /// Runs a plan, once more on a new interpreter where the lent one is worn out. One that broke is left out of the pool.
    fn run_plan(&self, lent: &mut Option<Interpreter>, plan: &Plan, call: &Call<'_>) -> Result<Vec<Tensor>> {
        let graph = &self.runnables[plan.runnable];
        let inputs: SmallVec<[&Tensor; 4]> = plan.inputs.iter().map(|&index| &call.inputs[index]).collect();
        let wanted: SmallVec<[usize; 4]> = call.outputs.iter().map(|&index| plan.outputs[index]).collect();
        let mut interpreter = lent.take().ok_or_else(|| Error::internal("The pool lent no interpreter"))?;
        let mut answer = interpreter.run(plan.runnable, graph, &inputs, &wanted);
        if let Err(Failure::Stale(_)) = answer {
            interpreter = self.interpreter()?;
            answer = interpreter.run(plan.runnable, graph, &inputs, &wanted);
        }
        match answer {
            Ok(outputs) => {
                *lent = Some(interpreter);
                Ok(outputs)
            }
            Err(Failure::Refused(error)) => {
                *lent = Some(interpreter);
                Err(error)
            }
            Err(Failure::Stale(error) | Failure::Broken(error)) => Err(error),
        }
    }
}

fn lacks(operations: &[String], error: &Error) -> Error {
    let names = operations.join(", ");
    let message = format!("The model has operations that LiteRT may lack ({names}). {}", error.message);
    Error::new(Code::FailedPrecondition, message)
}

impl Engine for LiteRtEngine {
    fn name(&self) -> &'static str {
        "litert"
    }

    fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    fn run(&self, call: &Call<'_>) -> Result<Vec<Tensor>> {
        check_dtypes(call)?;
        let plan = &self.plans[self.signatures.position(call.signature)?];
        self.pool.with(call.deadline, || self.interpreter(), |interpreter| self.run_plan(interpreter, plan, call))
    }

    fn footprint(&self) -> u64 {
        self.footprint
    }

    fn concurrency(&self) -> Concurrency {
        // With threads of its own, one run already spreads over the cores.
        if self.threads == 1 { Concurrency::Inline } else { Concurrency::Threads(usize::MAX) }
    }
}

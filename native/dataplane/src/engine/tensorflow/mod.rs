//! TensorFlow, through the C API of the library inside the installed `tensorflow` or `tensorflow-cpu` wheel.
//!
//! SavedModels are loaded as TensorFlow Serving loads them: as a graph and a session, restored, initialised with their
//! tables and asset files, and fed and fetched by tensor names. Nothing of Python's TensorFlow is imported.

mod api;
mod config;
pub(super) mod signatures;
mod tensor;
mod variables;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use smallvec::SmallVec;

use self::api::{Api, OwnedTensor, Session, TfOutput};
use super::{Call, Concurrency, Engine, check_dtypes, footprint};
use crate::memory::resident_bytes;
use crate::wire::{Signature, Signatures, Tensor, TensorSpec};
use crate::{Code, Error, Result};

/// How a SavedModel is loaded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Absolute path of `libtensorflow_cc.so.*`.
    pub library: PathBuf,
    /// Which meta graph: the one with exactly these tags.
    pub tags: Vec<String>,
    /// Threads inside one operator, for the whole process: those of the first load count. 0: one a core.
    #[serde(default)]
    pub intra_op_threads: usize,
    /// Threads that run operators side by side, as above.
    #[serde(default)]
    pub inter_op_threads: usize,
    /// Share of each GPU's memory, from 0 to 1; 0 for TensorFlow's own choice.
    #[serde(default)]
    pub gpu_memory_fraction: f64,
    /// Take a GPU's memory little by little.
    #[serde(default)]
    pub gpu_memory_growth: bool,
    /// A serialized `ConfigProto` to begin with.
    #[serde(default)]
    pub session_config: Vec<u8>,
    /// Libraries of custom operations.
    #[serde(default)]
    pub custom_ops: Vec<PathBuf>,
    /// Libraries of more operations, which are only opened for a graph that has an operation that is not known.
    #[serde(default)]
    pub spare_ops: Vec<PathBuf>,
}

/// How TensorFlow says that a graph has an operation that none of its libraries has.
const UNKNOWN_OPERATION: &str = "Op type not registered";

/// A loaded SavedModel.
pub struct TensorFlowEngine {
    api: &'static Api,
    session: Session,
    signatures: Signatures,
    /// Where the tensors of the signature with the same index are in the graph.
    ends: Vec<Ends>,
    footprint: u64,
    pace: Pace,
}

/// Tensors that are not in the graph are `None`: such a signature is told of, but cannot be run.
struct Ends {
    inputs: Vec<Option<TfOutput>>,
    outputs: Vec<Option<TfOutput>>,
}

// SAFETY: the ends point into the session's graph, which lives as long and is not changed any more.
unsafe impl Send for Ends {}
// SAFETY: as above.
unsafe impl Sync for Ends {}

impl TensorFlowEngine {
    /// Loads the SavedModel in a folder.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when TensorFlow cannot be opened, else what it says about the folder.
    pub fn load(folder: &Path, options: &Options) -> Result<TensorFlowEngine> {
        let api = Api::open(&options.library)?;
        api.load_custom_ops(&options.custom_ops)?;
        let config = config::session_config(options);
        let mut resident_before = resident_bytes();
        let (session, meta_graph) = match api.load(folder, &options.tags, &config) {
            Err(error) if error.message.contains(UNKNOWN_OPERATION) && !options.spare_ops.is_empty() => {
                api.load_custom_ops(&options.spare_ops)?;
                resident_before = resident_bytes();
                api.load(folder, &options.tags, &config)?
            }
            loaded => loaded?,
        };
        variables::check(folder, &meta_graph)?;
        let signatures = signatures::read_signatures(&meta_graph)?;
        let ends = signatures.iter().map(|signature| Ends::find(&session, signature)).collect();
        let footprint = footprint(resident_before, folder);
        Ok(TensorFlowEngine { api, session, signatures, ends, footprint, pace: Pace::default() })
    }

    /// The version of the library, e.g. `2.21.0`.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when it cannot be opened.
    pub fn library_version(library: &Path) -> Result<String> {
        Ok(Api::open(library)?.version())
    }

    fn fetch(&self, ends: &Ends, call: &Call<'_>) -> Result<Vec<OwnedTensor>> {
        let signature = call.signature;
        let inputs = located(&ends.inputs, &signature.inputs, 0..signature.inputs.len())?;
        let outputs = located(&ends.outputs, &signature.outputs, call.outputs.iter().copied())?;
        let values = call
            .inputs
            .iter()
            .map(|tensor| tensor::to_tensorflow(self.api, tensor))
            .collect::<Result<SmallVec<[_; 4]>>>()?;
        let start = Instant::now();
        let found = if self.pace.runs_inline() {
            self.session.run(config::INLINE, &inputs, &values, &outputs)?
        } else {
            self.session.run(&config::pooled(call.deadline), &inputs, &values, &outputs)?
        };
        self.pace.note(start.elapsed());
        Ok(found)
    }
}

impl Ends {
    fn find(session: &Session, signature: &Signature) -> Ends {
        let find = |specs: &[TensorSpec]| specs.iter().map(|spec| session.output(&spec.tensor_name)).collect();
        Ends { inputs: find(&signature.inputs), outputs: find(&signature.outputs) }
    }
}

fn located(
    ends: &[Option<TfOutput>],
    specs: &[TensorSpec],
    wanted: impl Iterator<Item = usize>,
) -> Result<SmallVec<[TfOutput; 4]>> {
    wanted
        .map(|index| {
            ends[index].ok_or_else(|| {
                let TensorSpec { name, tensor_name, .. } = &specs[index];
                Error::new(
                    Code::FailedPrecondition,
                    format!("The graph has no tensor '{tensor_name}' for '{name}' of the signature"),
                )
            })
        })
        .collect()
}

impl Engine for TensorFlowEngine {
    fn name(&self) -> &'static str {
        "tensorflow"
    }

    fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    fn run(&self, call: &Call<'_>) -> Result<Vec<Tensor>> {
        check_dtypes(call)?;
        let found = match self.signatures.position(call.signature) {
            Ok(index) => self.fetch(&self.ends[index], call)?,
            // Made of several.
            Err(_) => self.fetch(&Ends::find(&self.session, call.signature), call)?,
        };
        found
            .into_iter()
            .zip(call.outputs)
            .map(|(tensor, &index)| tensor::from_tensorflow(tensor, &call.signature.outputs[index].name))
            .collect()
    }

    fn joins_signatures(&self) -> bool {
        true
    }

    fn footprint(&self) -> u64 {
        self.footprint
    }

    fn concurrency(&self) -> Concurrency {
        Concurrency::Inline
    }
}

/// The shortest run so far, which decides whether the next ones stay on their threads: handing a run to TensorFlow's pool
/// costs more than a small graph takes. A large one gains from the pool, and there it can be given up at its deadline.
struct Pace {
    shortest_nanos: AtomicU64,
}

impl Pace {
    const SMALL: Duration = Duration::from_millis(1);

    fn runs_inline(&self) -> bool {
        Duration::from_nanos(self.shortest_nanos.load(Ordering::Relaxed)) <= Self::SMALL
    }

    fn note(&self, took: Duration) {
        self.shortest_nanos.fetch_min(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { shortest_nanos: AtomicU64::new(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_stays_on_its_thread_once_one_run_was_short() {
        let pace = Pace::default();
        assert!(!pace.runs_inline(), "its first run may take for ever");
        // The first run also prepares the graph.
        pace.note(Duration::from_millis(30));
        assert!(!pace.runs_inline());
        pace.note(Duration::from_micros(40));
        pace.note(Duration::from_millis(30));
        assert!(pace.runs_inline());
    }
}

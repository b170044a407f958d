//! Engines: code that runs one format, behind one trait.

pub mod library;
pub mod litert;
pub mod onnx;
pub mod tensorflow;

use std::path::Path;
use std::time::Instant;

use crate::memory::resident_bytes;
use crate::wire::{Signature, Signatures, Tensor};
use crate::{Error, Result};

/// One run of one signature.
pub struct Call<'a> {
    pub signature: &'a Signature,
    /// In the order of `signature.inputs`.
    pub inputs: &'a [Tensor],
    /// Which of `signature.outputs` are wanted, by index and in this order.
    pub outputs: &'a [usize],
    /// When the answer is of no use any more. An engine that can stop early does; others may ignore it.
    pub deadline: Option<Instant>,
}

/// Where and how often at once an engine may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// From any number of threads, also from those that own sockets while a run is short.
    Inline,
    /// From at most so many engine threads at once, never from a thread that owns sockets.
    Threads(usize),
}

/// What an engine has loaded for one version. Dropping it unloads it.
pub trait Engine: Send + Sync {
    /// The engine's name, e.g. `onnx`.
    fn name(&self) -> &'static str;

    /// What it takes and gives.
    fn signatures(&self) -> &Signatures;

    /// Runs one signature; outputs come in the order of `call.outputs`.
    ///
    /// # Errors
    /// Whatever the model's own code says, with the canonical code that fits. Inputs of other dtypes or shapes than
    /// the model can take are errors of the engine, not of the caller's checks.
    fn run(&self, call: &Call<'_>) -> Result<Vec<Tensor>>;

    /// Whether `run` also takes signatures that are made of several of its own with the same inputs, see
    /// [`Signature::joint`].
    fn joins_signatures(&self) -> bool {
        false
    }

    /// Bytes of memory held, as well as the engine can tell.
    fn footprint(&self) -> u64;

    fn concurrency(&self) -> Concurrency;
}

/// Refuses inputs of another dtype than the signature says, in the words of TensorFlow's runtime.
pub fn check_dtypes(call: &Call<'_>) -> Result<()> {
    for (index, (tensor, spec)) in call.inputs.iter().zip(&call.signature.inputs).enumerate() {
        if tensor.dtype != spec.dtype {
            return Err(Error::invalid(format!(
                "Expects arg[{index}] to be {} but {} is provided",
                spec.dtype.text(),
                tensor.dtype.text()
            )));
        }
    }
    Ok(())
}

/// Bytes that a load seems to have taken, by what was resident before and by the files in its folder.
///
/// Resident memory also moves with whatever else the process does meanwhile: the files' size bounds the noise.
fn footprint(resident_before: u64, folder: &Path) -> u64 {
    footprint_of(resident_before, bytes_on_disk(folder))
}

/// As above, for a format of one file with so many bytes.
fn footprint_of(resident_before: u64, on_disk: u64) -> u64 {
    resident_bytes().saturating_sub(resident_before).clamp(on_disk, on_disk.saturating_mul(4))
}

fn bytes_on_disk(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let metadata = path.metadata().ok()?;
            Some(if metadata.is_dir() { bytes_on_disk(&path) } else { metadata.len() })
        })
        .sum()
}

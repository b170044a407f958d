//! One compiled model with the memory of its inputs and outputs: what a caller has for itself while it runs.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::api::{CompiledModel, Layout, Model, TensorBuffer};
use super::model::{Port, Runnable};
use crate::wire::tensor::element_count;
use crate::wire::{DType, Data, Shape, Tensor};
use crate::{Code, Error, Result};

/// How LiteRT says that an output's memory does not suffice.
const TOO_SMALL: &str = "Custom allocation is too small";
/// Room for an output whose shape only the run tells: so much at first, then always so many times more.
const FIRST_ROOM: usize = 1 << 12;
const MORE_ROOM: usize = 8;
const MOST_ROOM: usize = 1 << 31;

/// Why a call got no answer, and what is to be done with the interpreter.
pub(super) enum Failure {
    /// The call cannot be run; the interpreter is as good as before.
    Refused(Error),
    /// What earlier calls left behind is in the way: a new interpreter may do it.
    Stale(Error),
    /// Operations failed half-way: nothing is known of what they left behind.
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Refused(error)
    }
}

/// Runs one call at a time.
pub(super) struct Interpreter {
    compiled: CompiledModel,
    /// By the number of the signature; `None` before its first call, and after one that failed.
    prepared: Vec<Option<Prepared>>,
    /// Whether an input that the file calls a scalar was given another shape, from which there is no way back.
    resized_scalar: bool,
}

/// What fits inputs of certain shapes.
struct Prepared {
    shapes: SmallVec<[Shape; 4]>,
    inputs: Vec<TensorBuffer>,
    outputs: Vec<TensorBuffer>,
}

impl Interpreter {
    pub(super) fn new(model: &Arc<Model>, threads: usize, signatures: usize) -> Result<Interpreter> {
        let prepared = (0..signatures).map(|_| None).collect();
        Ok(Interpreter { compiled: model.compile(threads)?, prepared, resized_scalar: false })
    }

    /// Has every operation of a graph look at its inputs, in the shapes that the file says.
    ///
    /// # Errors
    /// What operations say that are not there, or that do not take such shapes.
    pub(super) fn allocate(&mut self, number: usize, graph: &Runnable) -> Result<()> {
        self.compiled.output_layouts(number, graph.outputs.len(), true).map(drop)
    }

    /// Runs a graph on its inputs, in their order; gives the outputs at the places in `wanted`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where the graph cannot run on them, `UNIMPLEMENTED` for strings.
    pub(super) fn run(
        &mut self,
        number: usize,
        graph: &Runnable,
        inputs: &[&Tensor],
        wanted: &[usize],
    ) -> Result<Vec<Tensor>, Failure> {
        let fits = |prepared: &Prepared| prepared.shapes.iter().zip(inputs).all(|(shape, input)| *shape == input.shape);
        let mut prepared = match self.prepared[number].take().filter(fits) {
            Some(prepared) => prepared,
            None => self.prepare(number, graph, inputs)?,
        };
        prepared.fill(graph, inputs)?;
        self.invoke(number, graph, &mut prepared, inputs).map_err(Failure::Broken)?;
        let layouts = self.compiled.output_layouts(number, graph.outputs.len(), false)?;
        let read = |&place: &usize| read(&graph.outputs[place], &layouts[place], &prepared.outputs[place]);
        let outputs = wanted.iter().map(read).collect::<Result<Vec<_>>>()?;
        self.prepared[number] = Some(prepared);
        Ok(outputs)
    }

    fn prepare(&mut self, number: usize, graph: &Runnable, inputs: &[&Tensor]) -> Result<Prepared, Failure> {
        let layouts = graph.inputs.iter().zip(inputs).map(|(port, input)| layout_of(port, input));
        let layouts = layouts.collect::<Result<SmallVec<[Layout; 4]>>>()?;
        for (place, (port, layout)) in graph.inputs.iter().zip(&layouts).enumerate() {
            if !layout.shape().is_empty() {
                self.resized_scalar |= port.shape.is_empty();
                self.compiled.resize(number, place, layout)?;
            } else if self.resized_scalar {
                return Err(Failure::Stale(Error::internal("LiteRT cannot make a scalar of a tensor again")));
            }
        }
        let shapes = self.compiled.output_layouts(number, graph.outputs.len(), true).map_err(|error| {
            // The memory that an output had in the last run does not go away by itself.
            if error.message.contains(TOO_SMALL) { Failure::Stale(error) } else { Failure::Refused(error) }
        })?;
        let buffers = |ports: &[Port], layouts: &[Layout]| {
            let buffer = |(port, layout): (&Port, &Layout)| {
                self.compiled.buffer(port.element.litert(), layout, byte_count(port, layout.shape())?)
            };
            ports.iter().zip(layouts).map(buffer).collect::<Result<Vec<_>>>()
        };
        Ok(Prepared {
            inputs: buffers(&graph.inputs, &layouts)?,
            outputs: buffers(&graph.outputs, &shapes)?,
            shapes: inputs.iter().map(|input| input.shape.clone()).collect(),
        })
    }

    fn invoke(&mut self, number: usize, graph: &Runnable, prepared: &mut Prepared, inputs: &[&Tensor]) -> Result<()> {
        let mut room = FIRST_ROOM;
        loop {
            match self.compiled.run(number, &prepared.inputs, &prepared.outputs) {
                Err(error) if error.message.contains(TOO_SMALL) && room <= MOST_ROOM => {
                    // The shape of an output depends on values, and LiteRT does not tell how much it lacks.
                    self.widen(graph, prepared, room)?;
                    prepared.fill(graph, inputs)?;
                    room *= MORE_ROOM;
                }
                done => return done,
            }
        }
    }

    fn widen(&self, graph: &Runnable, prepared: &mut Prepared, room: usize) -> Result<()> {
        for (port, output) in graph.outputs.iter().zip(&mut prepared.outputs) {
            let size = output.memory.bytes().len().saturating_mul(MORE_ROOM).max(room);
            *output = self.compiled.buffer(port.element.litert(), &Layout::new(&[1])?, size)?;
        }
        Ok(())
    }
}

impl Prepared {
    fn fill(&mut self, graph: &Runnable, inputs: &[&Tensor]) -> Result<()> {
        for (place, (port, input)) in graph.inputs.iter().zip(inputs).enumerate() {
            let Data::Fixed(bytes) = &input.data else { return Err(no_strings(&port.name)) };
            self.inputs[place].memory.bytes_mut().copy_from_slice(bytes);
            // An input that is an output as well has one memory, and LiteRT takes that of the output.
            let twins = graph.outputs.iter().zip(&mut self.outputs).filter(|(output, _)| output.tensor == port.tensor);
            for (_, twin) in twins {
                if let Some(memory) = twin.memory.bytes_mut().get_mut(..bytes.len()) {
                    memory.copy_from_slice(bytes);
                }
            }
        }
        Ok(())
    }
}

/// # Errors
/// `INVALID_ARGUMENT` for shapes that LiteRT does not take.
fn layout_of(port: &Port, input: &Tensor) -> Result<Layout> {
    // LiteRT makes no tensor empty, and no scalar of what is none.
    if input.is_empty() || (input.shape.is_empty() && !port.shape.is_empty()) {
        let shape = input.shape.as_slice();
        return Err(Error::invalid(format!("LiteRT takes no tensor of shape {shape:?} for '{}'", port.name)));
    }
    Layout::new(&input.shape)
}

fn read(port: &Port, layout: &Layout, buffer: &TensorBuffer) -> Result<Tensor> {
    let size = byte_count(port, layout.shape())?;
    let bytes = buffer.memory.bytes().get(..size).ok_or_else(|| Error::internal("LiteRT gave too short an output"))?;
    let shape = layout.shape().iter().map(|&size| i64::from(size)).collect();
    Tensor::fixed(port.element.dtype(), shape, Bytes::copy_from_slice(bytes))
}

fn byte_count(port: &Port, shape: &[i32]) -> Result<usize> {
    let dtype = port.element.dtype();
    let size = match dtype.size() {
        Some(size) => size,
        None if dtype == DType::String => return Err(no_strings(&port.name)),
        None => {
            return Err(Error::new(
                Code::Unimplemented,
                format!("Output '{}' has a type that is not supported", port.name),
            ));
        }
    };
    let shape: Shape = shape.iter().map(|&size| i64::from(size)).collect();
    element_count(&shape)?
        .checked_mul(size)
        .ok_or_else(|| Error::invalid("The tensor has more elements than memory can hold"))
}

fn no_strings(name: &str) -> Error {
    Error::new(
        Code::Unimplemented,
        format!("'{name}' is a string tensor, which LiteRT's C API cannot carry: serve the SavedModel instead"),
    )
}

//! Signatures: those that TensorFlow Serving's tools put into the file's metadata, and which alone TensorFlow Serving
//! reads; else the file's own; else the tensors' names.

use std::sync::Arc;

use super::flexbuffer::read_map;
use super::model::{Model, Names, Port, Runnable};
use crate::engine::tensorflow::signatures::read_signature;
use crate::wire::signature::DEFAULT_SIGNATURE;
use crate::wire::{Signature, Signatures, TensorSpec};
use crate::{Code, Error, Result};

const METHOD: &str = "tensorflow/serving/predict";

/// How a signature is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The number of LiteRT's signature.
    pub(super) runnable: usize,
    /// For each input of the graph, in its order, the signature's input.
    pub(super) inputs: Vec<usize>,
    /// For each output of the signature, the graph's output.
    pub(super) outputs: Vec<usize>,
}

/// The signatures of a model, sorted by name, and how each is run.
///
/// # Errors
/// `FAILED_PRECONDITION` where a signature names tensors that the graph has not, or leaves inputs out.
pub(super) fn signatures(model: &Model<'_>) -> Result<(Signatures, Vec<Plan>)> {
    let mut found = match model.metadata {
        Some(metadata) => from_metadata(metadata, &model.runnables)?,
        None => model
            .runnables
            .iter()
            .enumerate()
            .map(|(number, runnable)| match &runnable.names {
                Some(names) => from_names(number, runnable, names),
                None => from_tensors(number, runnable),
            })
            .collect::<Result<Vec<_>>>()?,
    };
    found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let (signatures, plans) = found.into_iter().map(|(signature, plan)| (Arc::new(signature), plan)).unzip();
    Ok((Signatures(signatures), plans))
}

/// The file's own signature.
fn from_names(number: usize, runnable: &Runnable, names: &Names) -> Result<(Signature, Plan)> {
    let located = |named: &[(String, i32)], ports: &[Port]| {
        let locate = |(name, tensor): &(String, i32)| {
            // Of several places of one tensor the last counts: LiteRT writes there.
            let place = ports.iter().rposition(|port| port.tensor == *tensor);
            let place = place.ok_or_else(|| unknown(&names.key, name))?;
            Ok((spec(name, &ports[place]), place))
        };
        named.iter().map(locate).collect::<Result<Vec<_>>>()
    };
    let inputs = located(&names.inputs, &runnable.inputs)?;
    let outputs = located(&names.outputs, &runnable.outputs)?;
    planned(&names.key, METHOD, (number, runnable), inputs, outputs)
}

/// For a graph without signatures: its tensors under their own names, as TensorFlow Serving does it.
fn from_tensors(number: usize, runnable: &Runnable) -> Result<(Signature, Plan)> {
    let located = |ports: &[Port]| {
        ports.iter().enumerate().map(|(place, port)| (spec(short(&port.name), port), place)).collect::<Vec<_>>()
    };
    let (inputs, outputs) = (located(&runnable.inputs), located(&runnable.outputs));
    planned(DEFAULT_SIGNATURE, METHOD, (number, runnable), inputs, outputs)
}

/// Serialized `SignatureDef`s by name.
fn from_metadata(metadata: &[u8], runnables: &[Runnable]) -> Result<Vec<(Signature, Plan)>> {
    let entries = read_map(metadata).map_err(|_| {
        Error::invalid("The signatures in the model's metadata ('signature_defs_metadata') are damaged")
    })?;
    entries
        .into_iter()
        .map(|(name, definition)| {
            let definition = read_signature(name.to_owned(), definition)?;
            // The first graph that has all the tensors; where none has, what the first one lacks is told.
            let mut found = runnables.iter().enumerate().map(|runnable| from_definition(runnable, &definition));
            let first = found.next().unwrap_or_else(|| Err(unknown(name, name)));
            first.or_else(|error| found.find_map(Result::ok).ok_or(error))
        })
        .collect()
}

fn from_definition((number, runnable): (usize, &Runnable), definition: &Signature) -> Result<(Signature, Plan)> {
    let located = |specs: &[TensorSpec], ports: &[Port]| {
        let locate = |spec: &TensorSpec| {
            let place = place(&spec.tensor_name, ports);
            let place = place.ok_or_else(|| unknown(&definition.name, &spec.tensor_name))?;
            let mut spec = spec.clone();
            // What a definition says of types is for people; the graph knows. Shapes are often left out.
            spec.dtype = ports[place].element.dtype();
            if spec.shape.as_ref().is_some_and(Vec::is_empty) {
                spec.shape.clone_from(&ports[place].open_shape);
            }
            Ok((spec, place))
        };
        specs.iter().map(locate).collect::<Result<Vec<_>>>()
    };
    let inputs = located(&definition.inputs, &runnable.inputs)?;
    let outputs = located(&definition.outputs, &runnable.outputs)?;
    planned(&definition.name, &definition.method_name, (number, runnable), inputs, outputs)
}

/// Where a tensor is: by its name as it is, else without its `:0`.
fn place(tensor_name: &str, ports: &[Port]) -> Option<usize> {
    let find = |wanted: &str| ports.iter().rposition(|port| port.name == wanted);
    find(tensor_name).or_else(|| find(short(tensor_name)))
}

/// A signature of specs with their places in the graph, and how it is run.
fn planned(
    name: &str,
    method: &str,
    (number, runnable): (usize, &Runnable),
    mut inputs: Vec<(TensorSpec, usize)>,
    mut outputs: Vec<(TensorSpec, usize)>,
) -> Result<(Signature, Plan)> {
    for located in [&mut inputs, &mut outputs] {
        located.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    }
    let fed = |port: &Port| {
        let fed = inputs.iter().position(|(_, place)| runnable.inputs[*place].tensor == port.tensor);
        fed.ok_or_else(|| precondition(format!("Signature '{name}' leaves out the input '{}'", port.name)))
    };
    let plan = Plan {
        runnable: number,
        inputs: runnable.inputs.iter().map(fed).collect::<Result<_>>()?,
        outputs: outputs.iter().map(|(_, place)| *place).collect(),
    };
    let specs = |located: Vec<(TensorSpec, usize)>| located.into_iter().map(|(spec, _)| spec).collect();
    let signature = Signature {
        name: name.to_owned(),
        method_name: method.to_owned(),
        inputs: specs(inputs),
        outputs: specs(outputs),
        ..Signature::default()
    };
    Ok((signature, plan))
}

fn short(tensor_name: &str) -> &str {
    tensor_name.strip_suffix(":0").unwrap_or(tensor_name)
}

fn spec(name: &str, port: &Port) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        tensor_name: port.name.clone(),
        dtype: port.element.dtype(),
        shape: port.open_shape.clone(),
    }
}

fn unknown(signature: &str, tensor: &str) -> Error {
    precondition(format!("The model has no tensor '{tensor}', which signature '{signature}' names"))
}

fn precondition(message: String) -> Error {
    Error::new(Code::FailedPrecondition, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::litert::model::Element;

    fn port(tensor: i32, name: &str) -> Port {
        Port { tensor, name: name.to_owned(), element: Element::FLOAT32, shape: vec![1], open_shape: Some(vec![-1]) }
    }

    fn model(names: Option<Names>) -> Model<'static> {
        let runnable = Runnable {
            inputs: vec![port(3, "b:0"), port(1, "a:0")],
            outputs: vec![port(7, "sum"), port(7, "sum")],
            names,
        };
        Model { runnables: vec![runnable], metadata: None, custom_operations: Vec::new() }
    }

    #[test]
    fn inputs_are_told_by_name_and_run_in_the_order_of_the_graph() {
        let named = |entries: &[(&str, i32)]| entries.iter().map(|&(name, tensor)| (name.to_owned(), tensor)).collect();
        let names = Names { key: "s".into(), inputs: named(&[("x", 3), ("u", 1)]), outputs: named(&[("y", 7)]) };
        let (signatures, plans) = signatures(&model(Some(names))).unwrap();
        let inputs: Vec<_> = signatures.0[0].inputs.iter().map(|spec| (&*spec.name, &*spec.tensor_name)).collect();
        assert_eq!(inputs, [("u", "a:0"), ("x", "b:0")]);
        assert_eq!(plans, [Plan { runnable: 0, inputs: vec![1, 0], outputs: vec![1] }]);
    }

    #[test]
    fn tensors_without_a_signature_go_under_their_own_names() {
        let (signatures, _) = signatures(&model(None)).unwrap();
        let signature = &signatures.0[0];
        assert_eq!((&*signature.name, &*signature.inputs[0].name), ("serving_default", "a"));
    }

    #[test]
    fn a_signature_that_leaves_an_input_out_is_refused() {
        let names = Names { key: "s".into(), inputs: vec![("x".into(), 3)], outputs: vec![("y".into(), 7)] };
        let error = signatures(&model(Some(names))).unwrap_err();
        assert_eq!(error.message, "Signature 's' leaves out the input 'a:0'");
    }
}

//! An inference request and its response, whichever transport carries them.

use crate::wire::{Signature, Tensor, TensorSpec, Text};
use crate::{Error, Result};

/// A request whose tensors are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    /// Empty where the transport names the model elsewhere (REST: in the path).
    pub model: Text,
    /// Empty: the server chooses.
    pub version: Text,
    /// Comes back in the response.
    pub id: Text,
    pub parameters: Parameters,
    pub inputs: Vec<(Text, Tensor)>,
    /// None: all outputs.
    pub outputs: Vec<RequestedOutput>,
}

/// The parameters that mean something here; others are ignored, as the protocol asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// `signature_name`, an extension of ours. Empty: the default signature.
    pub signature_name: Text,
    /// `binary_data_output` (REST): outputs come in binary form unless they say otherwise.
    pub binary_data_output: bool,
}

/// One wanted output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedOutput {
    pub name: Text,
    /// `binary_data` (REST): whether it comes in binary form.
    pub binary_data: Option<bool>,
}

/// What answers a request.
#[derive(Clone, Copy, Debug)]
pub struct InferResponse<'a> {
    pub model: &'a str,
    pub version: i64,
    /// As in the request; empty: none.
    pub id: &'a str,
    pub outputs: &'a [(&'a str, &'a Tensor)],
}

impl InferRequest {
    /// The tensors of the request, in the order of the signature's inputs. They share the memory of the request.
    ///
    /// Shapes are not compared with the signature: that is up to the engine.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the input that is unknown, missing, given twice or of another datatype.
    pub fn bind_inputs(&self, signature: &Signature) -> Result<Vec<Tensor>> {
        let tensors = signature.inputs.iter().map(|spec| self.bind_input(spec)).collect::<Result<Vec<_>>>();
        match tensors {
            Ok(tensors) if self.inputs.len() == tensors.len() => Ok(tensors),
            tensors => {
                Err(self.surplus(signature).or(tensors.err()).unwrap_or_else(|| wrong("An input is given twice")))
            }
        }
    }

    fn bind_input(&self, spec: &TensorSpec) -> Result<Tensor> {
        let (_, tensor) = self
            .inputs
            .iter()
            .find(|(name, _)| **name == *spec.name)
            .ok_or_else(|| wrong(format!("Input '{}' is missing", spec.name)))?;
        if tensor.dtype != spec.dtype {
            return Err(wrong(format!(
                "Input '{}' has datatype {}, but the model takes {}",
                spec.name,
                tensor.dtype.oip(),
                spec.dtype.oip()
            )));
        }
        Ok(tensor.clone())
    }

    /// What is wrong with an input that the model has no use for.
    #[cold]
    fn surplus(&self, signature: &Signature) -> Option<Error> {
        let (name, _) = self.inputs.iter().find(|(name, _)| signature.input(name).is_none())?;
        Some(wrong(format!("Input '{name}' is not one of the model's: {}", names(&signature.inputs))))
    }

    /// Indices of the wanted outputs in the signature's outputs, in the order of the request; all where none is named.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the output that is unknown or asked for twice.
    pub fn resolve_outputs(&self, signature: &Signature) -> Result<Vec<usize>> {
        if self.outputs.is_empty() {
            return Ok((0..signature.outputs.len()).collect());
        }
        let mut indices = Vec::with_capacity(signature.outputs.len());
        for RequestedOutput { name, .. } in &self.outputs {
            let index = signature.output(name).ok_or_else(|| {
                wrong(format!("Output '{name}' is not one of the model's: {}", names(&signature.outputs)))
            })?;
            if indices.contains(&index) {
                return Err(wrong(format!("Output '{name}' is asked for twice")));
            }
            indices.push(index);
        }
        Ok(indices)
    }

    /// Whether the output at this place of [`InferRequest::resolve_outputs`] is wanted in binary form (REST).
    pub fn wants_binary(&self, place: usize) -> bool {
        let wanted = self.outputs.get(place).and_then(|output| output.binary_data);
        wanted.unwrap_or(self.parameters.binary_data_output)
    }
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid(message).with_reason("wrong_tensors")
}

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The same error with the tensor that it is about in front.
#[cold]
pub(super) fn about(kind: &str, name: &str, error: &Error) -> Error {
    let message = format!("{kind} '{name}': {}", error.message);
    Error { message: message.into(), ..error.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::DType;

    fn signature() -> Signature {
        let spec =
            |name: &str, dtype| TensorSpec { name: name.to_owned(), tensor_name: name.to_owned(), dtype, shape: None };
        Signature {
            name: "serving_default".to_owned(),
            method_name: String::new(),
            inputs: vec![spec("a", DType::F32), spec("b", DType::I64)],
            outputs: vec![spec("y", DType::F32), spec("z", DType::F32)],
            ..Signature::default()
        }
    }

    fn a() -> (Text, Tensor) {
        ("a".into(), Tensor::from_vec([1].into_iter().collect(), vec![1f32]).unwrap())
    }

    fn b() -> (Text, Tensor) {
        ("b".into(), Tensor::from_vec([1].into_iter().collect(), vec![1i64]).unwrap())
    }

    fn refusal(inputs: Vec<(Text, Tensor)>) -> String {
        let request = InferRequest { inputs, ..InferRequest::default() };
        request.bind_inputs(&signature()).unwrap_err().message.into_owned()
    }

    #[test]
    fn tensors_come_in_the_order_of_the_signature() {
        let request = InferRequest { inputs: vec![b(), a()], ..InferRequest::default() };
        assert_eq!(request.bind_inputs(&signature()), Ok(vec![a().1, b().1]));
    }

    #[test]
    fn wrong_inputs_are_named() {
        let other = ("c".into(), a().1);
        assert_eq!(refusal(vec![a()]), "Input 'b' is missing");
        assert_eq!(refusal(vec![a(), b(), other.clone()]), "Input 'c' is not one of the model's: a, b");
        assert_eq!(refusal(vec![a(), other]), "Input 'c' is not one of the model's: a, b");
        assert_eq!(refusal(vec![a(), a(), b()]), "An input is given twice");
        assert_eq!(refusal(vec![a(), ("b".into(), a().1)]), "Input 'b' has datatype FP32, but the model takes INT64");
    }

    #[test]
    fn outputs_come_as_they_are_asked_for() {
        let ask = |names: &[&str]| {
            let outputs = names.iter().map(|&name| RequestedOutput { name: name.into(), binary_data: None }).collect();
            InferRequest { outputs, ..InferRequest::default() }.resolve_outputs(&signature())
        };
        assert_eq!(ask(&[]), Ok(vec![0, 1]));
        assert_eq!(ask(&["z"]), Ok(vec![1]));
        assert_eq!(ask(&["q"]).unwrap_err().message, "Output 'q' is not one of the model's: y, z");
        assert_eq!(ask(&["z", "z"]).unwrap_err().message, "Output 'z' is asked for twice");
    }

    #[test]
    fn an_output_may_overrule_the_request_on_its_form() {
        let output = |binary_data| RequestedOutput { name: "y".into(), binary_data };
        let request = InferRequest {
            parameters: Parameters { binary_data_output: true, ..Parameters::default() },
            outputs: vec![output(None), output(Some(false))],
            ..InferRequest::default()
        };
        assert_eq!([0, 1, 2].map(|place| request.wants_binary(place)), [true, false, true]);
    }
}

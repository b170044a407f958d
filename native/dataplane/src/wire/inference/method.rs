//! Which signatures can classify and regress.

use std::sync::Arc;

use crate::wire::signature::DEFAULT_SIGNATURE;
use crate::wire::{DType, Signature, Signatures, TensorSpec};
use crate::{Code, Error, Result};

pub(super) const INPUTS: &str = "inputs";
pub(super) const CLASSES: &str = "classes";
pub(super) const SCORES: &str = "scores";
pub(super) const OUTPUTS: &str = "outputs";

/// What is done with examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Classify,
    Regress,
}

/// The signature called `name` for Classify and Regress; the default one for an empty name.
///
/// # Errors
/// `INVALID_ARGUMENT` with TensorFlow Serving's text when there is none.
pub fn find_signature<'a>(signatures: &'a Signatures, name: &str) -> Result<&'a Arc<Signature>> {
    signatures.get(name).ok_or_else(|| {
        let name = if name.is_empty() { DEFAULT_SIGNATURE } else { name };
        Error::invalid(format!("No signature was found with the name: {name}")).with_reason("signature_not_found")
    })
}

impl Method {
    /// The method called so in a task of MultiInference.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for any other.
    pub fn of_name(name: &str) -> Result<Method> {
        [Method::Classify, Method::Regress].into_iter().find(|method| method.name() == name).ok_or_else(|| {
            let message = format!("Unsupported signature method_name: {name}");
            Error::new(Code::Unimplemented, message).with_reason("unknown_method")
        })
    }

    /// As signatures and tasks name it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Classify => "tensorflow/serving/classify",
            Method::Regress => "tensorflow/serving/regress",
        }
    }

    /// Indices of the outputs that are wanted of a signature: `classes` and `scores`, or `outputs`.
    ///
    /// `check_name`: whether the signature's own `method_name` must be that of this method. (Models made by TensorFlow 2
    /// say `predict` in all of their signatures.)
    ///
    /// # Errors
    /// With TensorFlow Serving's texts, `INVALID_ARGUMENT` and `FAILED_PRECONDITION`, for a signature that does not have
    /// the one input `inputs`, of strings, and these outputs.
    pub fn resolve_outputs(self, signature: &Signature, check_name: bool) -> Result<Vec<usize>> {
        let kind = match self {
            Method::Classify => "classification",
            Method::Regress => "regression",
        };
        if check_name && signature.method_name != self.name() {
            return Err(wrong(format!(
                "Expected {kind} signature method_name to be {}. Was: {}",
                self.name(),
                signature.method_name
            )));
        }
        if signature.inputs.len() != 1 {
            return Err(wrong("Expected one input Tensor.".to_owned()));
        }
        self.check_output_count(signature)?;
        let input = signature
            .input(INPUTS)
            .ok_or_else(|| lacking(format!("No {kind} inputs found in SignatureDef: {}", describe(signature))))?;
        check_strings(&signature.inputs[input])?;
        self.find_outputs(signature)
    }

    fn check_output_count(self, signature: &Signature) -> Result<()> {
        match (self, signature.outputs.len()) {
            (Method::Classify, 1 | 2) | (Method::Regress, 1) => Ok(()),
            (Method::Classify, count) => Err(wrong(format!("Expected one or two output Tensors, found {count}"))),
            (Method::Regress, _) => Err(wrong("Expected one output Tensor.".to_owned())),
        }
    }

    fn find_outputs(self, signature: &Signature) -> Result<Vec<usize>> {
        let names: &[&str] = match self {
            Method::Classify => &[CLASSES, SCORES],
            Method::Regress => &[OUTPUTS],
        };
        let found: Vec<usize> = names.iter().filter_map(|name| signature.output(name)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let signature = describe(signature);
        Err(lacking(match self {
            Method::Classify => format!(
                "Expected classification signature outputs to contain at least one of \"{CLASSES}\" or \"{SCORES}\". \
                 Signature was: {signature}"
            ),
            Method::Regress => format!("No regression outputs found in SignatureDef: {signature}"),
        }))
    }
}

/// In the words of TensorFlow's runtime, which is where upstream finds out.
fn check_strings(input: &TensorSpec) -> Result<()> {
    if input.dtype == DType::String {
        return Ok(());
    }
    Err(wrong(format!("Expects arg[0] to be {} but string is provided", input.dtype.text())))
}

fn wrong(message: String) -> Error {
    Error::invalid(message).with_reason("wrong_signature")
}

fn lacking(message: String) -> Error {
    Error::new(Code::FailedPrecondition, message).with_reason("wrong_signature")
}

/// Names are enough to see what is missing.
fn describe(signature: &Signature) -> String {
    let names = |tensors: &[TensorSpec]| tensors.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
    format!("{}: {} -> {}", signature.name, names(&signature.inputs), names(&signature.outputs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(inputs: &[(&str, DType)], outputs: &[&str]) -> Signature {
        let spec = |name: &str, dtype| TensorSpec { name: name.into(), tensor_name: name.into(), dtype, shape: None };
        Signature {
            name: "s".into(),
            method_name: "tensorflow/serving/predict".into(),
            inputs: inputs.iter().map(|&(name, dtype)| spec(name, dtype)).collect(),
            outputs: outputs.iter().map(|name| spec(name, DType::F32)).collect(),
            ..Signature::default()
        }
    }

    const STRINGS: &[(&str, DType)] = &[("inputs", DType::String)];

    #[test]
    fn classes_come_before_scores_whatever_their_place() {
        let both = signature(STRINGS, &["scores", "classes"]);
        assert_eq!(Method::Classify.resolve_outputs(&both, false), Ok(vec![1, 0]));
        assert_eq!(Method::Classify.resolve_outputs(&signature(STRINGS, &["scores"]), false), Ok(vec![0]));
        assert_eq!(Method::Regress.resolve_outputs(&signature(STRINGS, &["outputs"]), false), Ok(vec![0]));
    }

    #[test]
    fn a_signature_that_does_not_fit_is_told_why() {
        let refusal = |method: Method, inputs: &[(&str, DType)], outputs: &[&str]| {
            let error = method.resolve_outputs(&signature(inputs, outputs), false).unwrap_err();
            (error.code, error.message.into_owned())
        };
        let invalid = |message: &str| (Code::InvalidArgument, message.to_owned());
        let lacking = |message: &str| (Code::FailedPrecondition, message.to_owned());
        use Method::{Classify, Regress};
        let two = [("inputs", DType::String), ("more", DType::String)];
        assert_eq!(refusal(Classify, &two, &["scores"]), invalid("Expected one input Tensor."));
        assert_eq!(
            refusal(Classify, STRINGS, &["a", "b", "c"]),
            invalid("Expected one or two output Tensors, found 3")
        );
        assert_eq!(refusal(Regress, STRINGS, &["outputs", "b"]), invalid("Expected one output Tensor."));
        assert_eq!(
            refusal(Classify, &[("x", DType::String)], &["scores"]),
            lacking("No classification inputs found in SignatureDef: s: x -> scores")
        );
        assert_eq!(
            refusal(Classify, STRINGS, &["y"]),
            lacking(
                "Expected classification signature outputs to contain at least one of \"classes\" or \"scores\". \
                 Signature was: s: inputs -> y"
            )
        );
        assert_eq!(
            refusal(Regress, STRINGS, &["y"]),
            lacking("No regression outputs found in SignatureDef: s: inputs -> y")
        );
        assert_eq!(
            refusal(Regress, &[("inputs", DType::F32)], &["outputs"]),
            invalid("Expects arg[0] to be float but string is provided")
        );
    }

    #[test]
    fn the_method_name_counts_only_where_it_is_checked() {
        let mut signature = signature(STRINGS, &["scores"]);
        let error = Method::Classify.resolve_outputs(&signature, true).unwrap_err();
        assert_eq!(
            error.message,
            "Expected classification signature method_name to be tensorflow/serving/classify. Was: \
             tensorflow/serving/predict"
        );
        signature.method_name = "tensorflow/serving/classify".into();
        assert!(Method::Classify.resolve_outputs(&signature, true).is_ok());
    }

    #[test]
    fn only_classify_and_regress_can_be_tasks() {
        assert_eq!(Method::of_name("tensorflow/serving/regress"), Ok(Method::Regress));
        let error = Method::of_name("tensorflow/serving/predict").unwrap_err();
        assert_eq!(error.code, Code::Unimplemented);
        assert_eq!(error.message, "Unsupported signature method_name: tensorflow/serving/predict");
    }
}

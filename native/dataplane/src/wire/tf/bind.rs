//! A `PredictRequest` against the signature that it names: which inputs, which outputs.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{PredictRequest, read_tensor};
use crate::wire::signature::DEFAULT_SIGNATURE;
use crate::wire::{Budget, Signature, Signatures, Tensor, TensorSpec};
use crate::{Code, Error, Result};

/// The signature called `name` for gRPC's Predict; the default one for an empty name.
///
/// # Errors
/// `FAILED_PRECONDITION` with TF Serving's text when there is none.
pub fn find_signature<'a>(signatures: &'a Signatures, name: &str) -> Result<&'a std::sync::Arc<Signature>> {
    signatures.get(name).ok_or_else(|| {
        let name = if name.is_empty() { DEFAULT_SIGNATURE } else { name };
        let message = format!("Serving signature key \"{name}\" not found.");
        Error::new(Code::FailedPrecondition, message).with_reason("signature_not_found")
    })
}

impl PredictRequest {
    /// The tensors of the request, in the order of the signature's inputs; the signature's defaults for those left out.
    ///
    /// Neither dtypes nor shapes are compared with the signature: that is up to the engine.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with TF Serving's texts when the names are not those of the signature, or when a tensor
    /// cannot be decoded; `RESOURCE_EXHAUSTED` when the tensors take more memory than the budget has.
    pub fn bind_inputs(&self, signature: &Signature, budget: &mut Budget) -> Result<Vec<Tensor>> {
        if self.inputs.len() != signature.inputs.len() {
            self.check_names(signature)?;
        }
        let mut tensors = Vec::with_capacity(signature.inputs.len());
        for input in &signature.inputs {
            let given = self.input(&input.name).or_else(|| signature.defaults.get(&input.name));
            let message = given.ok_or_else(|| self.missing(signature, input))?;
            tensors.push(read_tensor(message, message, budget).map_err(|error| undecodable(error, &input.name))?);
        }
        Ok(tensors)
    }

    fn input(&self, name: &str) -> Option<&Bytes> {
        self.inputs.iter().rfind(|(given, _)| given == name).map(|(_, message)| message)
    }

    fn names(&self) -> BTreeSet<&str> {
        self.inputs.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Other counts of entries are fine only where names are repeated, or left out that have a default.
    fn check_names(&self, signature: &Signature) -> Result<()> {
        let given = self.names();
        let wanted = names(&signature.inputs);
        if given.len() == wanted.len() {
            return Ok(());
        }
        let extra: BTreeSet<&str> = given.difference(&wanted).copied().collect();
        let missing: BTreeSet<&str> =
            wanted.difference(&given).copied().filter(|name| !signature.defaults.contains_key(*name)).collect();
        if extra.is_empty() && missing.is_empty() {
            return Ok(());
        }
        Err(wrong_inputs(format!(
            "input size does not match signature: {}!={} len({{{}}}) != len({{{}}}). Sent extra: {{{}}}. Missing but \
             required: {{{}}}.",
            given.len(),
            wanted.len(),
            join(&given),
            join(&wanted),
            join(&extra),
            join(&missing),
        )))
    }

    #[cold]
    fn missing(&self, signature: &Signature, input: &TensorSpec) -> Error {
        if let Err(error) = self.check_names(signature) {
            return error;
        }
        wrong_inputs(format!(
            "Signature input alias: {}(feed name: {}) not found in request and no default value provided. Inputs \
             expected to be in the request {{{}}}, or default input alias set: {}",
            input.name,
            input.tensor_name,
            join(&self.names()),
            join(&signature.defaults.keys().map(String::as_str).collect()),
        ))
    }

    /// Indices of the wanted outputs in the signature's outputs, in the order of the request; all for an empty filter.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with TF Serving's texts for unknown and for repeated names.
    pub fn resolve_outputs(&self, signature: &Signature) -> Result<Vec<usize>> {
        if self.output_filter.is_empty() {
            return Ok((0..signature.outputs.len()).collect());
        }
        let mut indices = Vec::with_capacity(signature.outputs.len());
        for name in &self.output_filter {
            let index = signature.output(name).ok_or_else(|| unknown_output(signature, name))?;
            if indices.contains(&index) {
                let message = format!("duplicate output tensor alias: {name}");
                return Err(Error::invalid(message).with_reason("wrong_outputs"));
            }
            indices.push(index);
        }
        Ok(indices)
    }
}

#[cold]
fn undecodable(error: Error, name: &str) -> Error {
    match error.code {
        Code::ResourceExhausted => error,
        _ => Error::invalid(format!("tensor parsing error: {name}")).with_reason("malformed_tensor"),
    }
}

#[cold]
fn unknown_output(signature: &Signature, name: &str) -> Error {
    let message = format!(
        "output tensor alias not found in signature: {name} Outputs expected to be in the set {{{}}}.",
        join(&names(&signature.outputs))
    );
    Error::invalid(message).with_reason("wrong_outputs")
}

fn wrong_inputs(message: String) -> Error {
    Error::invalid(message).with_reason("wrong_inputs")
}

fn names(specs: &[TensorSpec]) -> BTreeSet<&str> {
    specs.iter().map(|spec| spec.name.as_str()).collect()
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DType, Data, fixtures};

    fn specs(names: &[&str]) -> Vec<TensorSpec> {
        let spec = |name: &&str| TensorSpec {
            name: name.to_string(),
            tensor_name: format!("{name}:0"),
            dtype: DType::F32,
            shape: None,
        };
        names.iter().map(spec).collect()
    }

    fn signature(inputs: &[&str], outputs: &[&str]) -> Signature {
        Signature {
            name: "serving_default".to_owned(),
            method_name: "tensorflow/serving/predict".to_owned(),
            inputs: specs(inputs),
            outputs: specs(outputs),
            ..Signature::default()
        }
    }

    /// A scalar `DT_FLOAT` of this value.
    fn scalar(value: f32) -> Bytes {
        [&b"\x08\x01\x2a\x04"[..], &value.to_le_bytes()].concat().into()
    }

    fn request(inputs: &[(&str, Bytes)]) -> PredictRequest {
        let inputs = inputs.iter().map(|(name, tensor)| ((*name).into(), tensor.clone())).collect();
        PredictRequest { inputs, ..PredictRequest::default() }
    }

    fn refusal(request: &PredictRequest, signature: &Signature) -> String {
        request.bind_inputs(signature, &mut Budget::new(1 << 10)).unwrap_err().message.into_owned()
    }

    #[test]
    fn tensors_come_in_the_order_of_the_signature() {
        let request = PredictRequest::read(&fixtures::read("tf_predict_request")).unwrap();
        let tensors = request.bind_inputs(&signature(&["x", "words"], &[]), &mut Budget::new(1 << 10)).unwrap();
        assert_eq!(tensors[0].values::<f32>().unwrap().as_ref(), [1., 2.]);
        assert!(matches!(tensors[1].data, Data::Strings(_)));
    }

    #[test]
    fn the_last_of_repeated_names_counts() {
        let request = request(&[("x", scalar(1.)), ("x", scalar(2.))]);
        let tensors = request.bind_inputs(&signature(&["x"], &[]), &mut Budget::new(0)).unwrap();
        assert_eq!(tensors[0].values::<f32>().unwrap().as_ref(), [2.]);
    }

    #[test]
    fn a_wrong_count_of_inputs_is_refused_in_tensorflow_servings_words() {
        assert_eq!(
            refusal(&request(&[("a", scalar(1.))]), &signature(&["b", "a"], &[])),
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but \
             required: {b}."
        );
        assert_eq!(
            refusal(&request(&[("z", scalar(1.)), ("a", scalar(1.))]), &signature(&["a"], &[])),
            "input size does not match signature: 2!=1 len({a,z}) != len({a}). Sent extra: {z}. Missing but \
             required: {}."
        );
        assert_eq!(
            refusal(&request(&[("a", scalar(1.)), ("a", scalar(1.))]), &signature(&["b", "a"], &[])),
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but \
             required: {b}."
        );
    }

    #[test]
    fn a_wrong_name_is_refused_in_tensorflow_servings_words() {
        assert_eq!(
            refusal(&request(&[("y", scalar(1.))]), &signature(&["x"], &[])),
            "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs \
             expected to be in the request {y}, or default input alias set: "
        );
    }

    #[test]
    fn inputs_that_are_left_out_take_the_default_of_the_signature() {
        let defaults = [("b".to_owned(), scalar(7.))].into();
        let signature = Signature { defaults, ..signature(&["a", "b"], &[]) };
        let tensors = request(&[("a", scalar(1.))]).bind_inputs(&signature, &mut Budget::new(0)).unwrap();
        assert_eq!(tensors[1].values::<f32>().unwrap().as_ref(), [7.]);
        let both = request(&[("a", scalar(1.)), ("b", scalar(2.))]);
        assert_eq!(
            both.bind_inputs(&signature, &mut Budget::new(0)).unwrap()[1].values::<f32>().unwrap().as_ref(),
            [2.]
        );
        assert_eq!(
            refusal(&request(&[("b", scalar(1.))]), &signature),
            "input size does not match signature: 1!=2 len({b}) != len({a,b}). Sent extra: {}. Missing but \
             required: {a}."
        );
        assert_eq!(
            refusal(&request(&[("z", scalar(1.)), ("b", scalar(1.))]), &signature),
            "Signature input alias: a(feed name: a:0) not found in request and no default value provided. Inputs \
             expected to be in the request {b,z}, or default input alias set: b"
        );
    }

    #[test]
    fn an_undecodable_tensor_is_named() {
        let broken = Bytes::from_static(b"\x08\x01\x2a\x03abc");
        assert_eq!(refusal(&request(&[("x", broken)]), &signature(&["x"], &[])), "tensor parsing error: x");
        assert_eq!(refusal(&request(&[("x", Bytes::new())]), &signature(&["x"], &[])), "tensor parsing error: x");
    }

    #[test]
    fn inputs_share_one_budget() {
        let filled = Bytes::from_static(b"\x08\x01\x12\x05\x12\x03\x08\xff\x01");
        let request = request(&[("a", filled.clone()), ("b", filled)]);
        assert!(request.bind_inputs(&signature(&["a", "b"], &[]), &mut Budget::new(2 * 1020)).is_ok());
        let error = request.bind_inputs(&signature(&["a", "b"], &[]), &mut Budget::new(2 * 1020 - 1)).unwrap_err();
        assert_eq!((error.code, error.http_status()), (Code::ResourceExhausted, 413));
    }

    #[test]
    fn outputs_come_as_the_filter_says() {
        let signature = signature(&[], &["a", "b", "c"]);
        let filtered = |names: &[&str]| PredictRequest {
            output_filter: names.iter().map(|&name| name.into()).collect(),
            ..request(&[])
        };
        assert_eq!(filtered(&[]).resolve_outputs(&signature).unwrap(), [0, 1, 2]);
        assert_eq!(filtered(&["c", "a"]).resolve_outputs(&signature).unwrap(), [2, 0]);
        assert_eq!(
            filtered(&["a", "z"]).resolve_outputs(&signature).unwrap_err().message,
            "output tensor alias not found in signature: z Outputs expected to be in the set {a,b,c}."
        );
        assert_eq!(
            filtered(&["a", "a"]).resolve_outputs(&signature).unwrap_err().message,
            "duplicate output tensor alias: a"
        );
    }

    #[test]
    fn an_unknown_signature_is_a_failed_precondition() {
        let error = find_signature(&Signatures::default(), "s").unwrap_err();
        assert_eq!((error.code, &*error.message), (Code::FailedPrecondition, "Serving signature key \"s\" not found."));
        let error = find_signature(&Signatures::default(), "").unwrap_err();
        assert_eq!(error.message, "Serving signature key \"serving_default\" not found.");
    }
}

//! What a servable takes and gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::DType;

/// The signature that is meant when a request names none.
pub const DEFAULT_SIGNATURE: &str = "serving_default";

/// One named input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name clients use.
    pub name: String,
    /// The name inside the model, e.g. `x:0`; equal to `name` where the format has no other.
    pub tensor_name: String,
    pub dtype: DType,
    /// Dimensions with -1 for an open one; `None` for unknown rank.
    pub shape: Option<Vec<i64>>,
}

/// Named inputs to named outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    /// E.g. `tensorflow/serving/predict`.
    pub method_name: String,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// Serialized `TensorProto`s for inputs that a request may leave out, by their names. Only TensorFlow has them, and
    /// only its gRPC Predict fills them in.
    pub defaults: BTreeMap<String, Bytes>,
}

impl Signature {
    pub fn input(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|spec| spec.name == name)
    }

    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|spec| spec.name == name)
    }

    /// One signature with the outputs of several, one after the other, and what they all take. `None` where they take
    /// different things.
    pub fn joint(signatures: &[&Signature]) -> Option<Signature> {
        let (first, others) = signatures.split_first()?;
        if others.iter().any(|other| other.inputs != first.inputs) {
            return None;
        }
        let names: Vec<&str> = signatures.iter().map(|signature| signature.name.as_str()).collect();
        Some(Signature {
            // No signature of a model has such a name.
            name: names.join("\0"),
            inputs: first.inputs.clone(),
            outputs: signatures.iter().flat_map(|signature| &signature.outputs).cloned().collect(),
            ..Signature::default()
        })
    }

    /// Whether tensors on the wire can be all that it takes and gives. SavedModels also list operations that no client
    /// calls, such as the one that initialises them.
    pub fn is_callable(&self) -> bool {
        self.inputs.iter().chain(&self.outputs).all(|spec| !matches!(spec.dtype, DType::Other(_)))
    }
}

/// All signatures of one servable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures(pub Vec<Arc<Signature>>);

impl Signatures {
    /// The signature called `name`; the default one for an empty name.
    pub fn get(&self, name: &str) -> Option<&Arc<Signature>> {
        let name = if name.is_empty() { DEFAULT_SIGNATURE } else { name };
        self.0.iter().find(|signature| signature.name == name)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Signature>> {
        self.0.iter()
    }

    /// Where a signature is in the list, for engines that keep more about each. It is found by its address when it is one
    /// of the list, as it is in every request, else by its name.
    ///
    /// # Errors
    /// `INTERNAL` when there is none of that name.
    pub fn position(&self, signature: &Signature) -> crate::Result<usize> {
        let same = |listed: &Arc<Signature>| std::ptr::eq(Arc::as_ptr(listed), signature);
        self.0
            .iter()
            .position(same)
            .or_else(|| self.0.iter().position(|listed| listed.name == signature.name))
            .ok_or_else(|| crate::Error::internal("The signature is not of this model"))
    }
}

/// The form in which signatures cross to and from Python: OIP dtype names, plain lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignatureDescription {
    pub name: String,
    #[serde(default = "predict_method")]
    pub method_name: String,
    pub inputs: Vec<TensorDescription>,
    pub outputs: Vec<TensorDescription>,
}

/// See [`SignatureDescription`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TensorDescription {
    pub name: String,
    /// OIP name, e.g. `FP32`, `BYTES`.
    pub datatype: String,
    /// `None`: unknown rank.
    pub shape: Option<Vec<i64>>,
    #[serde(default)]
    pub tensor_name: Option<String>,
}

fn predict_method() -> String {
    "tensorflow/serving/predict".to_owned()
}

impl From<&Signature> for SignatureDescription {
    fn from(signature: &Signature) -> Self {
        let describe = |spec: &TensorSpec| TensorDescription {
            name: spec.name.clone(),
            datatype: spec.dtype.oip().to_owned(),
            shape: spec.shape.clone(),
            tensor_name: Some(spec.tensor_name.clone()),
        };
        SignatureDescription {
            name: signature.name.clone(),
            method_name: signature.method_name.clone(),
            inputs: signature.inputs.iter().map(describe).collect(),
            outputs: signature.outputs.iter().map(describe).collect(),
        }
    }
}

impl TryFrom<SignatureDescription> for Signature {
    type Error = crate::Error;

    fn try_from(description: SignatureDescription) -> crate::Result<Self> {
        let read = |tensor: TensorDescription| {
            let dtype = DType::from_oip(&tensor.datatype).ok_or_else(|| {
                crate::Error::invalid(format!("Unknown datatype '{}' of '{}'", tensor.datatype, tensor.name))
            })?;
            let tensor_name = tensor.tensor_name.unwrap_or_else(|| tensor.name.clone());
            Ok(TensorSpec { name: tensor.name, tensor_name, dtype, shape: tensor.shape })
        };
        Ok(Signature {
            name: description.name,
            method_name: description.method_name,
            inputs: description.inputs.into_iter().map(read).collect::<crate::Result<_>>()?,
            outputs: description.outputs.into_iter().map(read).collect::<crate::Result<_>>()?,
            ..Signature::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_that_take_the_same_are_joined() {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            tensor_name: name.to_owned(),
            dtype: DType::F32,
            shape: None,
        };
        let signature = |name: &str, input: &str, output: &str| Signature {
            name: name.to_owned(),
            inputs: vec![spec(input)],
            outputs: vec![spec(output)],
            ..Signature::default()
        };
        let (a, b, other) = (signature("a", "x", "y"), signature("b", "x", "z"), signature("c", "w", "z"));
        let joint = Signature::joint(&[&a, &b]).unwrap();
        assert_eq!((joint.inputs, joint.outputs), (vec![spec("x")], vec![spec("y"), spec("z")]));
        assert_eq!(Signature::joint(&[&a, &other]), None);
        assert_eq!(Signature::joint(&[]), None);
    }

    #[test]
    fn a_signature_is_found_by_its_address_or_by_its_name() {
        let named = |name: &str| Signature { name: name.to_owned(), ..Signature::default() };
        let signatures = Signatures(vec![Arc::new(named("a")), Arc::new(named("b"))]);
        assert_eq!(signatures.position(&signatures.0[1]), Ok(1));
        assert_eq!(signatures.position(&named("b")), Ok(1));
        assert!(signatures.position(&named("c")).is_err());
    }
}

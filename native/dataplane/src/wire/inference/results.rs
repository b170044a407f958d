//! What a model gave for examples, checked and seen as classes or as values.

use std::borrow::Cow;

use bytes::Bytes;

use super::Method;
use super::method::{CLASSES, SCORES};
use crate::wire::{DType, Data, Signature, Tensor};
use crate::{Error, Result};

/// The results for the examples of one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Results<'a> {
    Classes(Classes<'a>),
    /// One value for each example.
    Values(Cow<'a, [f32]>),
}

/// The same number of classes for each example.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes<'a> {
    /// How many examples there are.
    pub rows: usize,
    /// How many classes each of them has.
    pub count: usize,
    labels: Option<&'a [Bytes]>,
    scores: Option<Cow<'a, [f32]>>,
}

impl<'a> Results<'a> {
    /// `outputs` are those that [`Method::resolve_outputs`] asked for, as `wanted`; `rows` is the number of examples.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with TensorFlow Serving's texts where shapes or types are not those of classes or values.
    pub fn read(
        method: Method,
        signature: &Signature,
        wanted: &[usize],
        outputs: &'a [Tensor],
        rows: usize,
    ) -> Result<Results<'a>> {
        let output = |name: &str| {
            let place = wanted.iter().position(|&index| signature.outputs[index].name == name)?;
            outputs.get(place)
        };
        match method {
            Method::Classify => Classes::read(output(CLASSES), output(SCORES), rows).map(Results::Classes),
            Method::Regress => match outputs {
                [output] => read_values(output, rows).map(Results::Values),
                _ => Err(Error::internal("The engine did not give the one output that was asked for")),
            },
        }
    }
}

impl<'a> Classes<'a> {
    fn read(classes: Option<&'a Tensor>, scores: Option<&'a Tensor>, rows: usize) -> Result<Classes<'a>> {
        let mut counts = [None, None];
        for (count, (name, tensor, dtype)) in
            counts.iter_mut().zip([(CLASSES, classes, DType::String), (SCORES, scores, DType::F32)])
        {
            *count = tensor.map(|tensor| class_count(name, tensor, dtype, rows)).transpose()?;
        }
        if let [Some(classes), Some(scores)] = counts
            && classes != scores
        {
            return Err(wrong(format!(
                "Tensors class and score should match in dim_size(1). Got {classes} vs. {scores}"
            )));
        }
        let labels = classes.and_then(|tensor| match &tensor.data {
            Data::Strings(labels) => Some(labels.as_slice()),
            Data::Fixed(_) => None,
        });
        let count = counts[0].or(counts[1]).unwrap_or(0);
        Ok(Classes { rows, count, labels, scores: scores.and_then(Tensor::values) })
    }

    /// Label and score of each class of an example: an empty label, or 0, where the model gives none.
    ///
    /// # Panics
    /// When there are not so many examples.
    pub fn of_row(&self, row: usize) -> impl Iterator<Item = (&[u8], f32)> {
        (row * self.count..(row + 1) * self.count).map(|index| {
            let label = self.labels.map_or(&b""[..], |labels| &labels[index]);
            (label, self.scores.as_ref().map_or(0.0, |scores| scores[index]))
        })
    }
}

/// The second dimension of `[rows, classes]`.
fn class_count(name: &str, tensor: &Tensor, dtype: DType, rows: usize) -> Result<usize> {
    let &[batch, count] = tensor.shape.as_slice() else {
        let shape = shape_text(tensor);
        return Err(wrong(format!("Expected Tensor shape: [batch_size num_classes] but got {shape}")));
    };
    if tensor.dtype != dtype {
        let (expected, got) = (dtype.tf_name(), tensor.dtype.tf_name());
        return Err(wrong(format!("Expected {name} Tensor of {expected}. Got: {got}")));
    }
    if batch as usize != rows {
        return Err(wrong(format!("Expected {name} output batch size of {rows}. Got: {batch}")));
    }
    Ok(count as usize)
}

/// The values of `[rows]` or `[rows, 1]`.
fn read_values(tensor: &Tensor, rows: usize) -> Result<Cow<'_, [f32]>> {
    let &([batch] | [batch, 1]) = tensor.shape.as_slice() else {
        let shape = shape_text(tensor);
        return Err(wrong(format!(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {shape}"
        )));
    };
    if batch as usize != rows {
        return Err(wrong(format!("Input batch size did not match output batch size: {rows} vs. {batch}")));
    }
    tensor
        .values()
        .ok_or_else(|| wrong(format!("Expected output Tensor of DT_FLOAT.  Got: {}", tensor.dtype.tf_name())))
}

fn shape_text(tensor: &Tensor) -> String {
    let dims: Vec<String> = tensor.shape.iter().map(i64::to_string).collect();
    format!("[{}]", dims.join(","))
}

fn wrong(message: String) -> Error {
    Error::invalid(message).with_reason("wrong_outputs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        Tensor::from_vec(shape.into(), (0..count).map(|index| index as f32).collect()).unwrap()
    }

    fn words(shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        Tensor::strings(shape.into(), (0..count).map(|index| index.to_string().into()).collect()).unwrap()
    }

    fn classes<'a>(classes: Option<&'a Tensor>, scores: Option<&'a Tensor>) -> Result<Classes<'a>> {
        Classes::read(classes, scores, 2)
    }

    #[test]
    fn classes_have_a_label_a_score_or_both() {
        let (labels, scores) = (words(&[2, 2]), floats(&[2, 2]));
        let both = classes(Some(&labels), Some(&scores)).unwrap();
        assert_eq!(both.of_row(1).collect::<Vec<_>>(), [(&b"2"[..], 2.0), (&b"3"[..], 3.0)]);
        let only_scores = classes(None, Some(&scores)).unwrap();
        assert_eq!(only_scores.of_row(0).collect::<Vec<_>>(), [(&b""[..], 0.0), (&b""[..], 1.0)]);
        let only_labels = classes(Some(&labels), None).unwrap();
        assert_eq!(only_labels.of_row(1).collect::<Vec<_>>(), [(&b"2"[..], 0.0), (&b"3"[..], 0.0)]);
    }

    #[test]
    fn outputs_that_are_no_classes_are_told_apart() {
        let refusal = |labels: Option<&Tensor>, scores: Option<&Tensor>| {
            Classes::read(labels, scores, 2).unwrap_err().message.into_owned()
        };
        let shape = "Expected Tensor shape: [batch_size num_classes] but got [2]";
        assert_eq!(refusal(None, Some(&floats(&[2]))), shape);
        assert_eq!(refusal(Some(&words(&[2])), None), shape);
        assert_eq!(refusal(None, Some(&words(&[2, 1]))), "Expected scores Tensor of DT_FLOAT. Got: DT_STRING");
        assert_eq!(refusal(Some(&floats(&[2, 1])), None), "Expected classes Tensor of DT_STRING. Got: DT_FLOAT");
        assert_eq!(refusal(None, Some(&floats(&[3, 1]))), "Expected scores output batch size of 2. Got: 3");
        assert_eq!(
            refusal(Some(&words(&[2, 3])), Some(&floats(&[2, 2]))),
            "Tensors class and score should match in dim_size(1). Got 3 vs. 2"
        );
    }

    #[test]
    fn values_are_one_for_each_example() {
        assert_eq!(read_values(&floats(&[2]), 2).unwrap().as_ref(), [0.0, 1.0]);
        assert_eq!(read_values(&floats(&[2, 1]), 2).unwrap().as_ref(), [0.0, 1.0]);
        let refusal = |tensor: &Tensor| read_values(tensor, 2).unwrap_err().message.into_owned();
        assert_eq!(
            refusal(&floats(&[2, 2])),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]"
        );
        assert_eq!(refusal(&floats(&[3])), "Input batch size did not match output batch size: 2 vs. 3");
        assert_eq!(refusal(&words(&[2])), "Expected output Tensor of DT_FLOAT.  Got: DT_STRING");
    }
}

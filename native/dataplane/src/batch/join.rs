//! Rows of several requests into one set of tensors, and its outputs back into each request's own.

use bytes::{Bytes, BytesMut};

use crate::wire::tensor::element_count;
use crate::wire::{DType, Data, Shape, Tensor};
use crate::{Code, Error, Result};

/// Joins tensors along dimension 0, then repeats the last part's first row until there are `total` rows.
///
/// With `pad`, dimensions after the first may differ: shorter parts are filled with their own first element, as TF
/// Serving does. Without, they must be equal (the batch former sees to it).
pub(crate) fn join(parts: &[&Tensor], total: usize, pad: bool) -> Result<Tensor> {
    let first = parts[0];
    let mut shape = first.shape.clone();
    if pad {
        for part in parts {
            shape.iter_mut().zip(&part.shape).skip(1).for_each(|(most, &dim)| *most = (*most).max(dim));
        }
    }
    shape[0] = total as i64;
    let widened: Vec<Tensor>;
    let parts: Vec<&Tensor> = if parts.iter().any(|part| part.shape[1..] != shape[1..]) {
        widened = parts.iter().map(|part| widen(part, &shape[1..])).collect::<Result<_>>()?;
        widened.iter().collect()
    } else {
        parts.to_vec()
    };
    let rows: usize = parts.iter().filter_map(|part| part.rows()).sum();
    let filler = parts.last().filter(|last| rows < total && last.rows() > Some(0)).map(|last| last.slice_rows(0, 1));
    let parts = parts.iter().copied().chain(filler.iter().cycle().take(total.saturating_sub(rows)));
    let data = match first.dtype {
        DType::String => Data::Strings(parts.flat_map(|part| strings(part).iter().cloned()).collect()),
        _ => Data::Fixed(concatenate(parts, element_count(&shape)? * first.dtype.size().unwrap_or(0))),
    };
    Ok(Tensor { dtype: first.dtype, shape, data })
}

fn concatenate<'a>(parts: impl Iterator<Item = &'a Tensor>, len: usize) -> Bytes {
    let mut joined = BytesMut::with_capacity(len);
    for part in parts {
        if let Data::Fixed(bytes) = &part.data {
            joined.extend_from_slice(bytes);
        }
    }
    joined.freeze()
}

fn strings(tensor: &Tensor) -> &[Bytes] {
    match &tensor.data {
        Data::Strings(strings) => strings,
        Data::Fixed(_) => &[],
    }
}

/// The tensor in a larger shape behind dimension 0, filled with its own first element.
fn widen(tensor: &Tensor, tail: &[i64]) -> Result<Tensor> {
    let mut shape = Shape::from_slice(&tensor.shape[..1]);
    shape.extend_from_slice(tail);
    let count = element_count(&shape)?;
    let old = &tensor.shape;
    let places = |visit: &mut dyn FnMut(usize, usize)| {
        // Row-major walk over the old elements with their place in the new shape.
        let mut index = vec![0i64; old.len()];
        for from in 0..tensor.len() {
            let to = index.iter().zip(&shape).fold(0i64, |place, (&at, &dim)| place * dim + at);
            visit(from, to as usize);
            for axis in (0..old.len()).rev() {
                index[axis] += 1;
                if index[axis] < old[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    };
    let data = match &tensor.data {
        Data::Strings(strings) => {
            let mut wide = vec![strings.first().cloned().unwrap_or_default(); count];
            places(&mut |from, to| wide[to] = strings[from].clone());
            Data::Strings(wide)
        }
        Data::Fixed(bytes) => {
            let size = tensor.dtype.size().unwrap_or(1);
            let fill = bytes.get(..size).unwrap_or(&[]);
            let mut wide = if fill.is_empty() { vec![0; count * size] } else { fill.repeat(count) };
            places(&mut |from, to| {
                wide[to * size..(to + 1) * size].copy_from_slice(&bytes[from * size..(from + 1) * size]);
            });
            Data::Fixed(Bytes::from(wide))
        }
    };
    Ok(Tensor { dtype: tensor.dtype, shape, data })
}

/// Cuts the outputs of a batch into each request's own rows; rows behind the last request's were padding.
///
/// # Errors
/// `INVALID_ARGUMENT` in TF Serving's words, when an output does not have one row for each row of the batch.
pub(crate) fn split(outputs: &[Tensor], rows: &[usize], total: usize) -> Result<Vec<Vec<Tensor>>> {
    for output in outputs {
        let complaint = match output.rows() {
            None => "Batched output tensor has 0 dimensions",
            Some(found) if found != total => {
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input \
                 tensors"
            }
            Some(_) => continue,
        };
        return Err(Error::new(Code::FailedPrecondition, complaint));
    }
    let mut start = 0;
    Ok(rows
        .iter()
        .map(|&count| {
            let end = start + count;
            let own = outputs.iter().map(|output| output.slice_rows(start, end)).collect();
            start = end;
            own
        })
        .collect())
}

/// Puts the outputs of the parts of one request together again; `rows` are the rows of the parts.
///
/// # Errors
/// Those of [`split`], and `INVALID_ARGUMENT` when the parts' outputs differ behind dimension 0.
pub(crate) fn unite(parts: &[Vec<Tensor>], rows: &[usize]) -> Result<Vec<Tensor>> {
    for (outputs, &count) in parts.iter().zip(rows) {
        split(outputs, &[count], count)?;
    }
    let total = rows.iter().sum();
    (0..parts.first().map_or(0, Vec::len))
        .map(|index| {
            let outputs: Vec<&Tensor> = parts.iter().map(|part| &part[index]).collect();
            if outputs.iter().any(|output| output.shape[1..] != outputs[0].shape[1..]) {
                return Err(Error::invalid("The outputs of the parts of a split request have different shapes"));
            }
            join(&outputs, total, false)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    fn floats(shape: &[i64], values: &[f32]) -> Tensor {
        Tensor::from_vec(Shape::from_slice(shape), values.to_vec()).unwrap()
    }

    #[test]
    fn joined_rows_come_back_to_their_own_requests() {
        let (a, b) = (floats(&[1, 2], &[1., 2.]), floats(&[2, 2], &[3., 4., 5., 6.]));
        let joined = join(&[&a, &b], 3, false).unwrap();
        assert_eq!(joined, floats(&[3, 2], &[1., 2., 3., 4., 5., 6.]));
        assert_eq!(split(&[joined], &[1, 2], 3).unwrap(), vec![vec![a], vec![b]]);
    }

    #[test]
    fn padding_rows_repeat_a_real_row_and_are_cut_off_again() {
        let (a, b) = (floats(&[1, 1], &[1.]), floats(&[2, 1], &[2., 3.]));
        let joined = join(&[&a, &b], 5, false).unwrap();
        assert_eq!(joined, floats(&[5, 1], &[1., 2., 3., 2., 2.]));
        assert_eq!(split(&[joined], &[1, 2], 5).unwrap(), vec![vec![a], vec![b]]);
    }

    #[test]
    fn shorter_rows_are_padded_with_their_own_first_element() {
        let (short, long) = (floats(&[1, 2], &[1., 2.]), floats(&[1, 3], &[3., 4., 5.]));
        assert_eq!(join(&[&short, &long], 2, true).unwrap(), floats(&[2, 3], &[1., 2., 1., 3., 4., 5.]));
        let words = |words: &[&'static str]| {
            let strings = words.iter().map(|word| Bytes::from_static(word.as_bytes())).collect();
            Tensor::strings(smallvec![1, words.len() as i64], strings).unwrap()
        };
        let joined = join(&[&words(&["a"]), &words(&["b", "c"])], 2, true).unwrap();
        assert_eq!(joined.data, Data::Strings(["a", "a", "b", "c"].map(|w| Bytes::from_static(w.as_bytes())).to_vec()));
    }

    #[test]
    fn padding_works_in_every_dimension() {
        let (a, b) = (floats(&[1, 2, 1], &[1., 2.]), floats(&[1, 1, 2], &[3., 4.]));
        let joined = join(&[&a, &b], 2, true).unwrap();
        assert_eq!(joined, floats(&[2, 2, 2], &[1., 1., 2., 1., 3., 4., 3., 3.]));
    }

    #[test]
    fn parts_are_put_together_in_their_order_and_only_where_they_fit() {
        let (a, b) = (floats(&[2, 1], &[1., 2.]), floats(&[1, 1], &[3.]));
        let united = unite(&[vec![a.clone()], vec![b.clone()]], &[2, 1]).unwrap();
        assert_eq!(united, vec![floats(&[3, 1], &[1., 2., 3.])]);
        assert!(unite(&[vec![a.clone()], vec![b]], &[2, 2]).is_err());
        assert!(unite(&[vec![a], vec![floats(&[1, 2], &[3., 4.])]], &[2, 1]).is_err());
    }

    #[test]
    fn outputs_without_a_row_for_each_input_row_are_refused() {
        assert!(split(&[floats(&[], &[1.])], &[1, 1], 2).is_err());
        assert!(split(&[floats(&[3], &[1., 2., 3.])], &[1, 1], 2).is_err());
    }
}

//! What requests and responses have in common: descriptions of tensors, and their raw contents in the same order.

use bytes::Bytes;
use smallvec::SmallVec;

use super::contents::read_contents;
use crate::wire::oip::infer::about;
use crate::wire::oip::raw::{put_raw, raw_len, read_raw};
use crate::wire::protobuf::{
    Fields, Malformed, Value, field_len, put_bytes, put_length, put_varint, read_varint, text, varint_len,
};
use crate::wire::{Budget, DType, Data, Shape, Tensor, Text, raw};
use crate::{Error, Result};

/// `InferInputTensor` or `InferOutputTensor`, which look alike.
#[derive(Default)]
struct Description<'a> {
    name: Text,
    datatype: &'a [u8],
    shape: Shape,
    contents: Option<&'a [u8]>,
}

/// The tensors of a message whose descriptions and raw contents were found; `kind` is `Input` or `Output`.
///
/// # Errors
/// As [`read_contents`] and [`read_raw`], naming the tensor.
pub(super) fn read_tensors(
    body: &Bytes,
    kind: &'static str,
    descriptions: &[&[u8]],
    raws: &[&[u8]],
    budget: &mut Budget,
) -> Result<Vec<(Text, Tensor)>> {
    if !raws.is_empty() && raws.len() != descriptions.len() {
        return Err(Error::invalid(format!(
            "There are raw contents of {} tensors, but {} tensors",
            raws.len(),
            descriptions.len()
        )));
    }
    let mut tensors = Vec::with_capacity(descriptions.len());
    for (index, message) in descriptions.iter().enumerate() {
        let description = read_description(body, message)?;
        let name = description.name.clone();
        let tensor = read_tensor(body, description, raws.get(index).copied(), budget);
        tensors.push((name.clone(), tensor.map_err(|error| about(kind, &name, &error))?));
    }
    Ok(tensors)
}

fn read_description<'a>(body: &Bytes, message: &'a [u8]) -> Result<Description<'a>> {
    let mut description = Description::default();
    for field in Fields::new(message) {
        match field? {
            (1, Value::Bytes(name)) => description.name = text(body, name)?,
            (2, Value::Bytes(datatype)) => description.datatype = datatype,
            (3, Value::Bytes(packed)) => read_shape(packed, &mut description.shape)?,
            (3, Value::Varint(size)) => description.shape.push(size as i64),
            (5, Value::Bytes(contents)) => description.contents = Some(contents),
            _ => {}
        }
        if description.shape.len() > raw::MAX_RANK {
            return Err(about("Tensor", &description.name, &Error::invalid("It has too many dimensions")));
        }
    }
    Ok(description)
}

fn read_shape(mut packed: &[u8], shape: &mut Shape) -> Result<()> {
    while !packed.is_empty() && shape.len() <= raw::MAX_RANK {
        shape.push(read_varint(&mut packed).ok_or(Malformed)? as i64);
    }
    Ok(())
}

fn read_tensor(body: &Bytes, description: Description<'_>, raw: Option<&[u8]>, budget: &mut Budget) -> Result<Tensor> {
    let Description { datatype, shape, contents, .. } = description;
    let dtype = std::str::from_utf8(datatype).ok().and_then(DType::from_oip).ok_or_else(|| {
        Error::invalid(format!("Unknown datatype '{}'", String::from_utf8_lossy(&datatype[..datatype.len().min(64)])))
    })?;
    match (raw, contents) {
        (Some(bytes), None) => read_raw(dtype, shape, body.slice_ref(bytes), budget),
        (None, contents) => read_contents(body, contents.unwrap_or_default(), dtype, shape, budget),
        (Some(_), Some(_)) => Err(Error::invalid("It has contents beside the raw contents")),
    }
}

/// Raw contents, of which most messages have a few.
pub(super) type Parts<'a> = SmallVec<[&'a [u8]; 4]>;

/// Writes descriptions as field `number` and their raw contents as field `raw_number`.
pub(super) fn put_tensors(out: &mut Vec<u8>, number: u32, raw_number: u32, tensors: &[(&str, &Tensor)]) {
    put_descriptions(out, number, tensors);
    for (_, tensor) in tensors {
        let length = raw_len(tensor);
        out.reserve(length + 8);
        put_length(out, raw_number, length);
        put_raw(out, tensor);
    }
}

/// Tensors of so many bytes are worth a part of their own.
const LARGE: usize = 64 << 10;

/// As [`put_tensors`], but as parts of a message: those of large tensors share their memory.
pub(super) fn put_tensor_parts(
    parts: &mut Vec<Bytes>,
    mut out: Vec<u8>,
    number: u32,
    raw_number: u32,
    tensors: &[(&str, &Tensor)],
) {
    put_descriptions(&mut out, number, tensors);
    for (_, tensor) in tensors {
        put_length(&mut out, raw_number, raw_len(tensor));
        match &tensor.data {
            Data::Fixed(bytes) if bytes.len() >= LARGE => {
                parts.extend([std::mem::take(&mut out).into(), bytes.clone()]);
            }
            _ => put_raw(&mut out, tensor),
        }
    }
    parts.push(out.into());
}

fn put_descriptions(out: &mut Vec<u8>, number: u32, tensors: &[(&str, &Tensor)]) {
    for (name, tensor) in tensors {
        let datatype = tensor.dtype.oip();
        let shape: usize = tensor.shape.iter().map(|&size| varint_len(size as u64)).sum();
        put_length(out, number, field_len(1, name.len()) + field_len(2, datatype.len()) + field_len(3, shape));
        put_bytes(out, 1, name.as_bytes());
        put_bytes(out, 2, datatype.as_bytes());
        put_length(out, 3, shape);
        tensor.shape.iter().for_each(|&size| put_varint(out, size as u64));
    }
}

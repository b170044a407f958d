//! Requests of `:predict`.

use std::borrow::Cow;
use std::sync::Arc;

use super::cursor::Cursor;
use super::explain::{explain_columns, explain_rows, invalid, invalid_value, is_object};
use super::inputs::Inputs;
use super::list::TensorReader;
use super::outline::Outline;
use super::string::read_string;
use super::syntax::{each_element, each_member, skip_value};
use crate::wire::signature::DEFAULT_SIGNATURE;
use crate::wire::{Signature, Signatures, Tensor};
use crate::{Code, Error, Result};

/// How a request lays out its tensors; the answer has the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `instances` and `predictions`: a list with one element for each row.
    Row,
    /// `inputs` and `outputs`: whole tensors by name.
    Column,
}

/// What a request may hold at most; 0 stands for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Rows: elements of `instances`, or the largest first dimension of `inputs`.
    pub max_rows: usize,
    /// Elements of all tensors together.
    pub max_elements: usize,
}

impl Limits {
    fn check(&self, inputs: &[Tensor]) -> Result<()> {
        self.check_rows(inputs.iter().filter_map(Tensor::rows).max().unwrap_or(0))?;
        let elements: usize = inputs.iter().map(Tensor::len).sum();
        if self.max_elements > 0 && elements > self.max_elements {
            let message = format!("The request has {elements} elements, but at most {} are allowed", self.max_elements);
            return Err(too_large(message, "too_many_elements"));
        }
        Ok(())
    }

    pub(super) fn check_rows(&self, rows: usize) -> Result<()> {
        if self.max_rows > 0 && rows > self.max_rows {
            let message = format!("The request has {rows} rows, but at most {} are allowed", self.max_rows);
            return Err(too_large(message, "too_many_rows"));
        }
        Ok(())
    }
}

fn too_large(message: String, reason: &'static str) -> Error {
    Error::new(Code::ResourceExhausted, message).with_reason(reason).with_http(413)
}

/// A request that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictRequest {
    pub signature: Arc<Signature>,
    pub form: Form,
    /// One tensor for each of `signature.inputs`, in their order.
    pub inputs: Vec<Tensor>,
}

/// Reads the body of a `:predict` call.
///
/// The body is an object with `instances` (row form) or `inputs` (column form) and, if another signature than
/// `serving_default` is meant, its `signature_name`. Values are numbers (`NaN`, `Infinity` and `Inf` too), `true` and
/// `false`, strings, `{"b64": "..."}` for byte strings, and lists of values, nested up to 254 levels. Shapes are
/// taken as they come: they are not compared with the signature. Of a repeated name the first counts; names nobody
/// asked for and what follows the object are passed over.
///
/// `signatures` are those of the servable, or why there is none: that error comes after those of the JSON text and of
/// the type of `signature_name`, as in TensorFlow Serving.
///
/// # Errors
/// With TensorFlow Serving's texts: `INVALID_ARGUMENT` for a body that is no JSON (reason `invalid_json`), names no
/// known signature (`signature_not_found`) or does not fit the signature (`invalid_input`); `UNIMPLEMENTED` for a type
/// that JSON does not carry (`unsupported_datatype`). `RESOURCE_EXHAUSTED` (HTTP 413; `too_many_rows`,
/// `too_many_elements`) beyond the limits.
///
/// Source: TensorFlow Serving, docs "RESTful API", and tensorflow_serving/util/json_tensor.cc for the texts.
///
/// ```
/// use std::sync::Arc;
/// use dataplane::wire::{DType, Signature, Signatures, TensorSpec, json};
///
/// let x = TensorSpec { name: "x".into(), tensor_name: "x:0".into(), dtype: DType::F32, shape: None };
/// let signature = Signature {
///     name: "serving_default".into(), inputs: vec![x], ..Signature::default()
/// };
/// let signatures = Signatures(vec![Arc::new(signature)]);
/// let body = br#"{"instances": [[1.0, 2.5], [3.0, 4.0]]}"#;
/// let request = json::read_predict(body, Ok(&signatures), &json::Limits::default()).unwrap();
/// assert_eq!(request.inputs[0].shape.as_slice(), [2, 2]);
/// assert_eq!(request.inputs[0].values::<f32>().unwrap()[1], 2.5);
/// ```
pub fn read_predict(
    body: &[u8],
    signatures: Result<&Signatures, Error>,
    limits: &Limits,
) -> Result<PredictRequest, Error> {
    let in_passing = signatures.as_ref().ok().and_then(|signatures| read_in_passing(body, signatures));
    let request = match in_passing {
        Some(request) => request,
        None => read_carefully(body, signatures)?,
    };
    limits.check(&request.inputs)?;
    Ok(request)
}

/// The signature called `name`.
fn find<'a>(signatures: &'a Signatures, name: Option<&[u8]>) -> Option<&'a Arc<Signature>> {
    signatures.get(std::str::from_utf8(name.unwrap_or_default()).ok()?)
}

/// Reads a request in one pass, where it is right and nothing in it needs a second look: tensors are read as soon as
/// they come, with the signature named until then.
fn read_in_passing(body: &[u8], signatures: &Signatures) -> Option<PredictRequest> {
    let mut cursor = Cursor::of_document(body);
    cursor.skip_space();
    let mut name: Option<Cow<[u8]>> = None;
    let mut request: Option<PredictRequest> = None;
    each_member(&mut cursor, |cursor, key| {
        let form = match key {
            b"instances" => Form::Row,
            b"inputs" => Form::Column,
            b"signature_name" if name.is_none() => {
                name = Some(read_string(cursor).ok()?);
                return Some(());
            }
            _ => return skip_value(cursor).ok(),
        };
        if let Some(request) = &request {
            // A repeated key is passed over; both keys together are an error.
            return if request.form == form { skip_value(cursor).ok() } else { None };
        }
        let signature = find(signatures, name.as_deref()).filter(|signature| !signature.inputs.is_empty())?;
        let inputs = form.read(cursor, signature)?;
        request = Some(PredictRequest { signature: signature.clone(), form, inputs });
        Some(())
    })?;
    let request = request?;
    let meant = find(signatures, name.as_deref())?;
    Arc::ptr_eq(&request.signature, meant).then_some(request)
}

/// Reads any request, in the order of upstream's checks: first the whole text, then what it asks for.
fn read_carefully(body: &[u8], signatures: Result<&Signatures, Error>) -> Result<PredictRequest, Error> {
    let outline = Outline::read(body, [b"signature_name", b"instances", b"inputs"])?;
    let name = outline.signature_name(0)?;
    let signature = find(signatures?, name.as_deref()).ok_or_else(|| {
        let name = name.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_SIGNATURE.as_bytes());
        let name = String::from_utf8_lossy(name);
        Error::invalid(format!("Serving signature name: \"{name}\" not found in signature def"))
            .with_reason("signature_not_found")
    })?;
    if signature.inputs.is_empty() {
        let name = name.as_deref().filter(|name| !name.is_empty()).unwrap_or(b"DEFAULT");
        let name = String::from_utf8_lossy(name);
        return Err(invalid(format!("Failed to get input map for signature: {name}")));
    }
    let (form, value) = tensors(&outline)?;
    match form.read(&mut value.clone(), signature) {
        Some(inputs) => Ok(PredictRequest { signature: signature.clone(), form, inputs }),
        None => Err(form.explain(value, signature)),
    }
}

/// Holds the two ways of reading against each other; for tests and fuzzing.
///
/// # Panics
/// When they differ, or when no reason is found for an error.
#[cfg(any(test, fuzzing))]
pub fn check_body(body: &[u8], signatures: &Signatures) {
    let carefully = read_carefully(body, Ok(signatures));
    if let Some(request) = read_in_passing(body, signatures) {
        assert_eq!(carefully, Ok(request));
    } else if let Err(error) = carefully {
        assert_ne!(error.code, Code::Internal, "{error}");
    }
}

/// The form and the value that holds the tensors; for the row form a list that is not empty.
fn tensors<'a>(outline: &Outline<'a, 3>) -> Result<(Form, Cursor<'a>), Error> {
    let [_, instances, inputs] = outline.values;
    let complaint = match (instances, inputs) {
        (Some(_), Some(_)) => "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        (None, None) => return Err(invalid("Missing 'inputs' or 'instances' key")),
        (None, Some(value)) => return Ok((Form::Column, value)),
        (Some(value), None) => {
            let mut inside = value;
            if !inside.eat(b'[') {
                "Expecting 'instances' to be an list/array"
            } else {
                inside.skip_space();
                if inside.peek() != b']' {
                    return Ok((Form::Row, value));
                }
                "No values in 'instances' array"
            }
        }
    };
    Err(invalid_value(outline.document, complaint))
}

impl Form {
    /// Reads the tensors of one form; `None` where they do not fit the signature.
    fn read(self, cursor: &mut Cursor, signature: &Signature) -> Option<Vec<Tensor>> {
        match self {
            Form::Row => read_rows(cursor, signature),
            Form::Column => read_columns(cursor, signature),
        }
    }

    /// Why [`Form::read`] could not.
    #[cold]
    fn explain(self, mut value: Cursor, signature: &Signature) -> Error {
        let explained = match self {
            Form::Row => explain_rows(&mut value, signature),
            Form::Column => explain_columns(&mut value, signature),
        };
        explained.err().unwrap_or_else(|| Error::internal("The request could not be read, but no reason was found"))
    }
}

/// The text there is for each input, where nothing better is known.
fn likely_length(cursor: &Cursor, signature: &Signature) -> usize {
    cursor.rest().len() / signature.inputs.len().max(1)
}

fn read_rows(cursor: &mut Cursor, signature: &Signature) -> Option<Vec<Tensor>> {
    let mut first = *cursor;
    if !first.eat(b'[') {
        return None;
    }
    first.skip_space();
    if is_object(first) {
        return read_row_objects(cursor, signature);
    }
    let [input] = &signature.inputs[..] else { return None };
    // Rows of one shape below each other are a list like any other.
    let mut reader = TensorReader::new(input.dtype, cursor.rest().len())?;
    reader.read(cursor)?;
    let tensor = reader.finish().ok()?;
    (tensor.rows()? > 0).then(|| vec![tensor])
}

fn read_row_objects(cursor: &mut Cursor, signature: &Signature) -> Option<Vec<Tensor>> {
    let length = likely_length(cursor, signature);
    let mut readers: Vec<TensorReader> =
        signature.inputs.iter().map(|input| TensorReader::new(input.dtype, length)).collect::<Option<_>>()?;
    let mut names = Inputs::new(&signature.inputs);
    // The last row in which each input was found.
    let mut rows = vec![0; readers.len()];
    let count = each_element(cursor, |cursor, row| {
        if !is_object(*cursor) {
            return None;
        }
        let mut found = 0;
        each_member(cursor, |cursor, name| {
            let index = names.find(name, found)?;
            if rows[index] > row {
                return skip_value(cursor).ok();
            }
            rows[index] = row + 1;
            found += 1;
            readers[index].read(cursor)
        })?;
        (found == readers.len()).then_some(())
    })?;
    readers.into_iter().map(|reader| reader.finish_rows(count).ok()).collect()
}

fn read_columns(cursor: &mut Cursor, signature: &Signature) -> Option<Vec<Tensor>> {
    if !is_object(*cursor) {
        let [input] = &signature.inputs[..] else { return None };
        let mut reader = TensorReader::new(input.dtype, cursor.rest().len())?;
        reader.read(cursor)?;
        return Some(vec![reader.finish().ok()?]);
    }
    let length = likely_length(cursor, signature);
    let mut tensors: Vec<Option<Tensor>> = vec![None; signature.inputs.len()];
    let mut names = Inputs::new(&signature.inputs);
    let mut found = 0;
    each_member(cursor, |cursor, name| match names.find(name, found) {
        Some(index) if tensors[index].is_none() => {
            let mut reader = TensorReader::new(signature.inputs[index].dtype, length)?;
            reader.read(cursor)?;
            tensors[index] = Some(reader.finish().ok()?);
            found += 1;
            Some(())
        }
        _ => skip_value(cursor).ok(),
    })?;
    tensors.into_iter().collect()
}

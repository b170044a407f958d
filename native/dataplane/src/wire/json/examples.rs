//! Requests of `:classify` and `:regress`: objects of features, each turned into a serialized `tf.Example`.
//!
//! Sources: TensorFlow Serving, docs "RESTful API", and tensorflow_serving/util/json_tensor.cc for the texts;
//! tensorflow/core/example/{example,feature}.proto.

use super::cursor::Cursor;
use super::explain::{invalid, invalid_value};
use super::number::{Number, read_number};
use super::outline::Outline;
use super::predict::Limits;
use super::string::{decode_base64, read_base64_object, read_string};
use super::syntax::{each_element, each_member, skip_value};
use crate::wire::inference::Examples;
use crate::wire::protobuf::{field_len, put_bytes, put_length, put_varint};
use crate::wire::{Budget, Text};
use crate::{Error, Result};

/// A request that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExamplesRequest {
    /// Empty: the default signature.
    pub signature_name: Text,
    pub examples: Examples,
}

/// Reads the body of a `:classify` or `:regress` call, which look alike.
///
/// The body is an object with `examples`, a list of objects from the name of a feature to its value or list of values,
/// and if wanted a `context` of the same form, whose features all examples get, and a `signature_name`. Whole numbers,
/// `true` and `false` make an int64 feature, other numbers a float feature, strings and `{"b64": "..."}` a bytes feature.
///
/// # Errors
/// `INVALID_ARGUMENT` with TensorFlow Serving's texts, reasons `invalid_json` and `invalid_input`.
/// `RESOURCE_EXHAUSTED` (HTTP 413) beyond the limits and the budget.
///
/// ```
/// use dataplane::wire::{Budget, json};
///
/// let body = br#"{"examples": [{"age": 7}, {"age": [8, 9]}]}"#;
/// let request = json::read_examples(body, &json::Limits::default(), &mut Budget::new(1000)).unwrap();
/// assert_eq!(request.examples.len(), 2);
/// ```
pub fn read_examples(body: &[u8], limits: &Limits, budget: &mut Budget) -> Result<ExamplesRequest> {
    let outline = Outline::read(body, [b"signature_name", b"context", b"examples"])?;
    let name = outline.signature_name(0)?.unwrap_or_default();
    let [_, context, examples] = outline.values;
    let mut writer = Writer::default();
    if let Some(mut context) = context {
        writer.write_example(&mut context)?;
    }
    let mut list = check_list(&outline, examples)?;
    let mut rows = Rows { context: std::mem::take(&mut writer.example), writer, examples: Examples::default() };
    let mut result = Ok(());
    each_element(&mut list, |cursor, row| {
        result = limits.check_rows(row + 1).and_then(|()| rows.push(cursor, budget));
        result.is_ok().then_some(())
    });
    result?;
    let signature_name = Text::from(String::from_utf8_lossy(&name).into_owned());
    Ok(ExamplesRequest { signature_name, examples: rows.examples })
}

/// The list of examples, which is not empty.
fn check_list<'a>(outline: &Outline<'a, 3>, examples: Option<Cursor<'a>>) -> Result<Cursor<'a>> {
    let complaint = match examples {
        // Upstream says so for regress as well.
        None => "When method is classify, key 'examples' is expected and was not found",
        Some(list) if list.peek() != b'[' => "Expecting 'examples' value to be an list/array",
        Some(list) => {
            let mut inside = list;
            inside.advance(1);
            inside.skip_space();
            if inside.peek() != b']' {
                return Ok(list);
            }
            "'examples' value is an empty array"
        }
    };
    Err(invalid_value(outline.document, complaint))
}

/// The rows read so far.
struct Rows {
    /// Put before each example: protobuf merges messages that follow each other.
    context: Vec<u8>,
    writer: Writer,
    examples: Examples,
}

impl Rows {
    fn push(&mut self, cursor: &mut Cursor, budget: &mut Budget) -> Result<()> {
        self.writer.example.clear();
        self.writer.write_example(cursor)?;
        self.examples.push(&self.context, &self.writer.example, budget)
    }
}

/// Serializes one example after the other.
#[derive(Default)]
struct Writer {
    example: Vec<u8>,
    features: Vec<u8>,
}

impl Writer {
    /// Appends the object at the cursor to `example` as a `tf.Example`.
    fn write_example(&mut self, cursor: &mut Cursor) -> Result<()> {
        if cursor.peek() != b'{' {
            return Err(invalid(format!("Example must be JSON object but got JSON {}", type_name(cursor))));
        }
        self.features.clear();
        let mut result = Ok(());
        each_member(cursor, |cursor, name| {
            result = Feature::read(cursor, name).map(|feature| feature.put(&mut self.features, name));
            result.is_ok().then_some(())
        });
        result?;
        if !self.features.is_empty() {
            put_bytes(&mut self.example, 1, &self.features);
        }
        Ok(())
    }
}

/// The kinds of `tf.Feature`, by the number of their field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bytes = 1,
    Float = 2,
    Int64 = 3,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Bytes => "bytes",
            Kind::Float => "float",
            Kind::Int64 => "int64",
        }
    }
}

/// The values of one feature.
#[derive(Default)]
struct Feature {
    /// `None` for an empty list.
    kind: Option<Kind>,
    /// Byte strings as fields of their own, numbers packed.
    values: Vec<u8>,
}

impl Feature {
    fn read(cursor: &mut Cursor, name: &[u8]) -> Result<Feature> {
        let mut feature = Feature::default();
        if cursor.peek() != b'[' {
            feature.add(cursor, name)?;
            return Ok(feature);
        }
        let mut result = Ok(());
        each_element(cursor, |cursor, _| {
            result = feature.add(cursor, name);
            result.is_ok().then_some(())
        });
        result.map(|()| feature)
    }

    fn add(&mut self, cursor: &mut Cursor, name: &[u8]) -> Result<()> {
        match cursor.peek() {
            b'"' => {
                self.expect(Kind::Bytes, name)?;
                put_bytes(&mut self.values, 1, &read_string(cursor)?);
            }
            b'{' => {
                let value = *cursor;
                let text = read_base64_object(cursor).ok_or_else(|| unexpected(&value, name))?;
                self.expect(Kind::Bytes, name)?;
                let bytes = decode_base64(&text).ok_or_else(|| invalid("Unable to base64 decode"))?;
                put_bytes(&mut self.values, 1, &bytes);
            }
            b't' | b'f' => {
                self.expect(Kind::Int64, name)?;
                self.values.push(u8::from(cursor.peek() == b't'));
                skip_value(cursor)?;
            }
            b'[' | b'n' => return Err(unexpected(cursor, name)),
            _ => self.add_number(read_number(cursor)?, name)?,
        }
        Ok(())
    }

    fn add_number(&mut self, number: Number, name: &[u8]) -> Result<()> {
        let Some(integer) = number.as_integer() else {
            self.expect(Kind::Float, name)?;
            self.values.extend_from_slice(&(number.as_f64() as f32).to_le_bytes());
            return Ok(());
        };
        self.expect(Kind::Int64, name)?;
        let integer = i64::try_from(integer).map_err(|_| {
            let name = String::from_utf8_lossy(name);
            invalid(format!("Feature: {name} has uint64 element. Only int64_t is supported."))
        })?;
        put_varint(&mut self.values, integer as u64);
        Ok(())
    }

    /// All values of a feature are of one kind: that of the first.
    fn expect(&mut self, kind: Kind, name: &[u8]) -> Result<()> {
        let known = *self.kind.get_or_insert(kind);
        if known == kind {
            return Ok(());
        }
        let name = String::from_utf8_lossy(name);
        Err(invalid(format!("Unexpected element type in feature: {name} expecting type: {}", known.name())))
    }

    /// Appends the entry of the map in `tf.Features`.
    fn put(&self, out: &mut Vec<u8>, name: &[u8]) {
        let list = match self.kind {
            Some(Kind::Float | Kind::Int64) => field_len(1, self.values.len()),
            Some(Kind::Bytes) | None => self.values.len(),
        };
        let feature = self.kind.map_or(0, |kind| field_len(kind as u32, list));
        put_length(out, 1, field_len(1, name.len()) + field_len(2, feature));
        put_bytes(out, 1, name);
        put_length(out, 2, feature);
        let Some(kind) = self.kind else { return };
        put_length(out, kind as u32, list);
        match kind {
            Kind::Bytes => out.extend_from_slice(&self.values),
            Kind::Float | Kind::Int64 => put_bytes(out, 1, &self.values),
        }
    }
}

fn unexpected(value: &Cursor, name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    invalid(format!("Feature: {name} has element with unexpected JSON type: {}", type_name(value)))
}

fn type_name(value: &Cursor) -> &'static str {
    match value.peek() {
        b'{' => "Object",
        b'[' => "Array",
        b'"' => "String",
        b't' => "True",
        b'f' => "False",
        b'n' => "Null",
        _ => "Number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<ExamplesRequest> {
        read_examples(body.as_bytes(), &Limits { max_rows: 3, max_elements: 0 }, &mut Budget::new(1000))
    }

    fn refusal(body: &str) -> String {
        read(body).unwrap_err().message.into_owned()
    }

    #[test]
    fn an_example_is_serialized_as_tensorflow_reads_it() {
        let request = read(r#"{"examples": [{"a": [1, true], "b": "x", "c": 0.5, "d": []}], "signature_name": "s"}"#);
        let request = request.unwrap();
        assert_eq!(request.signature_name.as_str(), "s");
        let expected: &[u8] = b"\x0a\x2e\
            \x0a\x0b\x0a\x01a\x12\x06\x1a\x04\x0a\x02\x01\x01\
            \x0a\x0a\x0a\x01b\x12\x05\x0a\x03\x0a\x01x\
            \x0a\x0d\x0a\x01c\x12\x08\x12\x06\x0a\x04\x00\x00\x00\x3f\
            \x0a\x05\x0a\x01d\x12\x00";
        let length = expected.len() - 2;
        let mut expected = expected.to_vec();
        expected[1] = length as u8;
        assert_eq!(
            request.examples.into_tensor(),
            crate::wire::Tensor::strings([1].into_iter().collect(), vec![expected.into()]).unwrap()
        );
    }

    #[test]
    fn the_context_comes_before_each_example_and_counts_against_the_budget() {
        let alone = read(r#"{"examples": [{"a": 1}]}"#).unwrap().examples.into_tensor();
        let both = read(r#"{"examples": [{}, {"a": 1}], "context": {"a": 1}}"#).unwrap().examples.into_tensor();
        let (crate::wire::Data::Strings(alone), crate::wire::Data::Strings(both)) = (alone.data, both.data) else {
            panic!("examples are strings")
        };
        assert_eq!(both, [alone[0].clone(), [&alone[0][..], &alone[0][..]].concat().into()]);
        let large = format!(r#"{{"examples": [{{}}, {{}}], "context": {{"a": "{}"}}}}"#, "x".repeat(600));
        assert_eq!(read(&large).unwrap_err().reason, "request_too_large");
        assert_eq!(read(r#"{"examples": [{}, {}, {}, {}]}"#).unwrap_err().reason, "too_many_rows");
    }

    #[test]
    fn what_is_wrong_is_told_in_tensorflow_servings_words() {
        for (body, message) in [
            (r#"{"examples": [{"f": [1, "x"]}]}"#, "Unexpected element type in feature: f expecting type: int64"),
            (r#"{"examples": [{"f": [0.5, 1]}]}"#, "Unexpected element type in feature: f expecting type: float"),
            (r#"{"examples": [{"f": ["x", true]}]}"#, "Unexpected element type in feature: f expecting type: bytes"),
            (r#"{"examples": [{"f": null}]}"#, "Feature: f has element with unexpected JSON type: Null"),
            (r#"{"examples": [{"f": [[1]]}]}"#, "Feature: f has element with unexpected JSON type: Array"),
            (r#"{"examples": [{"f": {"x": 1}}]}"#, "Feature: f has element with unexpected JSON type: Object"),
            (
                r#"{"examples": [{"f": 9223372036854775808}]}"#,
                "Feature: f has uint64 element. Only int64_t is supported.",
            ),
            (r#"{"examples": [{"f": {"b64": "!"}}]}"#, "Unable to base64 decode"),
            (r#"{"examples": [1]}"#, "Example must be JSON object but got JSON Number"),
            (r#"{"examples": [{}], "context": []}"#, "Example must be JSON object but got JSON Array"),
            ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        ] {
            assert_eq!(refusal(body), message, "{body}");
        }
        assert!(refusal(r#"{"examples": {}}"#).ends_with(" Expecting 'examples' value to be an list/array"));
        assert!(refusal(r#"{"examples": []}"#).ends_with(" 'examples' value is an empty array"));
        assert!(refusal(r#"{"examples": [{}], "signature_name": 1}"#).ends_with("key must be a string value."));
        assert!(refusal(r#"{"examples": "#).starts_with("JSON Parse error: "));
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        let deep = "[".repeat(500_000) + &"]".repeat(500_000);
        assert!(read(&format!(r#"{{"examples": [{{"f": {deep}}}]}}"#)).is_err());
        assert!(read(&format!(r#"{{"ignored": {deep}, "examples": [{{}}]}}"#)).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_a_request_or_an_error(text in r#"[\[\]{}",:a-c0-2 .tfn]{0,60}"#) {
            let _ = read(&text);
            let _ = read(&format!(r#"{{"examples": [{text}]}}"#));
        }
    }
}

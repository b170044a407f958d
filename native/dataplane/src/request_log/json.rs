//! A serialized `PredictionLog` as one line in protobuf's own JSON form, so that any protobuf library reads it back.
//!
//! Source: <https://protobuf.dev/programming-guides/json/>. The declarations are those of `proto/`.

use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wire::protobuf::{Fields, Value, map_entry, read_varint};

/// The fields of a message that are known: number, name, kind.
type Message = [(u32, &'static str, Kind)];

#[derive(Clone, Copy)]
enum Kind {
    One(Scalar),
    List(Scalar),
    Message(&'static Message),
    Messages(&'static Message),
    /// From text to a message.
    Map(&'static Message),
    /// `google.protobuf.Int64Value`.
    Int64Value,
}

#[derive(Clone, Copy)]
enum Scalar {
    Text,
    Bytes,
    Bool,
    Int32,
    Uint32,
    Int64,
    Uint64,
    Float,
    Double,
}

use Kind::{Int64Value, List, One};

const PREDICTION_LOG: &Message = &[
    (1, "logMetadata", Kind::Message(LOG_METADATA)),
    (2, "classifyLog", Kind::Message(CLASSIFY_LOG)),
    (3, "regressLog", Kind::Message(REGRESS_LOG)),
    (4, "multiInferenceLog", Kind::Message(MULTI_INFERENCE_LOG)),
    (6, "predictLog", Kind::Message(PREDICT_LOG)),
];
const LOG_METADATA: &Message = &[
    (1, "modelSpec", Kind::Message(MODEL_SPEC)),
    (2, "samplingConfig", Kind::Message(&[(1, "samplingRate", One(Scalar::Double))])),
    (4, "timestampSecs", One(Scalar::Int64)),
];
const MODEL_SPEC: &Message = &[
    (1, "name", One(Scalar::Text)),
    (2, "version", Int64Value),
    (3, "signatureName", One(Scalar::Text)),
    (4, "versionLabel", One(Scalar::Text)),
];
const PREDICT_LOG: &Message =
    &[(1, "request", Kind::Message(PREDICT_REQUEST)), (2, "response", Kind::Message(PREDICT_RESPONSE))];
const PREDICT_REQUEST: &Message = &[
    (1, "modelSpec", Kind::Message(MODEL_SPEC)),
    (2, "inputs", Kind::Map(TENSOR)),
    (3, "outputFilter", List(Scalar::Text)),
];
const PREDICT_RESPONSE: &Message = &[(2, "modelSpec", Kind::Message(MODEL_SPEC)), (1, "outputs", Kind::Map(TENSOR))];
const TENSOR: &Message = &[
    (1, "dtype", One(Scalar::Int32)),
    (2, "tensorShape", Kind::Message(SHAPE)),
    (3, "versionNumber", One(Scalar::Int32)),
    (4, "tensorContent", One(Scalar::Bytes)),
    (13, "halfVal", List(Scalar::Int32)),
    (5, "floatVal", List(Scalar::Float)),
    (6, "doubleVal", List(Scalar::Double)),
    (7, "intVal", List(Scalar::Int32)),
    (8, "stringVal", List(Scalar::Bytes)),
    (9, "scomplexVal", List(Scalar::Float)),
    (10, "int64Val", List(Scalar::Int64)),
    (11, "boolVal", List(Scalar::Bool)),
    (12, "dcomplexVal", List(Scalar::Double)),
    (16, "uint32Val", List(Scalar::Uint32)),
    (17, "uint64Val", List(Scalar::Uint64)),
];
const SHAPE: &Message = &[
    (2, "dim", Kind::Messages(&[(1, "size", One(Scalar::Int64)), (2, "name", One(Scalar::Text))])),
    (3, "unknownRank", One(Scalar::Bool)),
];
const CLASSIFY_LOG: &Message = &[
    (1, "request", Kind::Message(EXAMPLES_REQUEST)),
    (
        2,
        "response",
        Kind::Message(&[(1, "result", Kind::Message(CLASSES)), (2, "modelSpec", Kind::Message(MODEL_SPEC))]),
    ),
];
const REGRESS_LOG: &Message = &[
    (1, "request", Kind::Message(EXAMPLES_REQUEST)),
    (
        2,
        "response",
        Kind::Message(&[(1, "result", Kind::Message(VALUES)), (2, "modelSpec", Kind::Message(MODEL_SPEC))]),
    ),
];
const EXAMPLES_REQUEST: &Message = &[(1, "modelSpec", Kind::Message(MODEL_SPEC)), (2, "input", Kind::Message(INPUT))];
const MULTI_INFERENCE_LOG: &Message = &[
    (
        1,
        "request",
        Kind::Message(&[
            (
                1,
                "tasks",
                Kind::Messages(&[(1, "modelSpec", Kind::Message(MODEL_SPEC)), (2, "methodName", One(Scalar::Text))]),
            ),
            (2, "input", Kind::Message(INPUT)),
        ]),
    ),
    (
        2,
        "response",
        Kind::Message(&[(
            1,
            "results",
            Kind::Messages(&[
                (1, "modelSpec", Kind::Message(MODEL_SPEC)),
                (2, "classificationResult", Kind::Message(CLASSES)),
                (3, "regressionResult", Kind::Message(VALUES)),
            ]),
        )]),
    ),
];
const CLASSES: &Message = &[(
    1,
    "classifications",
    Kind::Messages(&[(
        1,
        "classes",
        Kind::Messages(&[(1, "label", One(Scalar::Text)), (2, "score", One(Scalar::Float))]),
    )]),
)];
const VALUES: &Message = &[(1, "regressions", Kind::Messages(&[(1, "value", One(Scalar::Float))]))];
const INPUT: &Message = &[
    (1, "exampleList", Kind::Message(&[(1, "examples", Kind::Messages(EXAMPLE))])),
    (
        2,
        "exampleListWithContext",
        Kind::Message(&[(1, "examples", Kind::Messages(EXAMPLE)), (2, "context", Kind::Message(EXAMPLE))]),
    ),
];
const EXAMPLE: &Message = &[(1, "features", Kind::Message(&[(1, "feature", Kind::Map(FEATURE))]))];
const FEATURE: &Message = &[
    (1, "bytesList", Kind::Message(&[(1, "value", List(Scalar::Bytes))])),
    (2, "floatList", Kind::Message(&[(1, "value", List(Scalar::Float))])),
    (3, "int64List", Kind::Message(&[(1, "value", List(Scalar::Int64))])),
];

/// The line of a serialized `PredictionLog`. Fields that nobody declared, and what is malformed, are left out.
///
/// Written as it is read, without a document in between: a few bytes of a message may stand for many values.
pub(super) fn line(record: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(4 * record.len());
    object(&mut line, record, PREDICTION_LOG);
    line.push(b'\n');
    line
}

fn object(out: &mut Vec<u8>, message: &[u8], fields: &Message) {
    out.push(b'{');
    let start = out.len();
    for &(number, name, kind) in fields {
        let values = Fields::new(message).flatten().filter(move |field| field.0 == number).map(|field| field.1);
        let before = out.len();
        separate(out, start);
        text(out, name);
        out.push(b':');
        if !field(out, kind, values) {
            out.truncate(before);
        }
    }
    out.push(b'}');
}

/// A comma, unless what began at `start` is empty yet.
fn separate(out: &mut Vec<u8>, start: usize) {
    if out.len() > start {
        out.push(b',');
    }
}

/// Writes the value of a field; false, perhaps after some bytes, where there is none.
fn field<'a>(out: &mut Vec<u8>, kind: Kind, mut values: impl Iterator<Item = Value<'a>> + Clone) -> bool {
    if values.clone().next().is_none() {
        return false;
    }
    match kind {
        Kind::One(scalar) => return values.last().is_some_and(|value| scalar.write(out, value)),
        Kind::List(scalar) => list(out, values, |out, start, value| scalar.write_all(out, start, value)),
        // What comes several times is merged, which is to stand one behind the other.
        Kind::Message(fields) => match (values.next(), values.next()) {
            (Some(Value::Bytes(only)), None) => object(out, only, fields),
            (first, second) => {
                let all = first.into_iter().chain(second).chain(values);
                object(out, &all.filter_map(bytes).collect::<Vec<_>>().concat(), fields);
            }
        },
        Kind::Messages(fields) => list(out, values.filter_map(bytes), |out, start, message| {
            separate(out, start);
            object(out, message, fields);
        }),
        Kind::Map(fields) => {
            let entries: BTreeMap<_, _> = values.filter_map(bytes).filter_map(|entry| map_entry(entry).ok()).collect();
            out.push(b'{');
            let start = out.len();
            for (name, message) in entries {
                separate(out, start);
                text(out, &String::from_utf8_lossy(name));
                out.push(b':');
                object(out, message, fields);
            }
            out.push(b'}');
        }
        Kind::Int64Value => {
            let number = values.filter_map(bytes).flat_map(|message| Fields::new(message).flatten()).last();
            if !number.is_some_and(|(_, value)| Scalar::Int64.write(out, value)) {
                text(out, "0");
            }
        }
    }
    true
}

fn list<T>(out: &mut Vec<u8>, values: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, usize, T)) {
    out.push(b'[');
    let start = out.len();
    values.for_each(|value| write(out, start, value));
    out.push(b']');
}

fn bytes(value: Value<'_>) -> Option<&[u8]> {
    if let Value::Bytes(bytes) = value { Some(bytes) } else { None }
}

impl Scalar {
    /// Writes one value; false where it is of another wire type.
    fn write(self, out: &mut Vec<u8>, value: Value<'_>) -> bool {
        match (self, value) {
            (Scalar::Text, Value::Bytes(bytes)) => text(out, &String::from_utf8_lossy(bytes)),
            (Scalar::Bytes, Value::Bytes(bytes)) => text(out, &STANDARD.encode(bytes)),
            (Scalar::Bool, Value::Varint(number)) => put(out, format_args!("{}", number != 0)),
            (Scalar::Int32, Value::Varint(number)) => put(out, format_args!("{}", number as i32)),
            (Scalar::Uint32, Value::Varint(number)) => put(out, format_args!("{}", number as u32)),
            // 64 bits are more than a number of JSON holds everywhere.
            (Scalar::Int64, Value::Varint(number)) => put(out, format_args!("\"{}\"", number as i64)),
            (Scalar::Uint64, Value::Varint(number)) => put(out, format_args!("\"{number}\"")),
            (Scalar::Float, Value::Fixed32(bytes)) => {
                let value = f32::from_le_bytes(*bytes);
                float(out, f64::from(value), format_args!("{value:?}"));
            }
            (Scalar::Double, Value::Fixed64(bytes)) => {
                let value = f64::from_le_bytes(*bytes);
                float(out, value, format_args!("{value:?}"));
            }
            _ => return false,
        }
        true
    }

    /// Writes the elements of a list, packed or not.
    fn write_all(self, out: &mut Vec<u8>, start: usize, value: Value<'_>) {
        let mut element = |value: Value<'_>| {
            let before = out.len();
            separate(out, start);
            if !self.write(out, value) {
                out.truncate(before);
            }
        };
        match (self, value) {
            (Scalar::Text | Scalar::Bytes, _) => element(value),
            (Scalar::Float, Value::Bytes(bytes)) => {
                bytes.as_chunks().0.iter().for_each(|chunk| element(Value::Fixed32(chunk)));
            }
            (Scalar::Double, Value::Bytes(bytes)) => {
                bytes.as_chunks().0.iter().for_each(|chunk| element(Value::Fixed64(chunk)));
            }
            (_, Value::Bytes(mut rest)) => {
                while let Some(number) = (!rest.is_empty()).then(|| read_varint(&mut rest)).flatten() {
                    element(Value::Varint(number));
                }
            }
            _ => element(value),
        }
    }
}

fn put(out: &mut Vec<u8>, value: Arguments<'_>) {
    out.write_fmt(value).expect("a vector grows as it must");
}

fn text(out: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(out, value).expect("text is always JSON");
}

/// `finite` is the shortest text that is read back as the same number; JSON has none for what is not finite.
fn float(out: &mut Vec<u8>, value: f64, finite: Arguments<'_>) {
    if value.is_finite() {
        return put(out, finite);
    }
    text(
        out,
        if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(record: &[u8]) -> serde_json::Value {
        serde_json::from_slice(&line(record)).unwrap()
    }

    #[test]
    fn pieces_of_a_message_are_merged_and_lists_may_be_packed_or_not() {
        let first = b"\x32\x07\x0a\x05\x0a\x03\x0a\x01m";
        let second = b"\x32\x0d\x0a\x0b\x12\x09\x0a\x01x\x12\x04\x3a\x02\x05\x06";
        let found = read(&[&first[..], &second[..]].concat());
        let request = &found["predictLog"]["request"];
        assert_eq!(request["modelSpec"]["name"], "m");
        assert_eq!(request["inputs"]["x"]["intVal"], serde_json::json!([5, 6]));
    }

    proptest! {
        #[test]
        fn any_bytes_become_a_line_of_json(bytes: Vec<u8>) {
            read(&bytes);
            // As they would come in a log.
            let mut log = vec![0x32];
            crate::wire::protobuf::put_varint(&mut log, bytes.len() as u64);
            read(&[log, bytes].concat());
        }
    }
}

//! A serialized `PredictionLog` as one line in protobuf's own JSON form, so that any protobuf library reads it back.
//!
//! Source: <https://protobuf.dev/programming-guides/json/>. The declarations are those of `proto/`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

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
pub(super) fn line(record: &[u8]) -> Vec<u8> {
    let mut line = object(record, PREDICTION_LOG).to_string().into_bytes();
    line.push(b'\n');
    line
}

fn object(message: &[u8], fields: &Message) -> Json {
    let mut object = Map::new();
    for &(number, name, kind) in fields {
        let values: Vec<Value<'_>> =
            Fields::new(message).flatten().filter(|field| field.0 == number).map(|field| field.1).collect();
        if let Some(value) = field(kind, &values) {
            object.insert(name.to_owned(), value);
        }
    }
    Json::Object(object)
}

/// The value of a field that came once or more.
fn field(kind: Kind, values: &[Value<'_>]) -> Option<Json> {
    let last = *values.last()?;
    match kind {
        Kind::One(scalar) => scalar.read(last),
        Kind::List(scalar) => Some(Json::Array(values.iter().flat_map(|value| scalar.read_all(*value)).collect())),
        // What comes several times is merged, which is to stand one behind the other.
        Kind::Message(fields) => Some(object(&messages(values).collect::<Vec<_>>().concat(), fields)),
        Kind::Messages(fields) => Some(messages(values).map(|message| object(message, fields)).collect()),
        Kind::Map(fields) => {
            let entries: BTreeMap<_, _> = messages(values).filter_map(|entry| map_entry(entry).ok()).collect();
            let named = |(name, message)| (String::from_utf8_lossy(name).into_owned(), object(message, fields));
            Some(Json::Object(entries.into_iter().map(named).collect()))
        }
        Kind::Int64Value => {
            let number = messages(values).flat_map(|message| Fields::new(message).flatten()).last();
            Some(number.and_then(|(_, value)| Scalar::Int64.read(value)).unwrap_or_else(|| "0".into()))
        }
    }
}

fn messages<'a>(values: &[Value<'a>]) -> impl Iterator<Item = &'a [u8]> {
    values.iter().filter_map(|value| if let Value::Bytes(bytes) = value { Some(*bytes) } else { None })
}

impl Scalar {
    fn read(self, value: Value<'_>) -> Option<Json> {
        Some(match (self, value) {
            (Scalar::Text, Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into(),
            (Scalar::Bytes, Value::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Scalar::Bool, Value::Varint(number)) => (number != 0).into(),
            (Scalar::Int32, Value::Varint(number)) => (number as i32).into(),
            (Scalar::Uint32, Value::Varint(number)) => (number as u32).into(),
            // 64 bits are more than a number of JSON holds everywhere.
            (Scalar::Int64, Value::Varint(number)) => (number as i64).to_string().into(),
            (Scalar::Uint64, Value::Varint(number)) => number.to_string().into(),
            (Scalar::Float, Value::Fixed32(bytes)) => single(f32::from_le_bytes(*bytes)),
            (Scalar::Double, Value::Fixed64(bytes)) => double(f64::from_le_bytes(*bytes)),
            _ => return None,
        })
    }

    /// The elements of a list, packed or not.
    fn read_all(self, value: Value<'_>) -> Vec<Json> {
        let Value::Bytes(bytes) = value else { return self.read(value).into_iter().collect() };
        match self {
            Scalar::Text | Scalar::Bytes => self.read(value).into_iter().collect(),
            Scalar::Float => bytes.as_chunks().0.iter().filter_map(|chunk| self.read(Value::Fixed32(chunk))).collect(),
            Scalar::Double => bytes.as_chunks().0.iter().filter_map(|chunk| self.read(Value::Fixed64(chunk))).collect(),
            _ => {
                let mut rest = bytes;
                let next = || if rest.is_empty() { None } else { read_varint(&mut rest) };
                std::iter::from_fn(next).filter_map(|number| self.read(Value::Varint(number))).collect()
            }
        }
    }
}

/// The shortest text that is read back as the same number of 32 bits.
fn single(value: f32) -> Json {
    match value.to_string().parse().ok().and_then(Number::from_f64) {
        Some(number) => Json::Number(number),
        None => double(f64::from(value)),
    }
}

fn double(value: f64) -> Json {
    Number::from_f64(value).map_or_else(|| not_finite(value).into(), Json::Number)
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

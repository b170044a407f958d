//! Answers of `:classify` and `:regress`.

use super::float::write_f32;
use super::string::write_string;
use crate::wire::inference::{Classes, Results};

/// Appends the answer to a `:classify` or `:regress` call: `{"results": [[["label", score], ...], ...]}`, or
/// `{"results": [value, ...]}`.
///
/// Source: TensorFlow Serving, docs "RESTful API"; `MakeJsonFromClassificationResult` in
/// tensorflow_serving/util/json_tensor.cc for the key, which the docs give otherwise.
///
/// ```
/// use dataplane::wire::{inference::Results, json};
///
/// let mut out = Vec::new();
/// json::write_results(&mut out, &Results::Values(vec![0.5, 2.0].into()));
/// assert_eq!(out, br#"{"results": [0.5, 2.0]}"#);
/// ```
pub fn write_results(out: &mut Vec<u8>, results: &Results<'_>) {
    out.extend_from_slice(b"{\"results\": [");
    match results {
        Results::Classes(classes) => write_classes(out, classes),
        Results::Values(values) => {
            for (index, &value) in values.iter().enumerate() {
                write_comma(out, index);
                write_f32(out, value);
            }
        }
    }
    out.extend_from_slice(b"]}");
}

fn write_classes(out: &mut Vec<u8>, classes: &Classes<'_>) {
    for row in 0..classes.rows {
        write_comma(out, row);
        out.push(b'[');
        for (index, (label, score)) in classes.of_row(row).enumerate() {
            write_comma(out, index);
            out.push(b'[');
            write_string(out, label);
            out.extend_from_slice(b", ");
            write_f32(out, score);
            out.push(b']');
        }
        out.push(b']');
    }
}

fn write_comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.extend_from_slice(b", ");
    }
}

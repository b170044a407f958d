//! The Open Inference Protocol's REST bodies: nothing crashes, and a response is JSON with the parts it says.
#![no_main]

use bytes::Bytes;
use dataplane::wire::oip::InferResponse;
use dataplane::wire::oip::rest::{raw_request, read_request, write_response};
use dataplane::wire::{Budget, DType, Signature, TensorSpec};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;

/// A signature whose only input has the dtype and the shape that these bytes make up.
fn signature(bytes: &[u8]) -> Signature {
    let dtype = DType::from_tf(bytes.first().map_or(1, |&byte| i32::from(byte % 24)));
    let shape = bytes.iter().skip(1).take(3).map(|&byte| i64::from(byte as i8).max(-1)).collect();
    let x = TensorSpec { name: "x".to_owned(), tensor_name: "x".to_owned(), dtype, shape: Some(shape) };
    Signature { inputs: vec![x], ..Signature::default() }
}

// The first two bytes say where the JSON part ends: 0xffff means that there is no binary part.
fuzz_target!(|data: &[u8]| {
    let Some((length, body)) = data.split_first_chunk::<2>() else { return };
    let length = Some(usize::from(u16::from_le_bytes(*length))).filter(|&length| length != 0xffff);
    let body = Bytes::copy_from_slice(body);
    let _ = raw_request(&body, &signature(data));
    let Ok(request) = read_request(&body, length, &mut Budget::new(LIMIT)) else { return };
    let outputs: Vec<_> = request.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let response = InferResponse { model: "m", version: 1, id: request.id.as_str(), outputs: &outputs };
    let mut out = Vec::new();
    if let Ok(length) = write_response(&mut out, &response, |place| request.wants_binary(place)) {
        let json: serde_json::Value = serde_json::from_slice(&out[..length.unwrap_or(out.len())]).unwrap();
        assert_eq!(json["outputs"].as_array().unwrap().len(), outputs.len());
    }
});

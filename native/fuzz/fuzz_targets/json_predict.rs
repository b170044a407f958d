//! Bodies of `:predict`: both ways of reading them agree, and what was read survives being written and read again.

#![no_main]

use std::sync::Arc;

use dataplane::wire::json::{Form, Limits, check_body, read_predict, write_predictions};
use dataplane::wire::{DType, Signature, Signatures, Tensor, TensorSpec};
use libfuzzer_sys::fuzz_target;

const TYPES: [DType; 16] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
    DType::String,
    DType::C64,
    DType::F32,
];

fn signature(name: &str, inputs: &[(&str, DType)]) -> Arc<Signature> {
    let spec =
        |&(name, dtype): &(&str, DType)| TensorSpec { name: name.into(), tensor_name: name.into(), dtype, shape: None };
    let inputs = inputs.iter().map(spec).collect();
    Arc::new(Signature { name: name.into(), inputs, ..Signature::default() })
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else { return };
    let dtype = TYPES[usize::from(choice % 16)];
    let default = match choice / 16 % 3 {
        0 => signature("serving_default", &[("x", dtype)]),
        1 => signature("serving_default", &[("x", dtype), ("y", DType::I32)]),
        _ => signature("serving_default", &[("b64", dtype)]),
    };
    let signatures = Signatures(vec![default, signature("s", &[("x", DType::String)])]);
    check_body(body, &signatures);
    if let Ok(request) = read_predict(body, Ok(&signatures), &Limits::default()) {
        let names = request.signature.inputs.iter().map(|input| input.name.as_str());
        let outputs: Vec<(&str, &Tensor)> = names.zip(&request.inputs).collect();
        let mut out = format!("{{\"signature_name\": \"{}\", ", request.signature.name).into_bytes();
        let mut answer = Vec::new();
        write_predictions(&mut answer, request.form, &outputs).expect("what was read can be written");
        let (from, to) = match request.form {
            Form::Row => (&b"{\"predictions\""[..], &b"\"instances\""[..]),
            Form::Column => (&b"{\"outputs\""[..], &b"\"inputs\""[..]),
        };
        out.extend_from_slice(to);
        out.extend_from_slice(answer.strip_prefix(from).expect("the answer begins with its key"));
        let again = read_predict(&out, Ok(&signatures), &Limits::default()).expect("what was written can be read");
        assert_eq!(again, request, "{}", String::from_utf8_lossy(&out));
    }
});

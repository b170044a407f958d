//! Bodies of `:classify` and `:regress`: nothing crashes or takes much memory, and every example is a message.

#![no_main]

use dataplane::wire::json::{Limits, read_examples};
use dataplane::wire::protobuf::Fields;
use dataplane::wire::{Budget, Data};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let limits = Limits { max_rows: 100, max_elements: 0 };
    let Ok(request) = read_examples(data, &limits, &mut Budget::new(LIMIT)) else { return };
    assert!((1..=100).contains(&request.examples.len()));
    if let Data::Strings(examples) = request.examples.into_tensor().data {
        assert!(examples.iter().all(|example| Fields::new(example).all(|field| field.is_ok())));
    }
});

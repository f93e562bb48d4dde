//! However the reads cut the bytes, both codecs give the same messages and the same error; a
//! message with an error in it may be void instead of torn.
//!
//! The first byte of the input says how long each read is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meshcore_core::codec::{Limits, ServerRules};

#[expect(dead_code, reason = "the tests use more of it")]
#[expect(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]
#[path = "../../../tests/rust/codec/record.rs"]
mod record;

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else { return };
    let size = usize::from(size) + 1;

    let whole = record::serve_with([bytes], Limits::default(), ServerRules::default());
    let cut = record::serve_with(bytes.chunks(size), Limits::default(), ServerRules::default());
    assert!(whole.agrees_with(&cut), "{whole:#?}\n{cut:#?}");

    for head in [false, true] {
        let whole = record::fetch_with([bytes], head, Limits::default());
        let mut cut = record::fetch_with(bytes.chunks(size), head, Limits::default());
        // Whether something follows the end is known only if it came with it.
        cut.reusable = whole.reusable;
        assert!(whole.agrees_with(&cut), "{whole:#?}\n{cut:#?}");
    }
});

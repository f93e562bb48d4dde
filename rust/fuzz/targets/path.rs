//! A normal path is a fixed point, has nothing left to resolve, and means the same to a service
//! that merges slashes; what is sent on is the same place.
//!
//! The first byte of the input says which rules are relaxed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meshcore_core::path::PathRules;

#[path = "../../../tests/rust/normal_path.rs"]
mod normal_path;

use normal_path::{check, rules_of, run};

fn merged(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|a, b| *a == b'/' && *b == b'/');
    out
}

fuzz_target!(|input: &[u8]| {
    let Some((&bits, raw)) = input.split_first() else { return };
    check(raw, &rules_of(bits));
    let strict = PathRules::default();
    if raw.first() == Some(&b'/')
        && let Ok(found) = run(raw, &strict)
    {
        assert_eq!(run(&merged(raw), &strict).map(|again| again.path), Ok(found.path));
    }
});

//! A normal path is a fixed point, has nothing left to resolve, and means the same to a service
//! that merges slashes.
//!
//! The first byte of the input says which rules are relaxed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meshcore_core::path::{PathRules, merge_slashes};

#[path = "../../../tests/rust/normal_path.rs"]
mod normal_path;

use normal_path::rules_of;

fn run(raw: &[u8], rules: &PathRules) -> Option<Vec<u8>> {
    normal_path::run(raw, rules).map(|(_, path)| path)
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if merge_slashes(path, &mut out) { out } else { path.to_vec() }
}

fuzz_target!(|input: &[u8]| {
    let Some((&bits, raw)) = input.split_first() else { return };
    let rules = rules_of(bits);
    if let Some(path) = run(raw, &rules) {
        assert_eq!(run(&path, &rules).as_deref(), Some(&*path));
        assert!(path.iter().all(|b| (0x21..0x7f).contains(b) && !b"\\#?".contains(b)));
        assert!(path[1..].split(|b| *b == b'/').all(|s| s != b"." && s != b".."));
    }
    let strict = PathRules::default();
    if raw.first() == Some(&b'/')
        && let Some(path) = run(raw, &strict)
    {
        assert_eq!(run(&merged(raw), &strict), Some(merged(&path)));
    }
});

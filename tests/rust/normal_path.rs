//! Paths through the normaliser, for the property tests and the fuzzer.

use meshcore_core::path::{Normalized, PathRules, normalize};

/// One rule relaxed for each bit.
pub(crate) fn rules_of(bits: u8) -> PathRules {
    PathRules {
        encoded_slash: bits & 1 != 0,
        backslash: bits & 2 != 0,
        empty_dot_dot: bits & 4 != 0,
        dot_params: bits & 8 != 0,
        fragment: bits & 16 != 0,
        encoded_nul: bits & 32 != 0,
        bad_escape: bits & 64 != 0,
        raw_bytes: bits & 128 != 0,
    }
}

/// What the normaliser says, and the normal path.
pub(crate) fn run(raw: &[u8], rules: &PathRules) -> Option<(Normalized, Vec<u8>)> {
    let mut out = Vec::new();
    let found = normalize(raw, rules, &mut out).ok()?;
    if !found.changed {
        assert!(out.is_empty());
        out.extend_from_slice(raw);
    }
    Some((found, out))
}

//! Paths through the normaliser, for the property tests and the fuzzer.

use meshcore_core::path::{Oddities, PathError, PathRules, normalize};

/// One rule relaxed for each bit.
pub(crate) fn rules_of(bits: u8) -> PathRules {
    let mut refused = Oddities::NONE;
    for (bit, oddity) in [
        (1, Oddities::ENCODED_SLASH),
        (2, Oddities::ENCODED_BACKSLASH),
        (4, Oddities::BAD_ESCAPE),
        (8, Oddities::REPEATED_SLASHES),
        (16, Oddities::NOT_IN_URI),
    ] {
        if bits & bit == 0 {
            refused |= oddity;
        }
    }
    PathRules { refused, keep_slashes: bits & 32 != 0, own: bits & 64 != 0 }
}

/// What became of a path.
pub(crate) struct Spelt {
    pub(crate) path: Vec<u8>,
    pub(crate) forward: Vec<u8>,
    pub(crate) seen: Oddities,
}

/// The normal path, and what is sent on.
pub(crate) fn run(raw: &[u8], rules: &PathRules) -> Result<Spelt, PathError> {
    let mut out = b"before".to_vec();
    match normalize(raw, rules, &mut out) {
        Ok(found) => Ok(Spelt {
            path: found.path.of(raw, &out).to_vec(),
            forward: found.forward.of(raw, &out).to_vec(),
            seen: found.seen,
        }),
        Err(error) => {
            assert_eq!(out, b"before", "a refusal leaves nothing");
            Err(error)
        }
    }
}

/// What holds of every path that passes, whatever the rules.
pub(crate) fn check(raw: &[u8], rules: &PathRules) {
    let Ok(found) = run(raw, rules) else { return };
    for text in [&found.path, &found.forward] {
        assert!(text.starts_with(b"/") && !text.starts_with(b"//"));
        assert!(text.iter().all(|b| (0x21..0x7f).contains(b) && !b"\\#?".contains(b)));
        let decoded = dots_decoded(text);
        assert!(decoded[1..].split(|b| *b == b'/').all(|s| s != b"." && s != b".."));
        // To read it again changes nothing: it is what was matched.
        let again = run(text, rules).expect("what passed once passes again");
        assert_eq!((again.path, again.forward), (found.path.clone(), text.clone()));
    }
    let merged = found.path.windows(2).all(|w| w != b"//");
    assert!(merged || rules.keep_slashes);
    assert!(rules.refused.also_in(found.seen).is_none());
}

/// With what a careless reader might decode decoded: dots and slashes.
fn dots_decoded(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text).into_owned();
    let mut decoded = text;
    for (escape, byte) in [("%2e", "."), ("%2E", "."), ("%2f", "/"), ("%2F", "/")] {
        decoded = decoded.replace(escape, byte);
    }
    decoded.into_bytes()
}

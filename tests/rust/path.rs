//! Path normalisation against the words of RFC 3986 and against itself.

use meshcore_core::path::{Oddities, PathError, PathRules};
use meshcore_core::routing::Matched;
use meshcore_core::routing::rewrite::PathRewrite;
use proptest::prelude::*;

#[path = "normal_path.rs"]
mod normal_path;

use normal_path::{check, rules_of, run};

/// Bytes and pieces that the normaliser has a rule for, among ordinary ones.
fn raw_path() -> impl Strategy<Value = Vec<u8>> {
    let escapes = ["%2e", "%2E", "%2f", "%2F", "%5C", "%5c", "%00", "%3b", "%25", "%c3", "%7E"];
    let single = [";", "\\", "#", "?", "%", "%4", " ", "\u{e9}", "\r", "~", "|", "[", "\""];
    let piece = prop_oneof![
        4 => Just("/".to_owned()),
        2 => Just(".".to_owned()),
        2 => Just("..".to_owned()),
        2 => prop::sample::select(escapes.to_vec()).prop_map(str::to_owned),
        1 => prop::sample::select(single.to_vec()).prop_map(str::to_owned),
        1 => "%[0-9a-fA-F]{2}",
        4 => "[a-z0-9.]{1,3}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|p| format!("/{}", p.concat()).into_bytes())
}

/// Ones that mostly pass.
fn plain_path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "/", "/", "//", "/./", "/../", "a", "v1", "%61", "%7e", "~", "%2e", "%c3%A9", "%2f", "%5c",
        "b", "evil.com", ".", "%",
    ]);
    prop::collection::vec(piece, 0..10).prop_map(|p| format!("/{}", p.concat()).into_bytes())
}

fn rules() -> impl Strategy<Value = PathRules> {
    any::<u8>().prop_map(rules_of)
}

/// RFC 3986 §5.2.4 in its own words: move the first piece of the input to the output.
fn remove_dot_segments(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if input.starts_with("/./") {
            input.replace_range(..2, "");
        } else if input == "/." {
            input = "/".to_owned();
        } else if input.starts_with("/../") {
            input.replace_range(..3, "");
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if input == "/.." {
            input = "/".to_owned();
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |i| i + 1);
            output.push_str(&input[..end]);
            input.replace_range(..end, "");
        }
    }
    output
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|a, b| *a == b'/' && *b == b'/');
    out
}

/// The length of every prefix of whole segments that a route could match a normal path by: it has
/// neither repeated slashes nor one at its end.
fn prefixes(path: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let end = path.windows(2).position(|w| w == b"//").unwrap_or(path.len());
    let ends_a_segment =
        |at: usize| path[at - 1] != b'/' && matches!(path.get(at), None | Some(b'/'));
    (0..=end).filter(move |at| *at == 0 || ends_a_segment(*at))
}

fn rewritten(to: &str, matched: usize, path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let rewrite = PathRewrite::new(to).expect("a path");
    rewrite.apply(Matched::Prefix(matched as u32), path, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_passes_is_normal_and_is_sent_on_as_the_same_place(
        raw in prop_oneof![raw_path(), plain_path()], rules in rules(),
    ) {
        check(&raw, &rules);
    }

    /// Nothing but dot segments and slashes at the beginning goes from what is sent on.
    #[test]
    fn what_is_equivalent_is_sent_on_as_it_was_written(
        raw in "(/(%7[eE]|%61|~|a|%c3%A9|%2[fF]|\\|)+){1,4}/?",
    ) {
        let rules = PathRules { refused: Oddities::NONE, ..PathRules::default() };
        let found = run(raw.as_bytes(), &rules).expect("nothing in it is refused");
        prop_assert_eq!(found.forward, raw.as_bytes());
    }

    #[test]
    fn a_rewrite_replaces_what_matched_however_it_was_spelt(
        raw in plain_path(), rules in rules(), to in "(/[a-z~]{1,3}){0,2}/?",
    ) {
        let Ok(found) = run(&raw, &rules) else { return Ok(()) };
        for len in prefixes(&found.path) {
            let sent = rewritten(&to, len, &found.forward);
            prop_assert!(sent.starts_with(b"/") && !sent.starts_with(b"//"));
            let expected = rewritten(&to, len, &found.path);
            let read = run(&sent, &rules).expect("what is sent on passes");
            prop_assert_eq!(&read.path, &expected, "{:?} {} -> {}", found.path, len, to);
            prop_assert_eq!(&read.forward, &sent);
            let text = to.strip_suffix('/').unwrap_or(&to);
            let rest = &found.path[len..];
            let rest = &rest[rest.iter().take_while(|b| **b == b'/').count().saturating_sub(1)..];
            let seam = [text.as_bytes(), rest].concat();
            prop_assert!(rest.is_empty() || seam == expected);
        }
    }

    #[test]
    fn dots_are_removed_as_the_rfc_says(raw in "/[a./]{0,12}") {
        match run(raw.as_bytes(), &PathRules::default()) {
            Ok(found) => {
                let resolved = remove_dot_segments(&raw);
                prop_assert_eq!(found.path, merge_slashes(resolved.as_bytes()));
                let sent = resolved.trim_start_matches('/');
                prop_assert_eq!(found.forward, format!("/{sent}").into_bytes());
            }
            // What would remove an empty segment alone.
            Err(error) => prop_assert_eq!(error, PathError::EmptyDotDot),
        }
    }

    /// With the strict rules it does not matter whether a service merges slashes first.
    #[test]
    fn merging_before_or_after_gives_the_same_place(raw in raw_path()) {
        let strict = PathRules::default();
        if let Ok(found) = run(&raw, &strict) {
            let before = run(&merge_slashes(&raw), &strict).expect("merging adds nothing to refuse");
            prop_assert_eq!(before.path, found.path);
        }
    }

    #[test]
    fn any_bytes_are_safe(raw in prop::collection::vec(any::<u8>(), 0..64), rules in rules()) {
        check(&raw, &rules);
    }
}

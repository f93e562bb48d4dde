//! Path normalisation against the words of RFC 3986 and against itself.

use meshcore_core::path::{PathRules, merge_slashes};
use proptest::prelude::*;

#[path = "normal_path.rs"]
mod normal_path;

use normal_path::{rules_of, run};

/// Bytes and pieces that the normaliser has a rule for, among ordinary ones.
fn raw_path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just("/".to_owned()),
        2 => Just(".".to_owned()),
        2 => Just("..".to_owned()),
        1 => prop::sample::select(vec!["%2e", "%2E", "%2f", "%5C", "%00", "%3b", "%25", "%c3"])
            .prop_map(str::to_owned),
        1 => prop::sample::select(vec![";", "\\", "#", "?", "%", "%4", " ", "\u{e9}", "\r", "~"])
            .prop_map(str::to_owned),
        1 => "%[0-9a-fA-F]{2}",
        4 => "[a-z0-9.]{1,3}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|p| format!("/{}", p.concat()).into_bytes())
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_normal_path_stays_as_it_is(raw in raw_path(), rules in rules()) {
        if let Some((_, once)) = run(&raw, &rules) {
            let (again, twice) = run(&once, &rules).expect("a normal path is not refused");
            prop_assert!(!again.changed);
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn the_result_has_nothing_left_to_resolve(raw in raw_path(), rules in rules()) {
        if let Some((found, path)) = run(&raw, &rules) {
            prop_assert!(path.starts_with(b"/"));
            prop_assert!(path.iter().all(|b| (0x21..0x7f).contains(b)));
            prop_assert!(!path.iter().any(|b| b"\\#?".contains(b)));
            for segment in path[1..].split(|b| *b == b'/') {
                prop_assert!(segment != b"." && segment != b"..");
            }
            prop_assert_eq!(found.repeated_slashes, path.windows(2).any(|w| w == b"//"));
        }
    }

    #[test]
    fn dots_are_removed_as_the_rfc_says(raw in "/[a./]{0,12}") {
        let rules = PathRules { empty_dot_dot: true, ..PathRules::default() };
        let (_, path) = run(raw.as_bytes(), &rules).expect("dots and slashes alone always pass");
        prop_assert_eq!(String::from_utf8(path).unwrap(), remove_dot_segments(&raw));
    }

    /// With the strict rules it does not matter whether a service merges slashes first.
    #[test]
    fn merging_before_or_after_gives_the_same_place(raw in raw_path()) {
        let strict = PathRules::default();
        if let Some((_, path)) = run(&raw, &strict) {
            let mut after = Vec::new();
            if !merge_slashes(&path, &mut after) {
                after = path;
            }
            let mut merged = Vec::new();
            if !merge_slashes(&raw, &mut merged) {
                merged = raw;
            }
            let (_, before) = run(&merged, &strict).expect("merging adds nothing to refuse");
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn any_bytes_are_safe(raw in prop::collection::vec(any::<u8>(), 0..64), rules in rules()) {
        let _ = run(&raw, &rules);
    }
}

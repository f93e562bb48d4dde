//! W3C Trace Context, level 1 and the random flag of level 2.

use super::{Caller, SpanId, TraceId, lower_hex};

/// `version "-" trace-id "-" parent-id "-" flags` (§3.2).
const PARENT_BYTES: usize = 55;
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;
/// §3.3.1.1.
const MOST_MEMBERS: usize = 32;

/// Who called, and whether it is sampled. `None` where the field is wrong (§3.2.2.3, §4.3: a trace
/// begins anew then). Of a version that is not known the first 55 bytes are read as of version 00,
/// if what follows begins with a hyphen.
pub(super) fn parse(value: &[u8]) -> Option<(Caller, bool)> {
    let (head, rest) = value.split_at_checked(PARENT_BYTES)?;
    if [head[2], head[35], head[52]] != [b'-'; 3] {
        return None;
    }
    let version = lower_hex(&head[..2])?;
    if version == 0xff || (version == 0 && !rest.is_empty()) || !matches!(rest, [] | [b'-', ..]) {
        return None;
    }
    let trace = lower_hex(&head[3..35])?.try_into().ok()?;
    let span = u64::try_from(lower_hex(&head[36..52])?).ok()?.try_into().ok()?;
    let flags = u8::try_from(lower_hex(&head[53..])?).ok()?;
    // Of a later version only what is known now is believed: it may mean something else by a bit.
    let random = version == 0 && flags & RANDOM != 0;
    let caller = Caller { trace: TraceId(trace), span: SpanId(span), random };
    Some((caller, flags & SAMPLED != 0))
}

/// The field of ours.
pub(super) fn write(trace: TraceId, span: SpanId, sampled: bool, random: bool) -> [u8; 55] {
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    value[3..35].copy_from_slice(&trace.hex());
    value[36..52].copy_from_slice(&span.hex());
    value[54] = b'0' + u8::from(sampled) * SAMPLED + u8::from(random) * RANDOM;
    value
}

/// Whether the values of `tracestate` are a list as §3.3.1 has it: else none of it goes on. A key
/// that is there twice is no reason (§3.3.1.3.1 leaves that to whom it belongs).
pub(super) fn is_state<'a>(values: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut members = 0;
    for value in values {
        for member in value.split(|&b| b == b',') {
            let member = trim(member);
            if member.is_empty() {
                continue;
            }
            members += 1;
            if members > MOST_MEMBERS || !is_member(member) {
                return false;
            }
        }
    }
    members > 0
}

fn trim(member: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = member.iter().position(|b| !blank(b)).unwrap_or(member.len());
    let end = member.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    &member[start..end]
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|&b| b == b'=') else { return false };
    is_key(&member[..equals]) && is_value(&member[equals + 1..])
}

/// §3.3.1.3.1: one name of at most 256 bytes, or a tenant's of at most 241 at a system's of at most
/// 14.
fn is_key(key: &[u8]) -> bool {
    let mark = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let named =
        |name: &[u8], most: usize| (1..=most).contains(&name.len()) && name.iter().all(mark);
    match key.iter().position(|&b| b == b'@') {
        None => named(key, 256) && key[0].is_ascii_lowercase(),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            named(tenant, 241)
                && (tenant[0].is_ascii_lowercase() || tenant[0].is_ascii_digit())
                && named(system, 14)
                && system[0].is_ascii_lowercase()
        }
    }
}

/// §3.3.1.3.2; it ends with no blank, which [`trim`] has taken.
fn is_value(value: &[u8]) -> bool {
    (1..=256).contains(&value.len())
        && value.iter().all(|b| matches!(b, 0x20..=0x7e) && !matches!(b, b',' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parsed(value: &str) -> Option<(u128, u64, bool, bool)> {
        let (caller, sampled) = parse(value.as_bytes())?;
        Some((caller.trace.bits(), caller.span.bits(), sampled, caller.random))
    }

    #[test]
    fn a_parent_is_read_and_written() {
        assert_eq!(parsed(PARENT), Some((TRACE, SPAN, true, false)));
        let (caller, _) = parse(PARENT.as_bytes()).unwrap();
        assert_eq!(write(caller.trace, caller.span, true, false), PARENT.as_bytes());
        assert_eq!(write(caller.trace, caller.span, false, true)[53..], *b"02");
        assert_eq!(write(caller.trace, caller.span, true, true)[53..], *b"03");
    }

    #[test]
    fn flags_that_are_not_known_mean_nothing() {
        let with = |flags: &str| parsed(&format!("{}{flags}", &PARENT[..53])).unwrap();
        assert_eq!(with("00"), (TRACE, SPAN, false, false));
        assert_eq!(with("02"), (TRACE, SPAN, false, true));
        assert_eq!(with("ff"), (TRACE, SPAN, true, true));
        assert_eq!(with("fc"), (TRACE, SPAN, false, false));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = |rest: &str| parsed(&format!("cc{}{rest}", &PARENT[2..]));
        assert_eq!(later(""), Some((TRACE, SPAN, true, false)));
        assert_eq!(later("-what-the-future-will-be"), Some((TRACE, SPAN, true, false)));
        assert_eq!(later("-"), Some((TRACE, SPAN, true, false)));
        assert_eq!(later(".what"), None);
        let version_00 = |rest: &str| parsed(&format!("{PARENT}{rest}"));
        assert_eq!(version_00("-what"), None, "version 00 has nothing behind its flags");
        assert_eq!(version_00("-"), None);
    }

    #[test]
    fn what_is_no_parent_is_none() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "0X-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473.-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b.-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0.",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, 00-",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_state_is_a_list_of_members() {
        let is = |values: &[&str]| is_state(values.iter().map(|v| v.as_bytes()));
        assert!(is(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]));
        assert!(is(&["foo=1 \t , \t bar=2, ,,baz=3"]), "blanks and empty members");
        assert!(is(&["foo=1", "bar=2"]), "several fields are one list");
        assert!(is(&["foo=1,foo=2"]), "twice the same key");
        assert!(is(&["fw529a3039@dt=FfAbC0", "0t@dt=a b"]));
        assert!(is(&[&format!("{}=1", "z".repeat(256))]));
        assert!(is(&[&format!("{}@{}=1", "t".repeat(241), "v".repeat(14))]));
        assert!(is(&[&format!("a={}", "v".repeat(256))]));
        assert!(is(&[&vec!["a=1"; 32].join(",")]));
        for wrong in [
            "",
            " , ",
            "foo",
            "foo=",
            "=1",
            "foo =1",
            "Foo=1",
            "foo@=1",
            "@foo=1",
            "foo@@bar=1",
            "foo@bar@baz=1",
            "foo=bar=baz",
            "0foo=1",
            "foo@0bar=1",
            "foo=\u{e9}",
            "foo=1;bar=2\u{7f}",
        ] {
            assert!(!is(&[wrong]), "{wrong}");
        }
        assert!(!is(&[&format!("{}=1", "z".repeat(257))]));
        assert!(!is(&[&format!("{}@v=1", "t".repeat(242))]));
        assert!(!is(&[&format!("t@{}=1", "v".repeat(15))]));
        assert!(!is(&[&format!("a={}", "v".repeat(257))]));
        assert!(!is(&[&vec!["a=1"; 33].join(",")]));
        assert!(!is(&["foo=1", "bar"]), "one that is wrong spoils all");
    }
}

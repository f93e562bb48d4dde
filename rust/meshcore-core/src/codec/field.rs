//! The alphabets of field names and values (RFC 9110 §5.1, §5.5, §5.6.2).

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        i += 1;
    }
    table
}

const fn lower_token_table() -> [bool; 256] {
    let mut table = token_table();
    let mut i = b'A';
    while i <= b'Z' {
        table[i as usize] = false;
        i += 1;
    }
    table
}

static TOKEN: [bool; 256] = token_table();
static LOWER_TOKEN: [bool; 256] = lower_token_table();

/// Whether `b` may stand in a token (RFC 9110 §5.6.2).
pub(crate) fn is_token_byte(b: u8) -> bool {
    TOKEN[usize::from(b)]
}

/// Whether `b` may stand in a token that is in lower case (RFC 9113 §8.2).
pub(crate) fn is_lower_token_byte(b: u8) -> bool {
    LOWER_TOKEN[usize::from(b)]
}

/// Whether `name` is a field name: a token of at least one byte.
#[must_use]
pub fn valid_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&b| is_token_byte(b))
}

/// Whether `value` can be written as a field value: no control but HTAB, so no line end, and no
/// blank at either end, which a reader would strip.
#[must_use]
pub fn valid_field_value(value: &[u8]) -> bool {
    // Without a way out in the middle, so that many bytes are looked at at once.
    value.iter().fold(true, |valid, &b| valid & (b == b'\t' || (b >= b' ' && b != 0x7F)))
        && !value.first().is_some_and(|b| b" \t".contains(b))
        && !value.last().is_some_and(|b| b" \t".contains(b))
}

/// The members of a comma-separated list, blanks trimmed, empty ones left out (RFC 9110 §5.6.1).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values() {
        assert!(valid_field_name(b"x-a_b"));
        for name in [&b""[..], b"a b", b"a:", b"a\n", b"\xc3"] {
            assert!(!valid_field_name(name), "{name:?}");
        }
        assert!(valid_field_value(b"a\tb \xff"));
        assert!(valid_field_value(b""));
        for value in [&b"a\r"[..], b"\n", b"a\0", b"\x7f", b" a", b"a\t"] {
            assert!(!valid_field_value(value), "{value:?}");
        }
    }

    #[test]
    fn lists_skip_what_is_empty() {
        assert_eq!(list(b" a ,, b\t,").collect::<Vec<_>>(), [b"a", b"b"]);
    }
}

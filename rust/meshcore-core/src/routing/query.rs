//! The query as parameters: `name=value` joined by `&`, form-encoded.

use std::borrow::Cow;

use crate::path::unescaped;

/// The decoded value of every parameter called `name`, in order. O(bytes); allocates only for
/// a part that is written with escapes.
pub(super) fn values<'a>(
    query: &'a [u8],
    name: &'a [u8],
) -> impl Iterator<Item = Cow<'a, [u8]>> + 'a {
    query.split(|byte| *byte == b'&').filter_map(move |part| {
        let (key, value) = match memchr::memchr(b'=', part) {
            Some(at) => (&part[..at], &part[at + 1..]),
            None => (part, &part[part.len()..]),
        };
        (!part.is_empty() && *decode(key) == *name).then(|| decode(value))
    })
}

/// Decodes `+` and `%XX` as forms do (WHATWG URL §5.1); a bad escape stands for itself.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        let escaped = unescaped(rest);
        decoded.push(match (byte, escaped) {
            (_, Some(value)) => value,
            (b'+', None) => b' ',
            (byte, None) => byte,
        });
        rest = &rest[if escaped.is_some() { 3 } else { 1 }..];
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_however_they_are_written() {
        let found = |query: &str, name: &str| {
            values(query.as_bytes(), name.as_bytes())
                .map(|v| String::from_utf8(v.into_owned()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("a=1&b=2&a=3", "a"), ["1", "3"]);
        assert_eq!(found("%61=%31+x%2b", "a"), ["1 x+"]);
        assert_eq!(found("a&b=&c==", "a"), [""]);
        assert_eq!(found("a&b=&c==", "b"), [""]);
        assert_eq!(found("a&b=&c==", "c"), ["="]);
        assert_eq!(found("a=%zz%4", "a"), ["%zz%4"]);
        assert!(found("&&", "").is_empty());
        assert_eq!(found("=x", ""), ["x"]);
    }
}

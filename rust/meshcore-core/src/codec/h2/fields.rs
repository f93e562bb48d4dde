//! Field lists: from the crate's map to [`Headers`] and back.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::encode::Fields;
use super::super::error::CodecError;
use super::super::field::valid_field_value;
use super::super::header_ops::HeaderOps;
use super::super::header_rules::may_be_trailer;
use crate::error::Reason;
use crate::head::Headers;

/// Appends what was received to `headers`.
///
/// Crumbs of `cookie` become one field (RFC 9113 §8.2.3): what HTTP/1.1 and most services expect.
///
/// # Errors
/// 431 for more than `max` fields, crumbs counted one by one; 400 for a value that is not one line
/// or has blanks at its ends (RFC 9113 §8.2.1).
pub(super) fn receive(
    map: &HeaderMap,
    headers: &mut Headers,
    max: usize,
) -> Result<(), CodecError> {
    if map.len() > max {
        return Err(CodecError::new(Reason::HeadersTooLarge, "too many fields"));
    }
    let mut crumbs: Vec<u8> = Vec::new();
    for (name, value) in map {
        let value = value.as_bytes();
        if !valid_field_value(value) {
            return Err(CodecError::bad("invalid field value"));
        }
        if name == http::header::COOKIE {
            if !crumbs.is_empty() {
                crumbs.extend_from_slice(b"; ");
            }
            crumbs.extend_from_slice(value);
        } else {
            headers.push(name.as_str().as_bytes(), value);
        }
    }
    if !crumbs.is_empty() {
        headers.push(b"cookie", &crumbs);
    }
    Ok(())
}

/// The trailer fields that may pass.
///
/// # Errors
/// As [`receive`].
pub(super) fn receive_trailers(map: &HeaderMap, max: usize) -> Result<Headers, CodecError> {
    let mut headers = Headers::default();
    receive(map, &mut headers, max)?;
    headers.retain(|name, _| may_be_trailer(name));
    Ok(headers)
}

/// A list that is being written.
#[derive(Debug, Default)]
pub(super) struct FieldList(pub(super) HeaderMap);

impl FieldList {
    pub(super) fn with_capacity(fields: usize) -> Self {
        Self(HeaderMap::with_capacity(fields))
    }
}

impl Fields for FieldList {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        // Both were checked where they came in; what is not a field is left out, never sent.
        let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        else {
            return;
        };
        // RFC 7541 §7.1.3: a secret that is never put into the table cannot be guessed from it.
        if name == http::header::AUTHORIZATION {
            value.set_sensitive(true);
        }
        self.0.append(name, value);
    }

    fn changes(&mut self, ops: &HeaderOps) {
        for (name, value) in ops.fields() {
            self.field(name, value);
        }
    }
}

/// Trailers as a list; those that may not be trailers are left out.
pub(super) fn trailers(headers: &Headers) -> HeaderMap {
    let mut list = FieldList::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| may_be_trailer(name)) {
        list.field(name, value);
    }
    list.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &[u8])]) -> HeaderMap {
        let mut list = FieldList::default();
        for (name, value) in fields {
            list.field(name.as_bytes(), value);
        }
        list.0
    }

    #[test]
    fn crumbs_are_rejoined_and_counted_one_by_one() {
        let crumbs = map(&[("cookie", b"a=1"), ("x", b"y"), ("cookie", b"b=2")]);
        let mut headers = Headers::default();
        receive(&crumbs, &mut headers, 3).unwrap();
        assert_eq!(headers.get(b"cookie"), Some(&b"a=1; b=2"[..]));
        assert_eq!(headers.len(), 2);
        let refused = receive(&crumbs, &mut Headers::default(), 2);
        assert_eq!(refused.map_err(|e| e.reason), Err(Reason::HeadersTooLarge));
    }

    #[test]
    fn blanks_at_the_ends_are_malformed() {
        for value in [&b" a"[..], b"a ", b"\ta"] {
            assert!(receive(&map(&[("x", value)]), &mut Headers::default(), 9).is_err());
        }
    }

    #[test]
    fn what_is_no_field_is_not_sent() {
        let list = map(&[("a b", b"1"), ("x", b"1\r\ny: 2"), ("", b"1"), ("ok", b"1")]);
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn only_trailers_are_trailers() {
        let mut headers = Headers::default();
        headers.push(b"grpc-status", b"0");
        headers.push(b"content-length", b"5");
        assert_eq!(trailers(&headers).len(), 1);
        let both = map(&[("grpc-status", b"0"), ("set-cookie", b"a")]);
        assert_eq!(receive_trailers(&both, 9).unwrap().len(), 1);
    }
}

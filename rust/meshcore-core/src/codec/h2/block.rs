//! A field list as it was received, checked field by field (RFC 9113 §8.2, §8.3).

use super::HeadError;
use crate::codec::asked::Asked;
use crate::codec::error::CodecError;
use crate::codec::field::{is_lower_token_byte, valid_field_value};
use crate::codec::header_class::may_be_trailer;
use crate::codec::limits::Limits;
use crate::error::Reason;
use crate::head::{Headers, Span};

/// What a field costs beside its name and value (RFC 9113 §6.5.2).
pub(super) const FIELD_BYTES: usize = 32;
/// The multiple of the limit that no client exceeds by mistake (CVE-2016-6581).
const BOMB: usize = 4;
/// Bytes of a pseudo field that are kept of a list that may not pass: a log line takes fewer.
const NOTED: usize = 4096;

/// The fields that begin with a colon.
#[derive(Debug, Default)]
pub(super) struct Pseudo {
    pub(super) method: Option<Span>,
    pub(super) scheme: Option<Span>,
    pub(super) authority: Option<Span>,
    pub(super) path: Option<Span>,
    pub(super) protocol: Option<Span>,
    pub(super) status: Option<Span>,
}

impl Pseudo {
    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<Span>> {
        Some(match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            b":status" => &mut self.status,
            _ => return None,
        })
    }

    pub(super) fn is_of_request(&self) -> bool {
        let Self { method, scheme, authority, path, protocol, .. } = self;
        [method, scheme, authority, path, protocol].iter().any(|field| field.is_some())
    }
}

/// A list that is being read. Whatever is wrong with it, the rest is read too: the tables of HPACK
/// must stay in step, and a bad list costs its stream, not the connection.
#[derive(Debug)]
pub struct Block {
    /// The plain fields, and the bytes of the pseudo fields.
    pub(super) headers: Headers,
    pub(super) pseudo: Pseudo,
    /// What there was of `cookie`.
    crumbs: Option<Vec<u8>>,
    bytes: usize,
    fields: usize,
    plain: bool,
    malformed: Option<&'static str>,
    max_bytes: usize,
    max_fields: usize,
}

impl Block {
    /// A list of at most `max_fields` fields; the crumbs of a cookie are one, and each has its
    /// [`FIELD_BYTES`] among the bytes. `sent_bytes` is how long it was on the wire.
    pub(super) fn new(limits: &Limits, max_fields: usize, sent_bytes: usize) -> Self {
        Self {
            headers: Headers::with_capacity((2 * sent_bytes + 128).min(1024)),
            pseudo: Pseudo::default(),
            crumbs: None,
            bytes: 0,
            fields: 0,
            plain: false,
            malformed: None,
            max_bytes: limits.header_bytes,
            max_fields,
        }
    }

    /// Whether it has more bytes or fields than are taken.
    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.max_bytes || self.fields > self.max_fields
    }

    /// Whether it is so large that reading it was the point of sending it.
    pub(super) fn is_bomb(&self) -> bool {
        self.bytes > BOMB * self.max_bytes
    }

    /// Takes the next field.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.bytes += name.len() + value.len() + FIELD_BYTES;
        let pseudo = name.first() == Some(&b':');
        let further_crumb = self.crumbs.is_some() && name == b"cookie";
        self.fields += usize::from(!pseudo && !further_crumb);
        if self.malformed.is_some() || self.is_over() {
            // It is read to its end, and nothing of it is kept but what the log tells.
            return if pseudo {
                self.note(name, value)
            };
        }
        if !valid_field_value(value) {
            self.malformed = Some("invalid field value");
        } else if pseudo {
            self.malformed = self.push_pseudo(name, value).err();
        } else {
            self.plain = true;
            self.malformed = self.push_plain(name, value).err();
        }
    }

    /// Keeps as much of a pseudo field as is ever logged.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        let span = self.headers.append(&value[..value.len().min(NOTED)]);
        if let Some(slot @ None) = self.pseudo.slot(name) {
            *slot = Some(span);
        }
    }

    /// What a request that may not pass asks for.
    pub(super) fn asked(&self) -> Asked {
        let text = |span: Option<Span>| span.map(|span| self.headers.slice(span));
        let Pseudo { method, authority, path, .. } = &self.pseudo;
        let host = text(*authority).or_else(|| self.headers.get(b"host"));
        let [method, path] = [*method, *path].map(|span| text(span).unwrap_or_default());
        Asked::of_list(method, host.unwrap_or_default(), path, self.bytes)
    }

    /// §8.3: each once, and before the others.
    fn push_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let span = self.headers.append(value);
        let slot = self.pseudo.slot(name).ok_or("unknown pseudo field")?;
        if self.plain {
            return Err("pseudo field behind a plain one");
        }
        if slot.replace(span).is_some() {
            return Err("pseudo field twice");
        }
        Ok(())
    }

    /// §8.2.1, §8.2.2: lower case, and nothing about a connection; §8.2.3: crumbs are one field.
    fn push_plain(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let about_connection = match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => true,
            b"te" if !value.eq_ignore_ascii_case(b"trailers") => {
                return Err("te with more than trailers");
            }
            _ => false,
        };
        if about_connection {
            return Err("field about the connection");
        }
        if name.is_empty() || !name.iter().fold(true, |valid, &b| valid & is_lower_token_byte(b)) {
            let upper = name.iter().any(u8::is_ascii_uppercase);
            return Err(if upper { "uppercase field name" } else { "invalid field name" });
        }
        if name == b"cookie" {
            let crumbs = self.crumbs.get_or_insert_default();
            if !crumbs.is_empty() {
                crumbs.extend_from_slice(b"; ");
            }
            crumbs.extend_from_slice(value);
        } else {
            self.headers.push_folded(name, value);
        }
        Ok(())
    }

    /// The whole list, if it may be a message.
    pub(super) fn finish(mut self) -> Result<(Headers, Pseudo), HeadError> {
        self.close()?;
        Ok((self.headers, self.pseudo))
    }

    /// The list is here: it has all of its fields, if it may be a message.
    pub(super) fn close(&mut self) -> Result<(), HeadError> {
        if let Some(detail) = self.malformed {
            return Err(HeadError::Malformed(detail));
        }
        if self.is_over() {
            let many = self.fields > self.max_fields;
            let message = if many { "too many fields" } else { "field list too large" };
            return Err(CodecError::new(Reason::HeadersTooLarge, message).into());
        }
        if let Some(crumbs) = self.crumbs.take().filter(|crumbs| !crumbs.is_empty()) {
            self.headers.push_folded(b"cookie", &crumbs);
        }
        Ok(())
    }

    /// The trailers that may pass (§8.1: no pseudo fields).
    pub(super) fn trailers(self) -> Result<Headers, HeadError> {
        let (mut headers, pseudo) = self.finish()?;
        if pseudo.is_of_request() || pseudo.status.is_some() {
            return Err(HeadError::Malformed("pseudo field in trailers"));
        }
        headers.retain(|name, _| may_be_trailer(name));
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fields: &[(&str, &[u8])], max: usize) -> Result<(Headers, Pseudo), HeadError> {
        let mut block = Block::new(&Limits::default(), max, 0);
        fields.iter().for_each(|(name, value)| block.push(name.as_bytes(), value));
        block.finish()
    }

    #[test]
    fn crumbs_are_rejoined_and_count_as_one_field() {
        let crumbs: [(&str, &[u8]); 3] = [("cookie", b"a=1"), ("x", b"y"), ("cookie", b"b=2")];
        let (headers, _) = block(&crumbs, 2).unwrap();
        assert_eq!(headers.get(b"cookie"), Some(&b"a=1; b=2"[..]));
        assert_eq!(headers.len(), 2);
        let Err(HeadError::Refused(error)) = block(&crumbs, 1) else { panic!("taken") };
        assert_eq!(error.reason, Reason::HeadersTooLarge);
    }

    #[test]
    fn each_crumb_has_its_bytes() {
        let limits = Limits::default();
        for value in [&b""[..], b"a=1"] {
            let full = limits.header_bytes / ("cookie".len() + value.len() + FIELD_BYTES);
            assert!(block(&vec![("cookie", value); full], 1).is_ok());
            let error = block(&vec![("cookie", value); full + 1], 1).err();
            assert!(matches!(error, Some(HeadError::Refused(_))), "{full}");
        }
    }

    #[test]
    fn malformed_fields() {
        for (name, value) in [
            ("X", &b"y"[..]),
            ("", b"y"),
            ("a b", b"y"),
            ("a:", b"y"),
            ("x", b"a\nb"),
            ("x", b"a\0"),
            ("x", b" a"),
            ("x", b"a\t"),
            ("connection", b"close"),
            ("upgrade", b"x"),
            ("transfer-encoding", b"chunked"),
            ("te", b"gzip"),
            (":other", b"x"),
        ] {
            let error = block(&[(name, value)], 9).err();
            assert!(matches!(error, Some(HeadError::Malformed(_))), "{name}");
        }
        for twice in [[(":path", &b"/"[..]), (":path", b"/")], [("x", b"y"), (":path", b"/")]] {
            assert!(matches!(block(&twice, 9), Err(HeadError::Malformed(_))));
        }
    }

    #[test]
    fn only_trailers_are_trailers() {
        let mut block = Block::new(&Limits::default(), 9, 0);
        block.push(b"grpc-status", b"0");
        block.push(b"set-cookie", b"a");
        assert_eq!(block.trailers().unwrap().len(), 1);
        let mut block = Block::new(&Limits::default(), 9, 0);
        block.push(b":status", b"200");
        let error = HeadError::Malformed("pseudo field in trailers");
        assert_eq!(block.trailers().err(), Some(error));
    }
}

//! httparse over one complete block.
//!
//! [`super::input`] has already made sure that every line ends with CRLF and that the block is
//! within its limits; httparse checks names, values and the start line's shape (RFC 9112 §3, §4,
//! §5). With its defaults it refuses obs-fold, blanks before the colon and control bytes; only a
//! response's blanks are removed, as RFC 9112 §5.1 asks.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::error::CodecError;
use super::input::ScanError;
use super::limits::Limits;
use crate::error::Reason;
use crate::head::{Headers, Span, Version};

/// Fields that fit on the stack; a longer list is parsed once more on the heap.
const STACK_FIELDS: usize = 64;

/// A request's start line and its fields, in one buffer.
pub(super) struct RequestBlock {
    pub(super) version: Version,
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) headers: Headers,
}

/// A response's start line and its fields.
pub(super) struct ResponseBlock {
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) headers: Headers,
}

impl From<ScanError> for CodecError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::BareLf => Self::bad("bare line feed"),
            ScanError::NoStartLine => Self::bad("empty line before the start line"),
            ScanError::LongLine => Self::new(Reason::UriTooLong, "start line too long"),
            ScanError::TooLarge => Self::new(Reason::HeadersTooLarge, "head too large"),
            ScanError::TooMany => Self::new(Reason::HeadersTooLarge, "too many fields"),
        }
    }
}

fn fault(error: httparse::Error) -> CodecError {
    match error {
        httparse::Error::HeaderName => CodecError::bad("invalid field name"),
        httparse::Error::HeaderValue => CodecError::bad("invalid field value"),
        httparse::Error::NewLine => CodecError::bad("invalid line end"),
        httparse::Error::Status => CodecError::bad("invalid status line"),
        httparse::Error::Token => CodecError::bad("invalid start line"),
        httparse::Error::TooManyHeaders => {
            CodecError::new(Reason::HeadersTooLarge, "too many fields")
        }
        httparse::Error::Version => CodecError::bad("invalid version"),
    }
}

/// 505 for a version that exists but is not spoken here (RFC 9110 §15.6.6), 400 for nonsense.
fn version_fault(block: &[u8]) -> CodecError {
    let line = block.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&b| b == b' ').skip(2);
    let (word, further) = (words.next().unwrap_or_default(), words.next());
    match word {
        // In its place stands the rest of a target with a space in it.
        _ if further.is_some() => CodecError::bad("invalid version"),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            CodecError::new(Reason::VersionNotSupported, "unsupported version")
        }
        _ => CodecError::bad("invalid version"),
    }
}

const fn version(minor: u8) -> Version {
    if minor == 0 { Version::Http10 } else { Version::Http11 }
}

fn span(range: Range<usize>) -> Span {
    Span { start: range.start as u32, len: range.len() as u32 }
}

/// Where `part`, a slice of `whole`, lies in it.
fn span_in(whole: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    span(start..start + part.len())
}

/// Copies the block once; the fields become spans into the copy. `keep_case`: a second copy tells how
/// names were written.
fn adopt(block: &[u8], fields: &[httparse::Header<'_>], keep_case: bool) -> Headers {
    let mut headers = Headers::with_capacity(block.len());
    headers.append(block);
    if keep_case {
        headers.keep_written();
    }
    for field in fields {
        headers.push_spans(span_in(block, field.name.as_bytes()), span_in(block, field.value));
    }
    headers
}

type Fields<'a, 'b> = &'a mut [MaybeUninit<httparse::Header<'b>>];

/// Runs `parse` with room on the stack, and once more with room for `max` fields if that was
/// too little.
fn with_fields<'b, T>(
    max: usize,
    mut parse: impl FnMut(Fields<'_, 'b>) -> Result<T, httparse::Error>,
) -> Result<T, httparse::Error> {
    let mut few = [const { MaybeUninit::uninit() }; STACK_FIELDS];
    match parse(&mut few[..max.min(STACK_FIELDS)]) {
        Err(httparse::Error::TooManyHeaders) if max > STACK_FIELDS => {
            parse(&mut vec![MaybeUninit::uninit(); max])
        }
        result => result,
    }
}

/// Parses the block of a request.
pub(super) fn request(block: &[u8], limits: &Limits) -> Result<RequestBlock, CodecError> {
    let parsed = with_fields(limits.headers, |fields| {
        let mut line = httparse::Request::new(&mut []);
        let status = line.parse_with_uninit_headers(block, fields)?;
        let (method, target) = (line.method.unwrap_or_default(), line.path.unwrap_or_default());
        Ok(status.is_complete().then(|| RequestBlock {
            version: version(line.version.unwrap_or_default()),
            method: span_in(block, method.as_bytes()),
            target: span_in(block, target.as_bytes()),
            headers: adopt(block, line.headers, limits.keep_case),
        }))
    });
    match parsed {
        Ok(Some(request)) => Ok(request),
        Ok(None) => Err(CodecError::bad("incomplete head")),
        Err(httparse::Error::Version) => Err(version_fault(block)),
        Err(error) => Err(fault(error)),
    }
}

/// Parses the block of a response.
pub(super) fn response(block: &[u8], max_fields: usize) -> Result<ResponseBlock, CodecError> {
    let parsed = with_fields(max_fields, |fields| {
        let mut line = httparse::Response::new(&mut []);
        let mut config = httparse::ParserConfig::default();
        // RFC 9112 §5.1: a proxy removes blanks between a response's field name and its colon.
        config.allow_spaces_after_header_name_in_responses(true);
        let status = config.parse_response_with_uninit_headers(&mut line, block, fields)?;
        Ok(status.is_complete().then(|| ResponseBlock {
            version: version(line.version.unwrap_or_default()),
            status: line.code.unwrap_or_default(),
            headers: adopt(block, line.headers, false),
        }))
    });
    match parsed {
        Ok(Some(response)) if (100..600).contains(&response.status) => Ok(response),
        Ok(Some(_)) => Err(CodecError::bad("status out of range")),
        Ok(None) => Err(CodecError::bad("incomplete head")),
        // As which the parser takes the blank.
        Err(httparse::Error::HeaderName) if is_folded(block) => {
            Err(CodecError::bad("folded field"))
        }
        Err(error) => Err(fault(error)),
    }
}

fn is_folded(block: &[u8]) -> bool {
    block.windows(2).any(|pair| matches!(pair, [b'\n', b' ' | b'\t']))
}

/// Parses a trailer section, its empty line included.
pub(super) fn trailers(
    block: &[u8],
    max_fields: usize,
    keep_case: bool,
) -> Result<Headers, CodecError> {
    let mut fields = vec![httparse::EMPTY_HEADER; max_fields];
    match httparse::parse_headers(block, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => Ok(adopt(block, fields, keep_case)),
        Ok(httparse::Status::Partial) => Err(CodecError::bad("incomplete trailers")),
        Err(error) => Err(fault(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(block: &[u8], headers: usize) -> Result<RequestBlock, CodecError> {
        request(block, &Limits { headers, ..Limits::default() })
    }

    #[test]
    fn versions_that_exist_are_505_and_nonsense_is_400() {
        for (line, status) in [
            (&b"GET / HTTP/2.0\r\n\r\n"[..], 505),
            (b"GET / HTTP/1.2\r\n\r\n", 505),
            (b"PRI * HTTP/2.0\r\n\r\n", 505),
            (b"GET / HTTP/1.\r\n\r\n", 400),
            (b"GET / http/1.1\r\n\r\n", 400),
            (b"GET /a b HTTP/1.1\r\n\r\n", 400),
            (b"GET /  HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/2.0 HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/11\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 400),
        ] {
            assert_eq!(read(line, 10).err().map(|e| e.reason.status()), Some(status), "{line:?}");
        }
    }

    #[test]
    fn names_are_lower_case_and_values_trimmed() {
        let got = read(b"GET /a HTTP/1.1\r\nHoST:  b \t\r\nX:\r\n\r\n", 10).unwrap();
        assert_eq!(
            got.headers.iter().collect::<Vec<_>>(),
            [(&b"host"[..], &b"b"[..]), (b"x", b"")]
        );
        assert_eq!(got.headers.slice(got.target), b"/a");
    }

    #[test]
    fn blanks_before_a_colon_are_removed_from_responses_alone() {
        let block = b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nX \t :1\r\n\r\n";
        let got = response(block, 10).unwrap();
        assert_eq!(
            got.headers.iter().collect::<Vec<_>>(),
            [(&b"transfer-encoding"[..], &b"chunked"[..]), (b"x", b"1")]
        );
        assert!(read(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 10).is_err());
        assert!(trailers(b"X : 1\r\n\r\n", 10, false).is_err());
        for wrong in [&b"HTTP/1.1 200 OK\r\nA b: 1\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\n : 1\r\n\r\n"]
        {
            assert!(response(wrong, 10).is_err());
        }
    }

    #[test]
    fn more_fields_than_fit_the_stack() {
        let mut block = b"GET / HTTP/1.1\r\n".to_vec();
        for i in 0..100 {
            block.extend_from_slice(format!("x-{i}: {i}\r\n").as_bytes());
        }
        block.extend_from_slice(b"\r\n");
        assert_eq!(read(&block, 100).unwrap().headers.len(), 100);
        let refused = read(&block, 99).err().map(|e| e.reason);
        assert_eq!(refused, Some(Reason::HeadersTooLarge));
    }
}

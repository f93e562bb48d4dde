//! What the connection must know of a head's fields, drawn in one pass (RFC 9112 §6, §9).

use super::error::CodecError;
use super::field::{is_token_byte, list};
use super::header_class::is_twin;
use crate::error::Reason;
use crate::head::{Headers, Span, Version};

/// The largest content length taken: the sum of bodies must not overflow anyone's signed counter.
pub(super) const MAX_LENGTH: u64 = i64::MAX as u64;

/// Each field of a message is compared with each option when it is forwarded; real ones have two.
const MAX_OPTIONS: u8 = 32;

/// The fields that frame a message or steer its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Words in its `connection` fields.
    options: u8,
    /// One of them is neither `close` nor `keep-alive`.
    pub(super) nominates: bool,
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) host: Option<Span>,
    pub(super) expect_continue: bool,
    /// The value of `upgrade`; it counts when `connection` lists it.
    pub(super) upgrade: Option<Span>,
    pub(super) wants_upgrade: bool,
}

impl Facts {
    /// Whether the connection persists after this message (RFC 9112 §9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version != Version::Http10 || self.keep_alive)
    }
}

/// Whose head it is: `Host` and `Expect` mean nothing in a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Request,
    Response,
}

#[derive(Clone, Copy)]
enum Steering {
    Host,
    Expect,
    Upgrade,
    Connection,
    ContentLength,
    TransferEncoding,
    /// A framing field with underscores for hyphens: it would frame the request a second time.
    Twin,
}

/// Which field it is, by length first: most fields fall out on one comparison.
fn steering(name: &[u8], role: Role) -> Option<Steering> {
    let request = role == Role::Request;
    match name.len() {
        4 if request && name == b"host" => Some(Steering::Host),
        6 if request && name == b"expect" => Some(Steering::Expect),
        7 if request && name == b"upgrade" => Some(Steering::Upgrade),
        10 if name == b"connection" => Some(Steering::Connection),
        14 if name == b"content-length" => Some(Steering::ContentLength),
        17 if name == b"transfer-encoding" => Some(Steering::TransferEncoding),
        14 if request && is_twin(name, b"content-length") => Some(Steering::Twin),
        17 if request && is_twin(name, b"transfer-encoding") => Some(Steering::Twin),
        _ => None,
    }
}

/// Draws the facts from a head's fields.
///
/// # Errors
/// Everything that two readers could frame differently: both `Transfer-Encoding` and
/// `Content-Length`, either of them twice, a length that is not digits, a coding other than
/// exactly `chunked`, any coding in HTTP/1.0 (RFC 9112 §6.1).
pub(super) fn facts(headers: &Headers, version: Version, role: Role) -> Result<Facts, CodecError> {
    let mut facts = Facts::default();
    let mut coding: Option<&[u8]> = None;
    for ((name, value), span) in headers.iter().zip(headers.value_spans()) {
        match steering(name, role) {
            None => {}
            Some(Steering::Host) => once(&mut facts.host, span, "more than one host")?,
            Some(Steering::Expect) => expect(value, version, &mut facts)?,
            Some(Steering::Upgrade) => facts.upgrade = Some(span),
            Some(Steering::Connection) => connection(value, &mut facts)?,
            Some(Steering::ContentLength) => {
                once(&mut facts.content_length, length(value)?, "more than one content-length")?;
            }
            Some(Steering::Twin) => return Err(CodecError::bad("framing field with underscores")),
            Some(Steering::TransferEncoding) => {
                once(&mut coding, value, "more than one transfer-encoding")?;
            }
        }
    }
    if let Some(value) = coding {
        one_coding(value, version, &facts)?;
        facts.chunked = true;
    }
    Ok(facts)
}

fn once<T>(slot: &mut Option<T>, value: T, message: &'static str) -> Result<(), CodecError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(CodecError::bad(message)),
    }
}

fn one_coding(value: &[u8], version: Version, facts: &Facts) -> Result<(), CodecError> {
    if facts.content_length.is_some() {
        return Err(CodecError::bad("both transfer-encoding and content-length"));
    }
    if version == Version::Http10 {
        return Err(CodecError::bad("transfer-encoding in HTTP/1.0"));
    }
    check_coding(value)
}

/// 501 for a well-formed list of codings, 400 for one that ends or repeats wrongly.
fn check_coding(value: &[u8]) -> Result<(), CodecError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let well_formed = value.split(|&b| b == b',').all(|member| {
        let member = member.trim_ascii();
        !member.is_empty() && member.iter().all(|&b| is_token_byte(b))
    });
    let chunked = list(value).filter(|m| m.eq_ignore_ascii_case(b"chunked")).count();
    let last = list(value).last().is_some_and(|m| m.eq_ignore_ascii_case(b"chunked"));
    match well_formed && (chunked == 0 || chunked == 1 && last) {
        true => Err(CodecError::new(Reason::UnknownTransferCoding, "unknown transfer coding")),
        false => Err(CodecError::bad("invalid transfer-encoding")),
    }
}

/// Digits only: no sign, blank, list or hexadecimal (RFC 9110 §8.6).
fn length(value: &[u8]) -> Result<u64, CodecError> {
    // 19 digits hold 2^63-1 and cannot overflow 64 bits.
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(CodecError::bad("content-length is not a number"));
    }
    let n = value.iter().fold(0u64, |n, &d| n * 10 + u64::from(d - b'0'));
    if n <= MAX_LENGTH { Ok(n) } else { Err(CodecError::bad("content-length too large")) }
}

fn connection(value: &[u8], facts: &mut Facts) -> Result<(), CodecError> {
    for option in list(value) {
        facts.options += 1;
        if facts.options > MAX_OPTIONS {
            return Err(CodecError::bad("too many connection options"));
        }
        let close = option.eq_ignore_ascii_case(b"close");
        let keep_alive = option.eq_ignore_ascii_case(b"keep-alive");
        facts.close |= close;
        facts.keep_alive |= keep_alive;
        facts.nominates |= !(close || keep_alive);
        facts.wants_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
    }
    Ok(())
}

/// RFC 9110 §10.1.1: an unknown expectation is 417; in HTTP/1.0 the field is ignored.
fn expect(value: &[u8], version: Version, facts: &mut Facts) -> Result<(), CodecError> {
    if version == Version::Http10 {
        return Ok(());
    }
    if !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(CodecError::new(Reason::ExpectationFailed, "unknown expectation"));
    }
    facts.expect_continue = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &str)]) -> Result<Facts, u16> {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        facts(&headers, Version::Http11, Role::Request).map_err(|e| e.reason.status())
    }

    #[test]
    fn lengths_are_digits() {
        for good in ["0", "5", "0005", "9223372036854775807"] {
            assert!(of(&[("content-length", good)]).is_ok(), "{good}");
        }
        for bad in [
            "",
            "+3",
            "-0",
            "0x3",
            "3_0",
            "3 0",
            "5, 5",
            "5,",
            "3.0",
            "1e3",
            "\u{b2}",
            "9223372036854775808",
            "18446744073709551616",
            "00000000000000000005",
        ] {
            assert_eq!(of(&[("content-length", bad)]), Err(400), "{bad}");
        }
    }

    #[test]
    fn only_chunked_is_a_coding() {
        for good in ["chunked", "Chunked", "CHUNKED"] {
            assert!(of(&[("transfer-encoding", good)]).unwrap().chunked);
        }
        for (value, status) in [
            ("gzip", 501),
            ("identity", 501),
            ("xchunked", 501),
            ("gzip, chunked", 501),
            ("chunked, gzip", 400),
            ("chunked, identity", 400),
            ("chunked, chunked", 400),
            ("chunked,", 400),
            (",chunked", 400),
            ("", 400),
            ("\"chunked\"", 400),
            ("chunked;q=1", 400),
            ("chun ked", 400),
        ] {
            assert_eq!(of(&[("transfer-encoding", value)]), Err(status), "{value}");
        }
    }

    #[test]
    fn twice_or_both_is_ambiguous() {
        for fields in [
            [("content-length", "5"), ("content-length", "5")],
            [("content-length", "5"), ("content-length", "6")],
            [("content-length", "5"), ("transfer-encoding", "chunked")],
            [("transfer-encoding", "chunked"), ("content-length", "5")],
            [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            [("host", "a"), ("host", "a")],
        ] {
            assert_eq!(of(&fields), Err(400), "{fields:?}");
        }
    }

    #[test]
    fn close_wins_over_keep_alive() {
        let facts = of(&[("connection", "Keep-Alive, x"), ("connection", "CLOSE")]).unwrap();
        assert!(!facts.persists(Version::Http11));
        assert!(of(&[]).unwrap().persists(Version::Http11));
        assert!(!of(&[]).unwrap().persists(Version::Http10));
        assert!(of(&[("connection", "keep-alive")]).unwrap().persists(Version::Http10));
    }

    #[test]
    fn framing_twins_are_refused() {
        for name in ["content_length", "transfer_encoding"] {
            assert_eq!(of(&[(name, "1")]), Err(400), "{name}");
        }
        assert!(of(&[("content-lengtH", "1"), ("transfer-encodinh", "1")]).is_ok());
    }

    #[test]
    fn a_response_has_no_host_and_no_expectation() {
        let mut headers = Headers::default();
        for (name, value) in [("host", "a"), ("host", "b"), ("expect", "x")] {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        assert!(facts(&headers, Version::Http11, Role::Response).is_ok());
    }
}

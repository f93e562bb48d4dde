//! The chunked coding, decoded by our own machine (RFC 9112 §7.1).
//!
//! httparse's helper takes an empty size as zero and any byte, LF included, inside an extension;
//! both let two readers see different bodies (CVE-2025-22871, CVE-2025-55315). This one takes 1 to
//! 16 hexadecimal digits, CRLF and nothing else as a line end, and exactly CRLF behind the data
//! (CVE-2025-43859). Extensions are read over and never forwarded.

use super::body::Progress;
use super::error::CodecError;
use super::event::BodyPart;
use super::field::is_token_byte;
use super::framing::MAX_LENGTH;
use super::header_class::may_be_trailer;
use super::input::{BlockRules, Input};
use super::limits::Limits;
use super::parse;
use crate::error::Reason;
use crate::head::Headers;

/// Digits of a chunk size: 16 hold 64 bits (hyper, CVE-2021-32714).
const MAX_DIGITS: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size.
    Size,
    /// In blanks between the size and an extension.
    Blank,
    /// Where an extension's name is due.
    ExtensionName,
    /// In an extension, outside quotes.
    Extension,
    /// In an extension's quoted value.
    Quoted,
    /// Behind a backslash in a quoted value.
    QuotedPair,
    /// The LF of a size line is due.
    SizeLf,
    /// In the data.
    Data,
    /// The CR behind the data is due.
    DataCr,
    /// The LF behind the data is due.
    DataLf,
    /// In the trailer section.
    Trailers,
    /// Behind the last line.
    Done,
}

const fn invalid_extension() -> CodecError {
    CodecError::bad("invalid chunk extension")
}

/// The decoder of one body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// The size being read, then what is left of the chunk's data.
    left: u64,
    digits: u8,
    /// What is left of the limits of this message.
    extension_left: usize,
    body_left: u64,
    trailer_rules: BlockRules,
    trailers: Input,
    keep_case: bool,
}

impl Chunked {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            state: State::Size,
            left: 0,
            digits: 0,
            extension_left: limits.chunk_extension,
            body_left: limits.body.unwrap_or(MAX_LENGTH),
            trailer_rules: BlockRules {
                max_bytes: limits.trailer_bytes,
                max_lines: limits.trailers,
                leading: 0,
                may_be_empty: true,
                bare_lf: false,
            },
            trailers: Input::default(),
            keep_case: limits.keep_case,
        }
    }

    /// Decodes `src` from `at` on, up to the end of the body or of `src`.
    pub(super) fn read(&mut self, src: &[u8], mut at: usize) -> Result<Progress, CodecError> {
        let mut part = BodyPart::default();
        while at < src.len() {
            match self.state {
                State::Data => {
                    let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(src.len() - at);
                    part.bytes.push(at..at + n, src);
                    at += n;
                    self.left -= n as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                }
                State::Trailers => {
                    let (used, trailers) = self.trailer_section(&src[at..])?;
                    at += used;
                    part.trailers = trailers;
                }
                State::Done => break,
                _ => {
                    self.step(src[at])?;
                    at += 1;
                }
            }
        }
        part.end = self.state == State::Done;
        Ok(Progress { part, used: at })
    }

    /// One byte of framing.
    fn step(&mut self, b: u8) -> Result<(), CodecError> {
        self.state = match (self.state, b) {
            (State::Size, _) if b.is_ascii_hexdigit() => return self.digit(b),
            (State::Size, _) if self.digits == 0 => {
                return Err(CodecError::bad("chunk size without a digit"));
            }
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::Size | State::Blank, b' ' | b'\t') => self.spend(State::Blank)?,
            (State::Size | State::Blank | State::Extension, b';') => {
                self.spend(State::ExtensionName)?
            }
            (State::ExtensionName, b' ' | b'\t') => self.spend(State::ExtensionName)?,
            (State::ExtensionName, _) if !is_token_byte(b) => return Err(invalid_extension()),
            (State::Extension, b'"') | (State::QuotedPair, 0x20..=0x7e | b'\t' | 0x80..) => {
                self.spend(State::Quoted)?
            }
            (State::Quoted, b'\\') => self.spend(State::QuotedPair)?,
            (State::Quoted, b'"') => self.spend(State::Extension)?,
            (State::Quoted, b'\t' | b' '..=b'~' | 0x80..) => self.spend(State::Quoted)?,
            (State::ExtensionName | State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.spend(State::Extension)?
            }
            (State::SizeLf, b'\n') => self.data_or_trailers()?,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.digits = 0;
                State::Size
            }
            (State::Size | State::Blank, _) => {
                return Err(CodecError::bad("invalid byte behind a chunk size"));
            }
            (State::Extension | State::Quoted | State::QuotedPair, _) => {
                return Err(invalid_extension());
            }
            _ => return Err(CodecError::bad("invalid chunk line end")),
        };
        Ok(())
    }

    fn digit(&mut self, b: u8) -> Result<(), CodecError> {
        self.digits += 1;
        let value = (b as char).to_digit(16).unwrap_or_default();
        if self.digits > MAX_DIGITS || self.left > MAX_LENGTH >> 4 {
            return Err(CodecError::bad("chunk size too large"));
        }
        self.left = self.left << 4 | u64::from(value);
        Ok(())
    }

    fn spend(&mut self, next: State) -> Result<State, CodecError> {
        match self.extension_left.checked_sub(1) {
            Some(left) => self.extension_left = left,
            // RFC 9112 §7.1.1.
            None => return Err(CodecError::new(Reason::BodyTooLarge, "chunk extensions too long")),
        }
        Ok(next)
    }

    fn data_or_trailers(&mut self) -> Result<State, CodecError> {
        match self.body_left.checked_sub(self.left) {
            Some(left) => self.body_left = left,
            None => return Err(CodecError::new(Reason::BodyTooLarge, "body too large")),
        }
        Ok(if self.left == 0 { State::Trailers } else { State::Data })
    }

    /// Reads trailers; gives how many bytes of `data` it used.
    fn trailer_section(
        &mut self,
        data: &[u8],
    ) -> Result<(usize, Option<Box<Headers>>), CodecError> {
        let too_large = |e: CodecError| match e.reason {
            Reason::UriTooLong | Reason::HeadersTooLarge => {
                CodecError::new(Reason::HeadersTooLarge, "trailers too large")
            }
            _ => e,
        };
        let located = self.trailers.locate(data, &self.trailer_rules, |_| None::<CodecError>);
        let Some(at) = located.map_err(too_large)? else { return Ok((data.len(), None)) };
        let block = self.trailers.block(&at, data);
        let mut trailers = None;
        if block.len() > 2 {
            let mut fields = parse::trailers(block, self.trailer_rules.max_lines, self.keep_case)?;
            fields.retain(|name, _| may_be_trailer(name));
            trailers = Some(Box::new(fields)).filter(|f| !f.is_empty());
        }
        // An incomplete section is all the buffer ever holds, so the rest is always in `data`.
        let used = self.trailers.leave(&at, data).unwrap_or(data.len());
        self.state = State::Done;
        Ok((used, trailers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            chunk_extension: 8,
            trailer_bytes: 32,
            trailers: 2,
            body: Some(100),
            ..Limits::default()
        }
    }

    /// The body, whether it ended, and how many bytes it took; the same for whole and byte-wise.
    fn decode(src: &[u8]) -> Result<(Vec<u8>, bool, usize), (u16, &'static str)> {
        let run = |step: usize| {
            let mut chunked = Chunked::new(&limits());
            let (mut body, mut used) = (Vec::new(), 0);
            for piece in src.chunks(step) {
                let progress =
                    chunked.read(piece, 0).map_err(|e| (e.reason.status(), e.message))?;
                progress.part.bytes.append_to(piece, &mut body);
                used += progress.used;
                if progress.part.end {
                    return Ok((body, true, used));
                }
            }
            Ok((body, false, used))
        };
        let whole = run(src.len().max(1));
        assert_eq!(whole, run(1), "{:?}", String::from_utf8_lossy(src));
        whole
    }

    #[test]
    fn decodes() {
        for (src, body, used) in [
            (&b"3\r\nabc\r\n0\r\n\r\nGET"[..], &b"abc"[..], 13),
            (b"0a\r\n0123456789\r\n00\r\n\r\n", b"0123456789", 22),
            (b"1;a=b\r\nx\r\n0 ; a\r\n\r\n", b"x", 19),
            (b"1;a=\";\"\r\nx\r\n0\r\n\r\n", b"x", 17),
            (b"0;a=\"\\\"\"\r\n\r\n", b"", 12),
            (b"1\r\nx\r\n1\r\ny\r\n0\r\na: b\r\n\r\n", b"xy", 23),
        ] {
            assert_eq!(decode(src), Ok((body.to_vec(), true, used)));
        }
    }

    #[test]
    fn refuses() {
        for (src, status) in [
            (&b"\r\n"[..], 400),
            (b" 2\r\nab\r\n", 400),
            (b"2 \r\nab\r\n", 400),
            (b"0x2\r\nab\r\n", 400),
            (b"-1\r\n", 400),
            (b"+1\r\n", 400),
            (b"2_0\r\n", 400),
            (b"g\r\n", 400),
            (b"00000000000000001\r\n", 400),
            (b"8000000000000000\r\n", 400),
            (b"2\nab\r\n", 400),
            (b"2\rxab\r\n", 400),
            (b"2\r\nabc\r\n", 400),
            (b"2\r\nab\n0\r\n\r\n", 400),
            (b"2\r\nab\rx", 400),
            (b"2;a\nb\r\n", 400),
            (b"2;a\0b\r\n", 400),
            (b"2;a\r\r\n", 400),
            (b"2;\r\n", 400),
            (b"2;;a\r\n", 400),
            (b"2;a; \r\n", 400),
            (b"2;=a\r\n", 400),
            (b"2;a=\"b\r\n", 400),
            (b"2;a=\"\\\r\n", 400),
            (b"2;12345678\r\n", 413),
            (b"0\r\na: b\n\r\n", 400),
            (b"0\r\na b\r\n\r\n", 400),
            (b"0\r\n a: b\r\n\r\n", 400),
            (b"0\r\na:1\r\nb:2\r\nc:3\r\n\r\n", 431),
            (b"0\r\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: b\r\n\r\n", 431),
            (b"65\r\n", 413),
        ] {
            let got = decode(src).map_err(|(status, _)| status);
            assert_eq!(got, Err(status), "{:?}", String::from_utf8_lossy(src));
        }
    }

    #[test]
    fn limits_hold_at_the_byte() {
        let mut body = b"64;234567\r\n".to_vec();
        body.extend_from_slice(&[b'x'; 100]);
        body.extend_from_slice(b"\r\n0\r\n\r\n");
        assert_eq!(decode(&body).map(|(b, end, _)| (b.len(), end)), Ok((100, true)));
        let mut over = b"63\r\n".to_vec();
        over.extend_from_slice(&[b'x'; 99]);
        over.extend_from_slice(b"\r\n2\r\n");
        assert_eq!(decode(&over).map_err(|(status, _)| status), Err(413));
    }

    #[test]
    fn forbidden_trailers_are_dropped() {
        let mut limits = limits();
        limits.trailer_bytes = 1000;
        limits.trailers = 10;
        let mut chunked = Chunked::new(&limits);
        let src =
            b"0\r\nHost: x\r\ngrpc-status: 0\r\nContent-Length: 3\r\nX-Forwarded-For: 1\r\n\r\n";
        let part = chunked.read(src, 0).unwrap().part;
        let trailers = part.trailers.unwrap();
        assert_eq!(trailers.iter().collect::<Vec<_>>(), [(&b"grpc-status"[..], &b"0"[..])]);
    }
}

//! What an upstream's `lenient` lets us mend in a response's head, before the strict parser reads it.
//!
//! A mended head is written anew for the client, so nothing behind us reads it in two ways. Where
//! we and the endpoint could: it may mean another end of the body than we do. So its connection
//! carries no other request, and what is left on it answers no request. Never mended is what frames
//! the body in two ways: that would be a guess, and a cache would keep it.

use super::error::CodecError;
use super::field::valid_field_name;

/// They say how the body is framed, or how long the connection lasts.
const FRAMING: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"connection"];

/// What is mended, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lenient(u8);

impl Lenient {
    /// Lines that end with LF alone (RFC 9112 §2.2).
    const BARE_LF: Self = Self(1);
    /// Values over several lines, the further ones behind a blank (§5.2): a space joins them.
    const FOLD: Self = Self(2);
    /// Lines that have no field name: they are left out.
    const INVALID_NAMES: Self = Self(4);
    /// Other blanks than one space around the status.
    const STATUS_BLANKS: Self = Self(8);
    /// A content-length that is said several times, the same each time (RFC 9110 §8.6).
    const REPEATED_LENGTH: Self = Self(16);
    /// `chunked` that is said several times (RFC 9112 §6.1 forbids it): the body is chunked once.
    const REPEATED_CHUNKED: Self = Self(32);

    const EACH: [(&str, Self); 6] = [
        ("bare_lf", Self::BARE_LF),
        ("fold", Self::FOLD),
        ("invalid_names", Self::INVALID_NAMES),
        ("status_blanks", Self::STATUS_BLANKS),
        ("repeated_length", Self::REPEATED_LENGTH),
        ("repeated_chunked", Self::REPEATED_CHUNKED),
    ];

    const fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }

    /// Whether lines may end with LF alone.
    pub(super) const fn takes_bare_lf(self) -> bool {
        self.has(Self::BARE_LF)
    }

    /// The block of a head as it should have been written; `None` if it was, as far as this set goes.
    /// What is not in the set stays as it is, for the parser to refuse. O(bytes).
    pub(super) fn mend(self, block: &[u8]) -> Result<Option<Vec<u8>>, CodecError> {
        if self == Self::default() {
            return Ok(None);
        }
        let mut mended = Mended { out: Vec::with_capacity(block.len() + 32), ..Mended::default() };
        let mut lines = block.split_inclusive(|b| *b == b'\n').map(without_end);
        let (start, mut cr) = lines.next().unwrap_or_default();
        self.status_line(start, &mut mended);
        for (line, with_cr) in lines {
            cr &= with_cr;
            if line.first().is_some_and(|b| is_blank(*b)) && self.has(Self::FOLD) {
                mended.further(line)?;
            } else {
                mended.end_line();
                self.field_line(line, &mut mended)?;
            }
        }
        mended.end_line();
        Ok((mended.changed || !cr).then_some(mended.out))
    }

    fn status_line(self, line: &[u8], mended: &mut Mended<'_>) {
        let words = line.splitn(2, |b| is_blank(*b)).collect::<Vec<_>>();
        let [version, rest] = words[..] else { return mended.out.extend_from_slice(line) };
        let rest = without_blanks(rest);
        let status = rest.iter().position(|b| is_blank(*b)).unwrap_or(rest.len());
        let (status, reason) = rest.split_at(status);
        let plain = [version, status, without_blanks(reason)].join(&b' ');
        // Of a reason's blanks only the first is a separator, and none is needed without one.
        let is_plain = line.strip_prefix(&plain[..version.len() + 1 + status.len()]);
        let is_plain = is_plain.is_some_and(|rest| rest.first().is_none_or(|b| *b == b' '));
        if is_plain || !self.has(Self::STATUS_BLANKS) {
            return mended.out.extend_from_slice(line);
        }
        mended.out.extend_from_slice(&plain);
        mended.changed = true;
    }

    fn field_line<'a>(self, line: &'a [u8], mended: &mut Mended<'a>) -> Result<(), CodecError> {
        let colon = line.iter().position(|b| *b == b':');
        let name = without_trailing_blanks(&line[..colon.unwrap_or(line.len())]);
        (mended.last, mended.left_out) = (Last::Field, false);
        if line.first().is_none_or(|b| is_blank(*b)) {
            mended.out.extend_from_slice(line); // the end, or a folded value that stays refused
            return Ok(());
        }
        if self.has(Self::INVALID_NAMES) && (colon.is_none() || !valid_field_name(name)) {
            if FRAMING.iter().any(|framing| letters(name).starts_with(&letters(framing))) {
                return Err(CodecError::bad("framing field with an invalid name"));
            }
            mended.leave_out();
            return Ok(());
        }
        if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            mended.last = Last::Framing;
        }
        let value = trimmed(&line[colon.map_or(line.len(), |at| at + 1)..]);
        if !self.said_again(name, value, mended) {
            mended.out.extend_from_slice(line);
        }
        Ok(())
    }

    /// Writes once what frames the body and is said several times alike, if this is a field of such;
    /// says whether it is.
    fn said_again<'a>(self, name: &[u8], value: &'a [u8], mended: &mut Mended<'a>) -> bool {
        let (once, said) = match name.len() {
            14 if self.has(Self::REPEATED_LENGTH)
                && name.eq_ignore_ascii_case(b"content-length") =>
            {
                (the_same(value).filter(|one| is_number(one)), &mut mended.length)
            }
            17 if self.has(Self::REPEATED_CHUNKED)
                && name.eq_ignore_ascii_case(b"transfer-encoding") =>
            {
                (the_same(value).filter(|one| is_chunked(one)), &mut mended.coding)
            }
            _ => return false,
        };
        let Some(once) = once else { return false };
        if said.is_some_and(|before| before.eq_ignore_ascii_case(once)) {
            mended.leave_out();
            return true;
        }
        *said = said.or(Some(once));
        mended.changed |= once.len() != value.len();
        mended.out.extend_from_slice(name);
        mended.out.extend_from_slice(b": ");
        mended.out.extend_from_slice(once);
        true
    }
}

impl TryFrom<Vec<String>> for Lenient {
    type Error = String;

    /// The set of these words of `lenient`.
    fn try_from(words: Vec<String>) -> Result<Self, String> {
        let mut all = Self::default();
        for word in words {
            let found = Self::EACH.iter().find(|(name, _)| *name == word);
            all.0 |= found.ok_or_else(|| format!("no word of lenient: {word}"))?.1.0;
        }
        Ok(all)
    }
}

/// What the line before was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Start,
    Field,
    Framing,
}

#[derive(Default)]
struct Mended<'a> {
    /// Its last line is not ended yet.
    out: Vec<u8>,
    last: Last,
    /// Nothing was written of it.
    left_out: bool,
    changed: bool,
    /// The content-length that was said first.
    length: Option<&'a [u8]>,
    /// The same of `chunked`.
    coding: Option<&'a [u8]>,
}

impl Mended<'_> {
    fn end_line(&mut self) {
        if !self.left_out {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn leave_out(&mut self) {
        self.left_out = true;
        self.changed = true;
    }

    /// A line that goes on with the value of the one before.
    fn further(&mut self, line: &[u8]) -> Result<(), CodecError> {
        match self.last {
            Last::Start => return Err(CodecError::bad("blank before the first field")),
            Last::Framing => return Err(CodecError::bad("folded framing field")),
            Last::Field if self.left_out => {}
            Last::Field => {
                self.out.push(b' ');
                self.out.extend_from_slice(trimmed(line));
            }
        }
        self.changed = true;
        Ok(())
    }
}

/// A line without its end, and whether that was CRLF.
fn without_end(line: &[u8]) -> (&[u8], bool) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").map_or((line, false), |line| (line, true))
}

fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

fn without_blanks(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|b| is_blank(**b)).count()..]
}

fn without_trailing_blanks(text: &[u8]) -> &[u8] {
    &text[..text.len() - text.iter().rev().take_while(|b| is_blank(**b)).count()]
}

fn trimmed(text: &[u8]) -> &[u8] {
    without_trailing_blanks(without_blanks(text))
}

/// The letters of a name, whatever stands between them.
fn letters(name: &[u8]) -> Vec<u8> {
    name.iter().filter(|b| b.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).collect()
}

/// The one member of a list that holds nothing else.
fn the_same(value: &[u8]) -> Option<&[u8]> {
    let mut each = value.split(|b| *b == b',').map(trimmed);
    let first = each.next()?;
    each.all(|other| other.eq_ignore_ascii_case(first)).then_some(first)
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

fn is_chunked(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"chunked")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::framing::{Role, facts};
    use super::super::parse::response;
    use super::*;

    fn mend(words: &[&str], block: &str) -> Result<Option<String>, &'static str> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mended = Lenient::try_from(words).unwrap().mend(block.as_bytes());
        mended.map(|m| m.map(|m| String::from_utf8(m).unwrap())).map_err(|e| e.message)
    }

    fn all() -> Vec<&'static str> {
        Lenient::EACH.iter().map(|(word, _)| *word).collect()
    }

    #[test]
    fn each_word_mends_its_own() {
        for (word, block, mended) in [
            ("bare_lf", "HTTP/1.1 200 OK\na: 1\r\n\n", "HTTP/1.1 200 OK\r\na: 1\r\n\r\n"),
            (
                "fold",
                "HTTP/1.1 200 OK\r\na: 1  \r\n\t 2\r\n \r\nb: 3\r\n\r\n",
                "HTTP/1.1 200 OK\r\na: 1   2 \r\nb: 3\r\n\r\n",
            ),
            (
                "invalid_names",
                "HTTP/1.1 200 OK\r\na b: 1\r\nno colon\r\n: 2\r\nb : 3\r\n\r\n",
                "HTTP/1.1 200 OK\r\nb : 3\r\n\r\n",
            ),
            ("status_blanks", "HTTP/1.1 \t200\tOK x\r\n\r\n", "HTTP/1.1 200 OK x\r\n\r\n"),
            ("status_blanks", "HTTP/1.0\t204\r\n\r\n", "HTTP/1.0 204 \r\n\r\n"),
            (
                "repeated_length",
                "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\na: 1\r\ncontent-length: 5\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\na: 1\r\n\r\n",
            ),
            (
                "repeated_chunked",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\na: 1\r\n\
                 transfer-encoding : Chunked, CHUNKED\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\na: 1\r\n\r\n",
            ),
            (
                "repeated_chunked",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked,chunked\r\n\r\n",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            ),
        ] {
            assert_eq!(mend(&[word], block), Ok(Some(mended.to_owned())), "{word}");
            if word == "bare_lf" {
                continue; // the look for a head's end has refused it before
            }
            let others: Vec<_> = all().into_iter().filter(|other| *other != word).collect();
            let left = mend(&others, block);
            assert_ne!(left, Ok(Some(mended.to_owned())), "{word}");
        }
    }

    #[test]
    fn what_is_well_formed_is_not_touched() {
        for block in [
            "HTTP/1.1 200 OK\r\na: 1\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 200  OK \r\n\r\n",
            "HTTP/1.1 200\r\n\r\n",
            "HTTP/1.1 200 \r\nx: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nX-One : 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
        ] {
            assert_eq!(mend(&all(), block), Ok(None), "{block:?}");
            assert_eq!(mend(&[], block), Ok(None), "{block:?}");
        }
    }

    /// Heads of lines that are well-formed or not.
    fn blocks() -> impl Strategy<Value = String> {
        let start = prop_oneof![
            Just("HTTP/1.1 200 OK"),
            Just("HTTP/1.1  200\t OK"),
            Just("HTTP/1.0\t404 "),
            Just("HTTP/1.1 200"),
            Just("HTTP/1.1"),
            Just("HTTP/1.1 "),
        ];
        let line = prop_oneof![
            "[a-c]{1,2}: ?[x-z ,]{0,3}",
            "[ \t]{1,2}[x-z\r\x0c]{0,2}",
            "[a-c \x01:]{1,3}:x",
            "[Cc]ontent-[Ll]ength ?: ?[56]{1,2}(,? ?5){0,2}[\x0c]?",
            "[Tt]ransfer-encoding: ?chunked(, ?chunked){0,1}",
            Just("transfer-encoding: gzip, chunked".to_owned()),
        ];
        let ended =
            (line, any::<bool>()).prop_map(|(line, cr)| line + if cr { "\r\n" } else { "\n" });
        (start, prop::collection::vec(ended, 0..6))
            .prop_map(|(start, lines)| format!("{start}\r\n{}\r\n", lines.concat()))
    }

    proptest! {
        #[test]
        fn what_was_mended_is_well_formed_or_refused(block in blocks()) {
            let strict = |block: &str| {
                let bare = block.replace("\r\n", "").contains('\n');
                !bare && response(block.as_bytes(), 20).is_ok_and(|r| {
                    facts(&r.headers, r.version, Role::Response).is_ok()
                })
            };
            match mend(&all(), &block) {
                Ok(Some(mended)) => {
                    prop_assert!(!strict(&block), "{:?} was well-formed", block);
                    prop_assert_eq!(mend(&all(), &mended), Ok(None));
                    prop_assert!(!mended.replace("\r\n", "").contains('\n'));
                    let odd = block.lines().any(|l| l.contains("ontent-") && l.contains('\u{c}'));
                    prop_assert!(!(odd && strict(&mended)), "{:?}: a control was taken", block);
                }
                Ok(None) => {}
                Err(_) => prop_assert!(!strict(&block), "{:?} was well-formed", block),
            }
        }
    }

    #[test]
    fn framing_is_never_guessed() {
        for (line, error) in [
            ("Content-Length: 5\r\n 5", "folded framing field"),
            ("Transfer-Encoding:\r\n chunked", "folded framing field"),
            ("Connection: x\r\n\tclose", "folded framing field"),
            ("Content Length: 5", "framing field with an invalid name"),
            ("Transfer-Encoding\u{b}: chunked", "framing field with an invalid name"),
            ("Transfer-Encoding chunked", "framing field with an invalid name"),
            (" Content-Length: 5", "blank before the first field"),
        ] {
            let block = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
            assert_eq!(mend(&all(), &block), Err(error), "{line:?}");
        }
        // Left for the parser.
        for line in [
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 5, 6",
            "transfer-encoding: chunked\r\ntransfer-encoding: gzip",
            "transfer-encoding: chunked\r\ntransfer-encoding: gzip, chunked",
            "transfer-encoding: chunked, ",
            "transfer-encoding: gzip, gzip",
            "transfer-encoding: chunked;a, chunked;a",
            "transfer-encoding: chunked\r\ncontent-length: 5",
        ] {
            let block = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
            assert_eq!(mend(&all(), &block), Ok(None), "{line:?}");
        }
    }
}

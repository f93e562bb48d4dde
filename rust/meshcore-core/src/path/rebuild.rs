//! The path that is not normal already, piece by piece: once as it is matched, and once as it is
//! sent on.

use smallvec::SmallVec;

use super::{CLASS, LAX, Normalized, Oddities, PathError, PathRules, Text, doubled, merge_slashes};

/// Both spellings under way: they have the same segments.
struct Spelling<'a> {
    rules: &'a PathRules,
    seen: Oddities,
    /// The normal form, from `root` on.
    out: &'a mut Vec<u8>,
    root: usize,
    /// As it was written.
    written: SmallVec<[u8; 256]>,
}

/// The normal form of `raw`, and what is sent on of it. On an error `out` may have grown.
pub(super) fn rebuild(
    raw: &[u8],
    rules: &PathRules,
    out: &mut Vec<u8>,
) -> Result<Normalized, PathError> {
    let root = out.len();
    let mut spelling =
        Spelling { rules, seen: Oddities::NONE, out, root, written: SmallVec::new() };
    match raw.split_first() {
        None => spelling.push_slash(),
        Some((b'/', rest)) => spelling.segments(rest)?,
        Some(_) => return Err(PathError::NotAbsolute),
    }
    Ok(spelling.finish(raw))
}

impl Spelling<'_> {
    fn segments(&mut self, mut rest: &[u8]) -> Result<(), PathError> {
        loop {
            let end = memchr::memchr(b'/', rest);
            self.push_slash();
            let (start, written) = (self.out.len(), self.written.len());
            self.push_segment(&rest[..end.unwrap_or(rest.len())])?;
            if self.close_segment(start, written)? && end.is_none() {
                self.push_slash();
            }
            match end {
                Some(end) => rest = &rest[end + 1..],
                None => return Ok(()),
            }
        }
    }

    fn push_slash(&mut self) {
        self.out.push(b'/');
        self.written.push(b'/');
    }

    /// Resolves the segment that begins there if it is a dot segment; says whether it was one.
    fn close_segment(&mut self, start: usize, written: usize) -> Result<bool, PathError> {
        match &self.out[start..] {
            b"." => self.cut(start - 1, written - 1),
            b".." => {
                self.cut(start - 1, written - 1);
                // Above the root there is nothing to remove (RFC 3986 §5.2.4).
                let before = memchr::memrchr(b'/', &self.out[self.root..]);
                if let Some(slash) = before.map(|slash| self.root + slash) {
                    if slash + 1 == self.out.len() {
                        return Err(PathError::EmptyDotDot);
                    }
                    let written = memchr::memrchr(b'/', &self.written).unwrap_or_default();
                    self.cut(slash, written);
                }
            }
            segment if is_dots(segment) => return Err(PathError::DotParams),
            segment if hides_dots(segment) => return Err(PathError::EncodedDots),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn cut(&mut self, out: usize, written: usize) {
        self.out.truncate(out);
        self.written.truncate(written);
    }

    /// Appends one segment, in the normal form with its escapes normalised.
    fn push_segment(&mut self, segment: &[u8]) -> Result<(), PathError> {
        let mut rest = segment;
        while let Some((&byte, after)) = rest.split_first() {
            if byte == b'%'
                && let Some(value) = unescaped(rest)
            {
                self.push_escaped(value)?;
                self.written.extend_from_slice(&rest[..3]);
                rest = &rest[3..];
                continue;
            }
            match byte {
                b'%' => {
                    self.seen |= Oddities::BAD_ESCAPE;
                    self.escape(byte);
                }
                b'\\' if self.rules.own => {
                    self.seen |= Oddities::ENCODED_BACKSLASH;
                    self.escape(byte);
                }
                b' ' | 0x80.. if self.rules.own => self.escape(byte),
                b'\\' => return Err(PathError::Backslash),
                b'#' => return Err(PathError::Fragment),
                b'?' | 0..=b' ' | 0x7f.. => return Err(PathError::BadByte),
                _ => {
                    if CLASS[usize::from(byte)] == LAX {
                        self.seen |= Oddities::NOT_IN_URI;
                    }
                    self.out.push(byte);
                    self.written.push(byte);
                }
            }
            rest = after;
        }
        Ok(())
    }

    /// What may not stand for itself is data to the next reader, too.
    fn escape(&mut self, byte: u8) {
        let start = self.out.len();
        push_escape(byte, self.out);
        self.written.extend_from_slice(&self.out[start..]);
    }

    fn push_escaped(&mut self, value: u8) -> Result<(), PathError> {
        match value {
            0 => return Err(PathError::EncodedNul),
            b'/' => self.seen |= Oddities::ENCODED_SLASH,
            b'\\' => self.seen |= Oddities::ENCODED_BACKSLASH,
            _ if is_unreserved(value) => {
                self.out.push(value);
                return Ok(());
            }
            _ => {}
        }
        push_escape(value, self.out);
        Ok(())
    }

    fn finish(mut self, raw: &[u8]) -> Normalized {
        let (out, root) = (self.out, self.root);
        if out[root..].windows(2).any(|w| w == b"//") {
            self.seen |= Oddities::REPEATED_SLASHES;
        }
        out.drain(root..root + doubled(&out[root..]));
        if !self.rules.keep_slashes {
            merge_slashes(out, root);
        }
        let written = &self.written[doubled(&self.written)..];
        let path = if out[root..] == *raw {
            out.truncate(root);
            Text::Raw(0)
        } else {
            Text::Out(root..out.len())
        };
        let forward = if written == raw {
            Text::Raw(0)
        } else if *written == out[root..] {
            path.clone()
        } else {
            let start = out.len();
            out.extend_from_slice(written);
            Text::Out(start..out.len())
        };
        Normalized { path, forward, seen: self.seen }
    }
}

/// Whether a segment of the normal form is a dot segment, perhaps behind parameters.
fn is_dots(segment: &[u8]) -> bool {
    let after = segment.strip_prefix(b"..").or_else(|| segment.strip_prefix(b"."));
    after.is_some_and(|a| a.is_empty() || a.starts_with(b";") || a.starts_with(b"%3B"))
}

/// Whether one would be made of it if its encoded slashes and backslashes were decoded.
fn hides_dots(segment: &[u8]) -> bool {
    let mut rest = segment;
    let mut parts = 0;
    loop {
        let cut = rest.windows(3).position(|w| w == b"%2F" || w == b"%5C");
        if (parts > 0 || cut.is_some()) && is_dots(&rest[..cut.unwrap_or(rest.len())]) {
            return true;
        }
        let Some(cut) = cut else { return false };
        rest = &rest[cut + 3..];
        parts += 1;
    }
}

/// RFC 3986 §2.3: escaped or not, they mean the same.
pub(crate) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Appends `%XX`.
pub(crate) fn push_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// The byte that `text` begins with the escape of (`%XX`), if it does.
pub(crate) fn unescaped(text: &[u8]) -> Option<u8> {
    let hex = |at: usize| text.get(at).and_then(|&d| char::from(d).to_digit(16));
    if text.first() != Some(&b'%') {
        return None;
    }
    Some((hex(1)? << 4 | hex(2)?) as u8)
}

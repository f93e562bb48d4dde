//! What a target is refused for, and what only some refuse.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use serde::Deserialize;

/// Why a target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathError {
    /// It does not start with `/`.
    NotAbsolute,
    /// A control character, or a space, `?` or byte above 127 where none may be.
    BadByte,
    /// `%` without two hex digits.
    BadEscape,
    /// `%00`.
    EncodedNul,
    /// `%2F`.
    EncodedSlash,
    /// `%2F` or `%5C` beside dots: a dot segment once it is decoded.
    EncodedDots,
    /// `\`.
    Backslash,
    /// `%5C`.
    EncodedBackslash,
    /// `#`.
    Fragment,
    /// `..` after an empty segment: what it removes depends on whether slashes are merged first.
    EmptyDotDot,
    /// `..;x` or `.;x`: a dot segment to servers that cut path parameters off first.
    DotParams,
    /// Slashes without anything between them.
    RepeatedSlashes,
    /// What the URL standard leaves as it is and RFC 3986 has not, such as `|`.
    NotInUri,
    /// `#` in the query.
    QueryFragment,
    /// A byte above 127 in the query.
    QueryByte,
}

impl PathError {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::NotAbsolute,
        Self::BadByte,
        Self::BadEscape,
        Self::EncodedNul,
        Self::EncodedSlash,
        Self::EncodedDots,
        Self::Backslash,
        Self::EncodedBackslash,
        Self::Fragment,
        Self::EmptyDotDot,
        Self::DotParams,
        Self::RepeatedSlashes,
        Self::NotInUri,
        Self::QueryFragment,
        Self::QueryByte,
    ];

    /// A short text, lower case; nothing in it needs escaping in JSON.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path does not start with /",
            Self::BadByte => "byte not allowed in a path",
            Self::BadEscape => "% without two hex digits in path",
            Self::EncodedNul => "%00 in path",
            Self::EncodedSlash => "encoded slash in path",
            Self::EncodedDots => "encoded slash at a dot segment in path",
            Self::Backslash => "backslash in path",
            Self::EncodedBackslash => "encoded backslash in path",
            Self::Fragment => "# in path",
            Self::EmptyDotDot => ".. after an empty segment in path",
            Self::DotParams => "dot segment with parameters in path",
            Self::RepeatedSlashes => "repeated slashes in path",
            Self::NotInUri => "byte or % in target that RFC 3986 does not allow",
            Self::QueryFragment => "# in query",
            Self::QueryByte => "byte not allowed in a query",
        }
    }

    /// The key of a listener or a route that decides about it, if one does.
    #[must_use]
    pub const fn key(self) -> Option<&'static str> {
        match self {
            Self::BadEscape => Some("paths.bad_escapes"),
            Self::EncodedSlash => Some("paths.encoded_slash"),
            Self::EncodedBackslash => Some("paths.encoded_backslash"),
            Self::RepeatedSlashes => Some("paths.repeated_slashes"),
            Self::NotInUri => Some("paths.strict_target"),
            _ => None,
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for PathError {}

/// A set of what one operator refuses and another lets pass.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Vec<String>")]
pub struct Oddities(u8);

impl Oddities {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `%2F`.
    pub const ENCODED_SLASH: Self = Self(1);
    /// `%5C`.
    pub const ENCODED_BACKSLASH: Self = Self(2);
    /// Slashes without anything between them.
    pub const REPEATED_SLASHES: Self = Self(4);
    /// `%` without two hex digits in the path.
    pub const BAD_ESCAPE: Self = Self(8);
    /// What RFC 3986 does not allow, in path or query.
    pub const NOT_IN_URI: Self = Self(16);

    const EACH: [(Self, PathError); 5] = [
        (Self::ENCODED_SLASH, PathError::EncodedSlash),
        (Self::ENCODED_BACKSLASH, PathError::EncodedBackslash),
        (Self::REPEATED_SLASHES, PathError::RepeatedSlashes),
        (Self::BAD_ESCAPE, PathError::BadEscape),
        (Self::NOT_IN_URI, PathError::NotInUri),
    ];

    /// Those that are in both.
    #[must_use]
    #[inline]
    pub const fn also_in(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The error for rules that refuse these and met those of `seen`.
    ///
    /// # Errors
    /// The first that is in both.
    #[inline]
    pub fn refuse(self, seen: Self) -> Result<(), PathError> {
        let both = self.also_in(seen);
        if both.is_none() {
            return Ok(());
        }
        let first = Self::EACH.iter().find(|(one, _)| !both.also_in(*one).is_none());
        first.map_or(Ok(()), |(_, error)| Err(*error))
    }
}

impl TryFrom<Vec<String>> for Oddities {
    type Error = String;

    /// Those of these names, which are the keys of `paths`.
    fn try_from(names: Vec<String>) -> Result<Self, String> {
        let mut all = Self::NONE;
        for name in names {
            let is_named = |error: PathError| error.key().and_then(|k| k.strip_prefix("paths."));
            let found = Self::EACH.iter().find(|(_, error)| is_named(*error) == Some(&*name));
            all |= found.ok_or_else(|| format!("no key of paths: {name}"))?.0;
        }
        Ok(all)
    }
}

impl BitOr for Oddities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Oddities {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts() {
        for (number, error) in PathError::ALL.into_iter().enumerate() {
            assert_eq!(error as usize, number);
            assert!(!error.text().contains(['"', '\\']), "{error}");
        }
        for (one, error) in Oddities::EACH {
            assert!(error.key().is_some(), "{error}");
            assert_eq!(one.refuse(one), Err(error));
            assert_eq!(Oddities::NONE.refuse(one), Ok(()));
            let name = error.key().unwrap().strip_prefix("paths.").unwrap();
            assert_eq!(Oddities::try_from(vec![name.to_owned()]), Ok(one));
        }
    }
}

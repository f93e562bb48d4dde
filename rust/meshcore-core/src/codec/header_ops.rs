//! A route's changes to header fields, checked and rendered once.

use super::encode::Fields;
use super::field::{valid_field_name, valid_field_value};
use super::header_class::{is_codecs_own, is_twin};
use crate::snapshot::FieldOps;

/// A change that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsError {
    /// The field's name as configured.
    pub name: String,
    /// What is wrong with it.
    pub message: &'static str,
}

impl std::fmt::Display for OpsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl std::error::Error for OpsError {}

/// A name in lower case, and a value.
type Field = (Box<[u8]>, Box<[u8]>);

/// What a route removes, sets and adds, ready for the encoder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOps {
    /// Names of which nothing received passes: those removed and those set.
    dropped: Vec<Box<[u8]>>,
    /// Those of them whose spellings with underscores do not pass either.
    hyphenated: Vec<Box<[u8]>>,
    /// The fields set and added.
    fields: Vec<Field>,
    /// The same as lines of HTTP/1.1.
    lines: Vec<u8>,
}

impl HeaderOps {
    /// Compiles the plain form.
    ///
    /// # Errors
    /// A name that is not a token, a value that is not one line, or a field that frames the
    /// message or names its host: the codec alone writes those.
    pub fn compile(ops: &FieldOps) -> Result<Self, OpsError> {
        let mut compiled = Self::default();
        for name in &ops.remove {
            compiled.dropped.push(checked(name, "")?);
        }
        for (name, value) in &ops.set {
            compiled.dropped.push(checked(name, value)?);
        }
        for (name, value) in ops.set.iter().chain(&ops.add) {
            let (name, value) = (checked(name, value)?, value.as_bytes());
            compiled.lines.field(&name, value);
            compiled.fields.push((name, value.into()));
        }
        // CGI and WSGI read `x_a` and `x-a` as one variable.
        let hyphenated = compiled.dropped.iter().filter(|name| name.contains(&b'-'));
        compiled.hyphenated = hyphenated.cloned().collect();
        Ok(compiled)
    }

    /// Whether a received field called `name` (lower case) stops here.
    #[inline]
    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        self.dropped.iter().any(|dropped| **dropped == *name)
            || self.hyphenated.iter().any(|plain| is_twin(name, plain))
    }

    /// The lines to append.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The fields to append.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (&**name, &**value))
    }
}

fn checked(name: &str, value: &str) -> Result<Box<[u8]>, OpsError> {
    let error = |message| Err(OpsError { name: name.to_owned(), message });
    let lower = name.to_ascii_lowercase().into_bytes();
    if !valid_field_name(&lower) {
        return error("not a field name");
    }
    if !valid_field_value(value.as_bytes()) {
        return error("not a field value");
    }
    if is_codecs_own(&lower) {
        return error("this field belongs to the proxy and cannot be changed");
    }
    Ok(lower.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)]) -> FieldOps {
        let own = |list: &[(&str, &str)]| {
            list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        let remove = remove.iter().map(|n| (*n).to_owned()).collect();
        FieldOps { remove, set: own(set), add: own(add) }
    }

    #[test]
    fn set_drops_and_writes() {
        let got = HeaderOps::compile(&ops(&["A"], &[("X-B", "1")], &[("c", "2")])).unwrap();
        assert!(got.drops(b"a") && got.drops(b"x-b") && !got.drops(b"c"));
        assert_eq!(got.lines(), b"x-b: 1\r\nc: 2\r\n");
    }

    #[test]
    fn what_cannot_be_changed() {
        for (name, value) in [
            ("host", "a"),
            ("Content-Length", "1"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("a b", "1"),
            ("", "1"),
            ("a", "1\r\nb: 2"),
            ("a", "1\0"),
        ] {
            assert!(HeaderOps::compile(&ops(&[], &[(name, value)], &[])).is_err(), "{name}");
            assert!(HeaderOps::compile(&ops(&[], &[], &[(name, value)])).is_err(), "{name}");
        }
        assert!(HeaderOps::compile(&ops(&["host"], &[], &[])).is_err());
    }
}

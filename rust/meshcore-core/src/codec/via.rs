//! The mark that a proxy leaves in `via` (RFC 9110 §7.6.3), and how often it is there already.

use sha1::{Digest, Sha1};

use super::field::list;
use crate::head::{Headers, Version};

/// A name for a program without one, from a secret that all its processes, and those that
/// take its place, share. The secret cannot be found from it.
#[must_use]
pub fn random_name(secret: [u64; 2]) -> String {
    let [a, b] = secret.map(u64::to_be_bytes);
    let digest = Sha1::new().chain_update(b"via").chain_update(a).chain_update(b).finalize();
    digest.iter().take(8).fold("meshcore-".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

/// What a listener writes into `via`: rendered once.
#[derive(Clone, Debug)]
pub struct ViaMark {
    /// With the version that was received: 1.0, 1.1, 2.
    values: [Box<[u8]>; 3],
}

impl ViaMark {
    /// The mark of a program's listener. What is no token's in the listener's name is replaced by
    /// what no name has, so that two listeners never share one.
    #[must_use]
    pub fn new(program: &str, listener: &str) -> Self {
        let place = listener.replace('/', "!").replace(':', "|").replace('@', "*");
        let value = |version: &str| format!("{version} {program}+{place}").into_bytes().into();
        Self { values: ["1.0", "1.1", "2"].map(value) }
    }

    /// The field's value for a request of this version.
    #[must_use]
    pub fn value(&self, version: Version) -> &[u8] {
        match version {
            Version::Http10 => &self.values[0],
            Version::Http11 => &self.values[1],
            Version::Http2 => &self.values[2],
        }
    }

    /// How often a request bears the mark, in all its `via` fields. O(bytes).
    ///
    /// A comma parts members in a comment too: else a comment that a client leaves open would hide
    /// what proxies behind it write into the same field. Case makes no difference, as in a host.
    #[must_use]
    pub fn visits(&self, headers: &Headers) -> usize {
        let (_, mark) = self.values[2].split_at(b"2 ".len());
        let members = headers.get_all(b"via").flat_map(list);
        members.filter(|member| by(member).eq_ignore_ascii_case(mark)).count()
    }
}

/// Who received the message, of `protocol received-by (comment)`.
fn by(member: &[u8]) -> &[u8] {
    let mut words = member.split(|b| b" \t(".contains(b)).filter(|word| !word.is_empty());
    words.nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visits(mark: &ViaMark, fields: &[&str]) -> usize {
        let mut headers = Headers::default();
        fields.iter().for_each(|value| headers.push(b"Via", value.as_bytes()));
        mark.visits(&headers)
    }

    #[test]
    fn a_mark_is_found_wherever_it_stands() {
        let mark = ViaMark::new("a", "edge");
        assert_eq!(mark.value(Version::Http10), b"1.0 a+edge");
        assert_eq!(mark.value(Version::Http11), b"1.1 a+edge");
        assert_eq!(mark.value(Version::Http2), b"2 a+edge");
        for (fields, expected) in [
            (&["1.1 a+edge"][..], 1),
            (&["1.1 a+edge", "1.0 other", "2 a+edge"], 2),
            (&["1.1 a+edge, 1.1 b,2 A+EDGE (x),HTTP/1.1\ta+edge(x) ,,"], 3),
            (&["1.1 x (, 1.1 a+edge"], 1),
            (&["1.1 b (a+edge)", "a+edge", "1.1 a+edged", "1.1 b+edge", "1.1 a+edge:80", ""], 0),
        ] {
            assert_eq!(visits(&mark, fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn marks_are_tokens_and_differ_as_names_do() {
        let names = ["a", "a/b", "a:b", "a@b", "a.b", "a-b", "a_b"];
        let marks: Vec<_> = names.iter().map(|name| ViaMark::new("x", name)).collect();
        for (i, mark) in marks.iter().enumerate() {
            let text = String::from_utf8(mark.value(Version::Http2).into()).unwrap();
            assert!(crate::codec::valid_field_name(&text.as_bytes()[2..]), "{text}");
            for (j, other) in marks.iter().enumerate() {
                assert_eq!(visits(other, &[&text]), usize::from(i == j));
            }
        }
    }

    #[test]
    fn a_random_name_is_the_secrets_own() {
        assert_eq!(random_name([1, 2]), random_name([1, 2]));
        assert_ne!(random_name([1, 2]), random_name([2, 1]));
        assert_eq!(random_name([0, 0]).len(), "meshcore-0123456789abcdef".len());
    }
}

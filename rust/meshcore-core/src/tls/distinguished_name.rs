//! Whether two names of X.509 are the same.

use std::fmt::Write;

use x509_cert::der::asn1::{Any, AnyRef};
use x509_cert::der::{self, Decode, Encode, Tag, Tagged};
use x509_cert::name::Name;

/// A name in the form in which those that RFC 5280 §7.1 calls the same are equal: whichever kind of
/// string an attribute is, in whatever case, with whatever spaces between its words.
///
/// Of its string preparation the case and the spaces are done; two spellings of one character in
/// Unicode stay two. O(bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SameName(String);

impl SameName {
    pub(super) fn of(name: &Name) -> Self {
        let mut all = String::new();
        for part in &name.0 {
            let mut attributes: Vec<_> = part
                .0
                .iter()
                .map(|each| match folded(&each.value) {
                    Some(text) => format!("{}={text:?}", each.oid),
                    None => format!("{}={:?}", each.oid, each.value),
                })
                .collect();
            attributes.sort_unstable(); // a set: its order means nothing
            let _ = write!(all, "{};", attributes.join("+"));
        }
        Self(all)
    }

    /// Of what is inside of a name's `SEQUENCE`.
    pub(super) fn of_content(content: &[u8]) -> der::Result<Self> {
        let whole = AnyRef::new(Tag::Sequence, content)?.to_der()?;
        Ok(Self::of(&Name::from_der(&whole)?))
    }
}

/// A string of any kind, by its words; `None` of another value.
fn folded(value: &Any) -> Option<String> {
    let bytes = value.value();
    let text = match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        Tag::TeletexString => bytes.iter().copied().map(char::from).collect(), // as Latin-1
        Tag::BmpString => {
            let units =
                bytes.chunks(2).map(|two| two.iter().fold(0, |n, b| n << 8 | u16::from(*b)));
            String::from_utf16_lossy(&units.collect::<Vec<_>>())
        }
        _ => return None,
    };
    Some(text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
}

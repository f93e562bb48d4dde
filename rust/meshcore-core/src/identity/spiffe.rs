//! SPIFFE IDs: `spiffe://` trust domain, and a path (SPIFFE-ID §2).

const SCHEME: &str = "spiffe://";
const MOST_BYTES: usize = 2_048;
const MOST_DOMAIN_BYTES: usize = 255;

/// Whether a URI says that it is one, by whatever spelling.
#[must_use]
pub fn is_claimed(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// Whether a URI is the ID of a workload: a domain, and a path in normal form.
///
/// # Errors
/// What is wrong with it.
pub fn check(uri: &str) -> Result<(), &'static str> {
    let bad = "its SPIFFE ID is none (SPIFFE-ID §2)";
    let rest = uri.strip_prefix(SCHEME).filter(|_| uri.len() <= MOST_BYTES).ok_or(bad)?;
    let (domain, path) = rest.split_once('/').ok_or("its SPIFFE ID has no path")?;
    let is_path = path.split('/').all(is_segment);
    if is_domain(domain) && is_path { Ok(()) } else { Err(bad) }
}

/// The domain and the path of an ID.
pub(super) fn split(id: &str) -> (&str, &str) {
    let rest = id.strip_prefix(SCHEME).unwrap_or(id);
    rest.split_once('/').unwrap_or((rest, ""))
}

/// Whether this may be the name of a trust domain (SPIFFE-ID §2.1).
#[must_use]
pub fn is_domain(name: &str) -> bool {
    let is_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    !name.is_empty() && name.len() <= MOST_DOMAIN_BYTES && name.bytes().all(is_byte)
}

/// SPIFFE-ID §2.2.
pub(super) fn is_segment(text: &str) -> bool {
    let is_byte = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    !matches!(text, "" | "." | "..") && text.bytes().all(is_byte)
}

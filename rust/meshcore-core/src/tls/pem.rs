//! What a PEM text holds: all of it, or an error.

use rustls::pki_types::pem::{Error, PemObject};

use super::ContextError;

const BEGIN: &[u8] = b"-----BEGIN ";
/// The most of a line that is shown.
const SHOWN_CHARS: usize = 60;

/// Every item of a kind in a text, in order. O(bytes).
///
/// # Errors
/// [`ContextError::Unreadable`]: of what is no such item, and of what the parser would pass over
/// without a word: an item that does not begin a line of its own, as when two files were put
/// together of which the first has no last newline, or that is called otherwise.
pub(super) fn items<T: PemObject>(pem: &[u8], label: &str) -> Result<Vec<T>, ContextError> {
    let found: Result<Vec<T>, _> = T::pem_slice_iter(pem).collect();
    let found = found.map_err(|why| unreadable(&why))?;
    let begun = begun(pem, label)?;
    if begun == found.len() {
        Ok(found)
    } else {
        let why = format!("{} of {begun} items of {label:?} can be read", found.len());
        Err(ContextError::Unreadable(why))
    }
}

/// What the parser says, with text as text.
pub(super) fn unreadable(why: &Error) -> ContextError {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ContextError::Unreadable(match why {
        Error::MissingSectionEnd { end_marker } => {
            format!("it is cut off: no line says -----END {}-----", text(end_marker))
        }
        Error::IllegalSectionStart { line } => {
            let line: String = text(line).chars().take(SHOWN_CHARS).collect();
            format!("a line that begins an item is not right: {line:?}")
        }
        other => other.to_string(),
    })
}

/// How many items of a kind begin.
fn begun(pem: &[u8], label: &str) -> Result<usize, ContextError> {
    let kind = label.rsplit(' ').next().unwrap_or(label);
    let mut count = 0;
    let marks = pem.windows(BEGIN.len()).enumerate().filter(|(_, bytes)| *bytes == BEGIN);
    for (at, _) in marks {
        let rest = &pem[at + BEGIN.len()..];
        let end = rest.windows(5).take(80).position(|bytes| bytes == b"-----").unwrap_or(0);
        let name = String::from_utf8_lossy(&rest[..end]);
        if !name.contains(kind) {
            continue;
        }
        count += 1;
        let fault = if name != label {
            format!("item {count} is called {name:?}, not {label:?}")
        } else if at > 0 && !matches!(pem[at - 1], b'\n' | b'\r') {
            format!("item {count} of {label:?} does not begin a line of its own")
        } else {
            continue;
        };
        return Err(ContextError::Unreadable(fault));
    }
    Ok(count)
}

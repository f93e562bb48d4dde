//! Characters that change how others are read, and are not seen themselves.

/// Whether a character ends a line for some readers, turns the direction in which others are shown,
/// or has no width: in a log a name with one looks like another (Unicode, TR36 §3.5). Controls are
/// for the caller to look at. O(1).
#[must_use]
pub(crate) const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}')
}

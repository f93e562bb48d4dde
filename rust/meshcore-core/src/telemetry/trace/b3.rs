//! B3, as Zipkin and older meshes have it (openzipkin/b3-propagation).

use super::{Caller, any_hex};

/// Who called, if it says so, and whether it is sampled, if that is decided.
pub(super) type Context = (Option<Caller>, Option<bool>);

/// `b3`: `{trace}-{span}`, with `-{sampled}` and `-{parent}` behind it, or the decision alone.
pub(super) fn parse(value: &[u8]) -> Option<Context> {
    if let Some(sampled) = decision(value) {
        return Some((None, Some(sampled)));
    }
    let mut parts = value.split(|&b| b == b'-');
    let caller = caller(parts.next()?, parts.next()?)?;
    let sampled = match parts.next() {
        None => None,
        Some(word) => Some(decision(word)?),
    };
    if let Some(parent) = parts.next() {
        any_hex(parent, 16)?;
    }
    parts.next().is_none().then_some((Some(caller), sampled))
}

/// `d` is debug: sampled, whatever else is said.
fn decision(word: &[u8]) -> Option<bool> {
    match word {
        b"1" | b"d" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

fn caller(trace: &[u8], span: &[u8]) -> Option<Caller> {
    let is_right = matches!(trace.len(), 16 | 32) && span.len() == 16;
    is_right.then(|| Caller::named(trace, span)).flatten()
}

/// The fields that begin with `x-b3-`. Of each the first counts.
#[derive(Clone, Copy, Default)]
pub(super) struct Multi<'a> {
    trace: Option<&'a [u8]>,
    span: Option<&'a [u8]>,
    sampled: Option<&'a [u8]>,
    flags: Option<&'a [u8]>,
}

impl<'a> Multi<'a> {
    /// A field, by what its name has behind `x-b3-`.
    pub(super) fn take(&mut self, name: &[u8], value: &'a [u8]) {
        let place = match name {
            b"traceid" => &mut self.trace,
            b"spanid" => &mut self.span,
            b"sampled" => &mut self.sampled,
            b"flags" => &mut self.flags,
            _ => return,
        };
        place.get_or_insert(value);
    }

    /// As [`parse`].
    pub(super) fn parse(&self) -> Option<Context> {
        let debug = (self.flags == Some(b"1")).then_some(true);
        let sampled = debug.or_else(|| self.sampled.and_then(decision));
        match self.trace.zip(self.span) {
            Some((trace, span)) => Some((Some(caller(trace, span)?), sampled)),
            None => Some((None, Some(sampled?))),
        }
    }
}

/// Whether a name has this behind `x-b3-`.
pub(super) fn is_part(rest: &[u8]) -> bool {
    matches!(rest, b"traceid" | b"spanid" | b"parentspanid" | b"sampled" | b"flags")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    type Ids = Option<(u128, u64)>;

    fn parsed(value: &str) -> Option<(Ids, Option<bool>)> {
        let (caller, sampled) = parse(value.as_bytes())?;
        Some((caller.map(|c| (c.trace.bits(), c.span.bits())), sampled))
    }

    fn ids() -> Ids {
        Some((0x80f1_98ee_5634_3ba8_64fe_8b2a_57d3_eff7, 0xe457_b5a2_e4d8_6bd1))
    }

    #[test]
    fn one_field() {
        assert_eq!(parsed(&format!("{TRACE}-{SPAN}")), Some((ids(), None)));
        assert_eq!(parsed(&format!("{TRACE}-{SPAN}-1")), Some((ids(), Some(true))));
        assert_eq!(parsed(&format!("{TRACE}-{SPAN}-d")), Some((ids(), Some(true))));
        assert_eq!(
            parsed(&format!("{TRACE}-{SPAN}-0-05e3ac9a4f6e3b90")),
            Some((ids(), Some(false)))
        );
        let short = Some((0x64fe_8b2a_57d3_eff7, ids().unwrap().1));
        assert_eq!(parsed(&format!("{}-{SPAN}-1", &TRACE[16..])), Some((short, Some(true))));
        assert_eq!(parsed("0"), Some((None, Some(false))));
        assert_eq!(parsed("1"), Some((None, Some(true))));
        assert_eq!(parsed("d"), Some((None, Some(true))));
        for wrong in [
            "",
            "2",
            TRACE,
            &format!("{TRACE}-{SPAN}-x"),
            &format!("{TRACE}-{SPAN}-1-"),
            &format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90-1"),
            &format!("{}-{SPAN}", &TRACE[1..]),
            &format!("{TRACE}-{}", &SPAN[1..]),
            &format!("{}-{SPAN}", "0".repeat(32)),
            &format!("{TRACE}-{}", "0".repeat(16)),
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn several_fields() {
        let parsed = |fields: &[(&str, &str)]| {
            let mut multi = Multi::default();
            for (name, value) in fields {
                multi.take(name.as_bytes(), value.as_bytes());
            }
            let (caller, sampled) = multi.parse()?;
            Some((caller.map(|c| (c.trace.bits(), c.span.bits())), sampled))
        };
        let both = [("traceid", TRACE), ("spanid", SPAN)];
        assert_eq!(parsed(&both), Some((ids(), None)));
        assert_eq!(parsed(&[both[0], both[1], ("sampled", "1")]), Some((ids(), Some(true))));
        assert_eq!(parsed(&[both[0], both[1], ("sampled", "false")]), Some((ids(), Some(false))));
        let debug = [both[0], both[1], ("sampled", "0"), ("flags", "1")];
        assert_eq!(parsed(&debug), Some((ids(), Some(true))), "debug goes before");
        assert_eq!(parsed(&[("sampled", "0")]), Some((None, Some(false))));
        assert_eq!(parsed(&[both[0]]), None, "half a context");
        assert_eq!(parsed(&[("traceid", "x"), both[1]]), None);
        assert_eq!(parsed(&[]), None);
    }
}

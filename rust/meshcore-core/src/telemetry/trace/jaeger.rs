//! Jaeger's own form, `uber-trace-id`, which its clients wrote before OpenTelemetry's.

use std::borrow::Cow;

use super::{Caller, any_hex};

/// `{trace}:{span}:{parent}:{flags}` in hexadecimal digits without leading zeros, the colons
/// perhaps as `%3A`. Who called, and whether it is sampled.
pub(super) fn parse(value: &[u8]) -> Option<(Caller, bool)> {
    let value = std::str::from_utf8(value).ok()?;
    let value = if value.contains('%') {
        Cow::Owned(value.replace("%3A", ":").replace("%3a", ":"))
    } else {
        Cow::Borrowed(value)
    };
    let mut parts = value.split(':').map(str::as_bytes);
    let mut next = || parts.next();
    let (trace, span, parent, flags) = (next()?, next()?, next()?, next()?);
    if next().is_some() {
        return None;
    }
    any_hex(parent, 16)?; // deprecated, but there
    let flags = any_hex(flags, 2)?;
    Some((Caller::named(trace, span)?, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_any_length_and_the_sampled_bit() {
        let parsed = |value: &str| {
            parse(value.as_bytes()).map(|(c, sampled)| (c.trace.bits(), c.span.bits(), sampled))
        };
        assert_eq!(parsed("4bf92f3577b34da6:b7:0:1"), Some((0x4bf9_2f35_77b3_4da6, 0xb7, true)));
        assert_eq!(parsed("1%3A2%3a0%3A0"), Some((1, 2, false)));
        assert_eq!(parsed("1:2:0:3"), Some((1, 2, true)), "debug has the sampled bit too");
        for wrong in ["", "1:2:0", "1:2:0:1:5", "0:2:0:1", "1:0:0:1", "g:2:0:1", "1:2::1", "\u{e9}"]
        {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        assert_eq!(parsed(&format!("{}:2:0:1", "1".repeat(33))), None);
    }
}

//! Which traces are sampled.

/// A share of all traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u64);

/// What a share is of: so many different values have the 56 bits of a trace's id that are random
/// (W3C level 2, §3.2.2.5.2).
const ALL: u64 = 1 << 56;

impl Ratio {
    /// So many of 2^56, at most all.
    #[must_use]
    pub fn of(share: u64) -> Self {
        Self(share.min(ALL))
    }

    /// Whether it takes a trace with this number, of which the rightmost 56 bits count. The same
    /// number is taken by every larger ratio: all who sample by it agree.
    #[must_use]
    pub fn takes(self, number: u64) -> bool {
        // The highest numbers are taken, as OpenTelemetry's threshold has it.
        number & (ALL - 1) >= ALL - self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_all_numbers() {
        assert!(!Ratio::of(0).takes(u64::MAX));
        assert!(Ratio::of(ALL).takes(0));
        assert!(Ratio::of(u64::MAX).takes(0));
        let half = Ratio::of(ALL / 2);
        assert!(half.takes(ALL / 2));
        assert!(!half.takes(ALL / 2 - 1));
        assert!(half.takes(u64::MAX), "higher bits count for nothing");
        assert!(!half.takes(ALL | 1));
    }
}

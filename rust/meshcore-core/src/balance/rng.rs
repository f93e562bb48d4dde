//! A seeded generator: small, fast, not for secrets.

/// wyrand (Wang Yi, public domain): 64 bits of state, one multiplication a number.
///
/// Nothing here is secret: it spreads load. Give every worker its own seed, else all of them
/// make the same choices at the same time.
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// The two odd constants of wyrand.
const STEP: u64 = 0xa076_1d64_78bd_642f;
const MIX: u64 = 0xe703_7ed1_a0b4_28db;

impl Rng {
    /// A generator whose numbers depend on nothing but `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let wide = (self.0 as u128).wrapping_mul((self.0 ^ MIX) as u128);
        (wide >> 64) as u64 ^ wide as u64
    }

    /// A number below `bound`; 0 when `bound` is 0.
    ///
    /// By multiplication (Lemire 2019) without the rejection step: the bias is `bound` / 2^64.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_the_bound_holds() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            let n = a.below(10);
            assert_eq!(n, b.below(10));
            seen[usize::try_from(n).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
        assert_eq!(a.below(0), 0);
        assert_ne!(Rng::new(1).next_u64(), Rng::new(2).next_u64());
    }
}

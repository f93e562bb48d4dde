//! Ids of requests.

/// A UUID version 7 (RFC 9562 §5.7) as 32 hex digits without hyphens: `x-request-id`.
///
/// Sorts by time: 48 bits of Unix milliseconds come first, then 74 random bits from `rand`.
#[must_use]
pub fn request_id(now_unix_ms: u64, rand: [u64; 2]) -> [u8; 32] {
    const VERSION: u64 = 7 << 12;
    const VARIANT: u64 = 0b10 << 62;
    let high = now_unix_ms << 16 | VERSION | (rand[0] & 0xfff);
    let low = VARIANT | (rand[1] >> 2);
    hex(u128::from(high) << 64 | u128::from(low))
}

/// The lowest bits as N hexadecimal digits, in lower case.
pub(super) fn hex<const N: usize>(bits: u128) -> [u8; N] {
    let mut digits = [0; N];
    for (i, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(bits >> (4 * (N - 1 - i))) as usize & 0xf];
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_9562_appendix_a_6() {
        let rand = [0xcc3, 0x18c4_dc0c_0c07_398f << 2];
        let id = request_id(1_645_557_742_000, rand);
        assert_eq!(&id, b"017f22e279b07cc398c4dc0c0c07398f");
    }

    #[test]
    fn random_bits_never_touch_time_version_and_variant() {
        let id = request_id(0, [u64::MAX; 2]);
        assert_eq!(&id, b"0000000000007fffbfffffffffffffff");
        assert!(request_id(1, [0; 2]) > id, "ids sort by time");
    }
}

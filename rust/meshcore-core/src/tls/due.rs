//! When what an authority says is to be followed by something newer.

/// Whether what was due to be followed by another by this second is so late that it counts no more,
/// a revocation list (RFC 5280 §5.1.2.5) and an OCSP response (RFC 6960 §4.2.2.1) alike: behind that
/// second, and not within it, as certificates end (RFC 5280 §4.1.2.5). Both in seconds since 1970.
#[must_use]
pub const fn is_late(next_update_s: u64, now_s: u64) -> bool {
    next_update_s < now_s
}

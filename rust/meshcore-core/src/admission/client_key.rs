//! What makes two requests the same client.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};

use siphasher::sip::SipHasher13;

/// The key of a client's address, hashed with the segment's secret seed.
///
/// IPv4 counts whole. IPv6 counts by its /64, the smallest network a site is given (RFC 6177),
/// since one host may use any address of it. An IPv4 address inside an IPv6 one (mapped, RFC 4291
/// §2.5.5.2, or through NAT64, RFC 6052 §2.1) counts as that IPv4 address: by their /64 all of
/// them would be one client.
///
/// SipHash-1-3: without the seed a client cannot find addresses that share a slot.
#[must_use]
#[inline]
pub fn client_key(seed: [u64; 2], addr: IpAddr) -> u64 {
    match addr {
        IpAddr::V4(v4) => v4_key(seed, v4.octets()),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(octets) => v4_key(seed, octets),
            None => bytes_key(seed, &v6.octets()[..8]),
        },
    }
}

/// [`bytes_key`] of four bytes, as one number: a third of its time.
#[inline]
fn v4_key(seed: [u64; 2], octets: [u8; 4]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
    hasher.write_u32(u32::from_ne_bytes(octets));
    hasher.finish()
}

/// The key of any other thing that tells clients apart: a header's value, a host.
#[must_use]
#[inline]
pub fn bytes_key(seed: [u64; 2], bytes: &[u8]) -> u64 {
    SipHasher13::new_with_keys(seed[0], seed[1]).hash(bytes)
}

/// The IPv4 address inside `::ffff:0:0/96` or `64:ff9b::/96`.
fn embedded_v4(addr: Ipv6Addr) -> Option<[u8; 4]> {
    match addr.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            let o = addr.octets();
            Some([o[12], o[13], o[14], o[15]])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> u64 {
        client_key([1, 2], text.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_client_share_a_key() {
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("192.0.2.1"), key("64:ff9b::192.0.2.1"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    }

    #[test]
    fn addresses_of_different_clients_do_not() {
        let all = [
            "192.0.2.1",
            "192.0.2.2",
            "::ffff:192.0.2.3",
            "64:ff9b::192.0.2.4",
            "2001:db8:1:2::1",
            "2001:db8:1:3::1",
            "::1",
            "64:ff9b:1::192.0.2.1",
        ];
        let keys: std::collections::HashSet<u64> = all.iter().map(|a| key(a)).collect();
        assert_eq!(keys.len(), all.len());
    }

    #[test]
    fn an_address_is_its_bytes() {
        for octets in [[192, 0, 2, 1], [0; 4], [255; 4]] {
            assert_eq!(client_key([1, 2], octets.into()), bytes_key([1, 2], &octets));
        }
    }

    #[test]
    fn the_seed_decides() {
        let addr = "192.0.2.1".parse().unwrap();
        assert_ne!(client_key([1, 2], addr), client_key([1, 3], addr));
        assert_ne!(client_key([1, 2], addr), client_key([2, 2], addr));
        assert_eq!(bytes_key([1, 2], b"tenant"), bytes_key([1, 2], b"tenant"));
    }
}

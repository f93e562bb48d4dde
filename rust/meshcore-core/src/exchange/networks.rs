//! Networks of addresses, such as those of the proxies in front of us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What stands for all clients of a unix socket.
const UNIX: &str = "unix";

/// A set of addresses: compiled once, asked in O(log n).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// First and last of each range, in order, none touching the next. An IPv4 address is what it
    /// is mapped to (RFC 4291 §2.5.5.2).
    ranges: Vec<(u128, u128)>,
    unix: bool,
}

impl Networks {
    /// The set of `10.0.0.0/8`, `2001:db8::/32`, single addresses, and `unix`.
    ///
    /// # Errors
    /// Says which one is none of these.
    pub fn new<T: AsRef<str>>(texts: &[T]) -> Result<Self, String> {
        let mut set = Self::default();
        for text in texts.iter().map(AsRef::as_ref) {
            if text == UNIX {
                set.unix = true;
            } else {
                set.ranges.push(range(text).ok_or_else(|| format!("{text} is no network"))?);
            }
        }
        set.ranges.sort_unstable();
        set.ranges.dedup_by(|next, last| {
            let joined = next.0 <= last.1.saturating_add(1);
            if joined {
                last.1 = last.1.max(next.1);
            }
            joined
        });
        Ok(set)
    }

    /// Whether an address is in it; `None` is the other end of a unix socket. O(log n).
    #[must_use]
    pub fn has(&self, ip: Option<IpAddr>) -> bool {
        let Some(ip) = ip else { return self.unix };
        let number = number(ip);
        let behind = self.ranges.partition_point(|(first, _)| *first <= number);
        behind.checked_sub(1).is_some_and(|i| number <= self.ranges[i].1)
    }
}

fn number(ip: IpAddr) -> u128 {
    let v6: Ipv6Addr = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    v6.to_bits()
}

fn range(text: &str) -> Option<(u128, u128)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let ip: IpAddr = address.parse().ok()?;
    let (bits, base) = if ip.is_ipv4() { (Ipv4Addr::BITS, 96) } else { (Ipv6Addr::BITS, 0) };
    let length = match length {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None => bits,
    };
    let host = if length > bits { return None } else { u128::MAX.checked_shr(base + length) };
    let host = host.unwrap_or(0);
    let first = number(ip) & !host;
    Some((first, first | host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(networks: &[&str], address: &str) -> bool {
        Networks::new(networks).unwrap().has(address.parse().ok())
    }

    #[test]
    fn both_ends_of_a_network_are_in_it_and_their_neighbours_are_not() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            ("192.0.2.128/25", ["192.0.2.128", "192.0.2.255"], ["192.0.2.127", "192.0.3.0"]),
            ("192.0.2.7", ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.6", "192.0.2.8"]),
            ("192.0.2.7/32", ["192.0.2.7", "::ffff:c000:207"], ["192.0.2.6", "::192.0.2.7"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::1", "2001:db8::1"]),
            ("::/0", ["::", "ffff::"], ["unix", "x"]),
            ("2001:db8::/32", ["2001:db8::", "2001:db8:ffff::1"], ["2001:db7::", "2001:db9::"]),
            ("2001:db8::1", ["2001:db8::1", "2001:db8:0::1"], ["2001:db8::", "2001:db8::2"]),
            ("fe80::/10", ["fe80::1", "febf::1"], ["fec0::", "fe7f::"]),
        ] {
            inside.iter().for_each(|ip| assert!(has(&[network], ip), "{network} {ip}"));
            outside.iter().for_each(|ip| assert!(!has(&[network], ip), "{network} {ip}"));
        }
    }

    #[test]
    fn networks_that_overlap_or_touch_are_one() {
        let set = Networks::new(&["10.1.0.0/16", "10.0.0.0/8", "11.0.0.0/8", "10.2.0.1"]).unwrap();
        assert_eq!(set.ranges.len(), 1);
        assert!(set.has("11.255.255.255".parse().ok()) && !set.has("12.0.0.0".parse().ok()));
        let set = Networks::new(&["10.0.0.0/16", "10.2.0.0/16", "::1", "ffff::/16"]).unwrap();
        assert_eq!(set.ranges.len(), 4);
        assert!(!set.has("10.1.0.0".parse().ok()) && set.has("::1".parse().ok()));
    }

    #[test]
    fn a_unix_socket_is_trusted_by_name_alone() {
        assert!(Networks::new(&["unix"]).unwrap().has(None));
        assert!(!Networks::new(&["0.0.0.0/0", "::/0"]).unwrap().has(None));
        assert!(!Networks::new::<&str>(&[]).unwrap().has("::1".parse().ok()));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "a/8"] {
            assert_eq!(Networks::new(&[text]), Err(format!("{text} is no network")));
        }
    }
}

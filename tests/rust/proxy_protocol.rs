//! Headers of the PROXY protocol, byte by byte.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use meshcore_core::codec::{Ends, ProxyHeader, ProxyVersion, parse_proxy_header, proxy_header};
use meshcore_core::error::Reason;
use proptest::prelude::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 3, 4];

/// Version and command, family and transport, what follows.
fn v2(command: u8, kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, kind], &length, content].concat()
}

fn v6() -> [u8; 36] {
    let mut addresses = [0; 36];
    addresses[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    addresses[15] = 1;
    addresses
}

fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, value].concat()
}

/// What the bytes say; behind them, and in every part of them, the same.
fn read(bytes: &[u8]) -> Result<Option<String>, &'static str> {
    let found = parse_proxy_header(bytes).map_err(|error| {
        assert_eq!(error.reason, Reason::BadRequest);
        error.message
    })?;
    let Some(header) = found else { return Ok(None) };
    assert_eq!(header.bytes, bytes.len(), "all of it is the header");
    for end in 0..bytes.len() {
        assert_eq!(parse_proxy_header(&bytes[..end]), Ok(None), "{end} bytes of it");
    }
    let longer = [bytes, b"\r\nGET"].concat();
    assert_eq!(parse_proxy_header(&longer), Ok(Some(header)));
    Ok(Some(header.ends.map_or("-".to_owned(), |ends| ends.source.ip().to_string())))
}

fn says(bytes: &[u8], source: &str) {
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!(read(bytes), Ok(Some(source.to_owned())), "{shown:?}");
}

#[test]
fn lines_of_version_1() {
    for (line, source) in [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "192.0.2.1"),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 0 0\r\n", "192.0.2.1"),
        ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "2001:db8::1"),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "::ffff:192.0.2.1"),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        ("PROXY TCP4 0.0.0.0 192.0.2.2 1 2\r\n", "-"),
        ("PROXY TCP6 :: ::1 1 2\r\n", "-"),
        ("PROXY TCP6 ::ffff:0.0.0.0 ::1 1 2\r\n", "-"),
        ("PROXY UNKNOWN\r\n", "-"),
        ("PROXY UNKNOWN ff 192.0.2.1 x y\r\n", "-"),
    ] {
        says(line.as_bytes(), source);
    }
    // The longest that the protocol knows of.
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 16));
    assert_eq!(longest.len(), 107);
    says(longest.as_bytes(), "-");
}

#[test]
fn lines_that_are_none_of_version_1() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 nope 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 ::1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP6 [::1] [::1] 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
        "PROXY TCP4 192.0.2.1\r192.0.2.2 1 2\r\n",
        "PROXY UNKNOWN\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err("malformed PROXY header"), "{line:?}");
    }
    let bytes = [b"PROXY TCP4 \xff 192.0.2.2 1 2\r\n".as_slice(), b"PROXY \0\r\n"];
    bytes.iter().for_each(|line| assert_eq!(read(line), Err("malformed PROXY header")));
    let endless = format!("PROXY UNKNOWN {}", "f".repeat(107 - 14));
    assert_eq!(read(&endless.as_bytes()[..106]), Ok(None));
    assert_eq!(read(endless.as_bytes()), Err("PROXY header too long"));
    let late = format!("PROXY UNKNOWN {}\r\n", "f".repeat(108 - 16));
    assert_eq!(read(late.as_bytes()), Err("PROXY header too long"));
}

#[test]
fn what_is_no_header_is_known_from_its_first_wrong_byte() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"proxy UNKNOWN\r\n",
        b" PROXY UNKNOWN\r\n",
        b"PROXYUNKNOWN\r\n",
        b"\x16\x03\x01\x02\0",
        b"\r\n\r\n\0\r\nQUIX\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"\0",
    ] {
        assert_eq!(read(bytes), Err("no PROXY header"), "{bytes:?}");
    }
    assert_eq!(read(b""), Ok(None));
}

#[test]
fn headers_of_version_2() {
    says(&v2(0x21, 0x11, &V4), "192.0.2.1");
    says(&v2(0x21, 0x21, &v6()), "2001:db8::1");
    for (name, command, kind, content) in [
        ("nobody's IPv4", 0x21, 0x11, vec![0; 12]),
        ("nobody's IPv6", 0x21, 0x21, vec![0; 36]),
        ("LOCAL", 0x20, 0x00, vec![]),
        ("LOCAL with addresses", 0x20, 0x11, V4.to_vec()),
        ("LOCAL with anything", 0x20, 0xFF, vec![1, 2, 3]),
        ("no family", 0x21, 0x00, vec![]),
        ("no family, with bytes", 0x21, 0x00, vec![9; 40]),
        ("no family, with a transport", 0x21, 0x01, vec![]),
        ("IPv4 datagrams", 0x21, 0x12, V4.to_vec()),
        ("IPv6 datagrams", 0x21, 0x22, v6().to_vec()),
        ("IPv4 over nothing", 0x21, 0x10, V4.to_vec()),
        ("a unix stream", 0x21, 0x31, vec![0; 216]),
        ("unix datagrams", 0x21, 0x32, vec![7; 216]),
    ] {
        assert_eq!(read(&v2(command, kind, &content)), Ok(Some("-".to_owned())), "{name}");
    }
}

#[test]
fn headers_that_are_none_of_version_2() {
    for (name, command, kind, content) in [
        ("version 1 in it", 0x11, 0x11, &V4[..]),
        ("version 3", 0x31, 0x11, &V4),
        ("an unknown command", 0x22, 0x11, &V4),
        ("an unknown family", 0x21, 0x41, &V4),
        ("an unknown transport", 0x21, 0x13, &V4),
        ("an unknown transport of no family", 0x21, 0x03, &[]),
        ("IPv4 without addresses", 0x21, 0x11, &[]),
        ("IPv4 cut short", 0x21, 0x11, &V4[..11]),
        ("IPv6 with those of IPv4", 0x21, 0x21, &V4),
        ("a unix stream cut short", 0x21, 0x31, &[0; 215]),
    ] {
        assert_eq!(read(&v2(command, kind, content)), Err("malformed PROXY header"), "{name}");
    }
}

#[test]
fn extensions_are_passed_over_if_they_are_well_formed() {
    let with = |extensions: &[u8]| v2(0x21, 0x11, &[&V4, extensions].concat());
    let alpn = extension(0x01, b"h2");
    let nested = extension(0x20, &[&[1, 0, 0, 0, 0][..], &extension(0x21, b"TLSv1.3")].concat());
    for extensions in [
        extension(0x04, &[]),
        alpn.clone(),
        extension(0xEA, b"\x01vpce-08d2bf15fac5001c9"),
        [alpn.clone(), nested, extension(0xFF, &[0; 300])].concat(),
    ] {
        says(&with(&extensions), "192.0.2.1");
    }
    for extensions in [&[0x01][..], &[0x01, 0], &[0x01, 0, 1], &[0x01, 0xFF, 0xFF, 1], &alpn[..4]] {
        assert_eq!(read(&with(extensions)), Err("malformed PROXY header"), "{extensions:?}");
    }
    says(&v2(0x21, 0x21, &[&v6()[..], &alpn].concat()), "2001:db8::1");
}

/// Byte by byte from the table in RFC 3720's words: another way than the core's.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        let mut entry = (crc ^ u32::from(*byte)) & 0xFF;
        for _ in 0..8 {
            entry = if entry & 1 == 1 { (entry >> 1) ^ 0x82F6_3B78 } else { entry >> 1 };
        }
        crc = (crc >> 8) ^ entry;
    }
    !crc
}

#[test]
fn a_checksum_must_be_right() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283, "the check value of CRC-32C");
    for (before, behind) in [(vec![], vec![]), (extension(1, b"h2"), extension(4, &[0; 9]))] {
        let at = 16 + 12 + before.len() + 3;
        let sum = extension(0x03, &[0; 4]);
        let mut header = v2(0x21, 0x11, &[&V4[..], &before, &sum, &behind].concat());
        let sum = crc32c(&header).to_be_bytes();
        header[at..at + 4].copy_from_slice(&sum);
        says(&header, "192.0.2.1");
        for wrong in [16, at, at + 3] {
            let mut header = header.clone();
            header[wrong] ^= 1;
            assert_eq!(read(&header), Err("malformed PROXY header"), "{wrong}");
        }
    }
    let short = [&V4[..], &extension(0x03, &[0; 3])].concat();
    assert_eq!(read(&v2(0x21, 0x11, &short)), Err("malformed PROXY header"));
}

#[test]
fn what_is_longer_than_may_be_is_refused_before_it_came() {
    let most = [&V4[..], &extension(0x04, &vec![0; 4096 - 16 - 12 - 3])].concat();
    assert_eq!(v2(0x21, 0x11, &most).len(), 4096);
    says(&v2(0x21, 0x11, &most), "192.0.2.1");
    for command in [0x20, 0x21] {
        let head = [SIGNATURE, &[command, 0x11], &4081_u16.to_be_bytes()].concat();
        assert_eq!(read(&head), Err("PROXY header too long"));
        let head = [SIGNATURE, &[command, 0x11, 0xFF, 0xFF]].concat();
        assert_eq!(read(&head), Err("PROXY header too long"));
    }
}

#[test]
fn what_follows_is_the_clients() {
    let header = b"PROXY UNKNOWN\r\nPROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
    let found = ProxyHeader { bytes: 15, ends: None };
    assert_eq!(parse_proxy_header(header), Ok(Some(found)), "a second one is no header");
}

// --- what we write -----------------------------------------------------------------------------

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

#[test]
fn lines_that_we_write() {
    for (source, destination, line) in [
        ("192.0.2.1:56324", "192.0.2.2:443", "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"),
        ("[2001:db8::1]:0", "[::1]:80", "PROXY TCP6 2001:db8::1 ::1 0 80\r\n"),
        ("[::ffff:192.0.2.1]:1", "192.0.2.2:2", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        ("192.0.2.1:1", "[::ffff:192.0.2.2]:2", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        ("192.0.2.1:1", "[2001:db8::1]:2", "PROXY TCP4 192.0.2.1 0.0.0.0 1 2\r\n"),
        ("[2001:db8::1]:1", "192.0.2.1:2", "PROXY TCP6 2001:db8::1 :: 1 2\r\n"),
    ] {
        let written = proxy_header(ProxyVersion::V1, Some(ends(source, destination)));
        assert_eq!(String::from_utf8(written).unwrap(), line);
    }
    assert_eq!(proxy_header(ProxyVersion::V1, None), b"PROXY UNKNOWN\r\n");
}

#[test]
fn bytes_that_we_write() {
    let v4 = proxy_header(ProxyVersion::V2, Some(ends("192.0.2.1:258", "192.0.2.2:772")));
    assert_eq!(v4, v2(0x21, 0x11, &V4));
    let v6 = proxy_header(ProxyVersion::V2, Some(ends("[2001:db8::1]:258", "192.0.2.2:772")));
    let mut addresses = self::v6();
    addresses[32..].copy_from_slice(&[1, 2, 3, 4]);
    assert_eq!(v6, v2(0x21, 0x21, &addresses));
    assert_eq!(proxy_header(ProxyVersion::V2, None), v2(0x20, 0x00, &[]));
}

/// Some of each kind: IPv4, IPv6, IPv4 in IPv6.
fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        any::<[u8; 4]>().prop_map(|ip| Ipv4Addr::from(ip).to_ipv6_mapped().into()),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn what_we_write_is_read_as_it_was_meant(
        source in address(),
        destination in address(),
        binary: bool,
        known: bool,
    ) {
        let version = if binary { ProxyVersion::V2 } else { ProxyVersion::V1 };
        let meant = known.then_some(Ends { source, destination });
        let header = proxy_header(version, meant);
        read(&header).map_err(TestCaseError::fail)?;
        let found = parse_proxy_header(&header).unwrap().unwrap();
        prop_assert_eq!(found.ends.is_some(), known);
        if let Some(ends) = found.ends {
            let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
            prop_assert_eq!(ends.source, canonical(source));
            prop_assert_eq!(ends.destination.port(), destination.port());
            prop_assert_eq!(ends.destination.is_ipv4(), ends.source.is_ipv4());
            let ip = destination.ip().to_canonical();
            if ip.is_ipv4() == ends.source.is_ipv4() {
                prop_assert_eq!(ends.destination.ip(), ip);
            } else {
                prop_assert!(ends.destination.ip().is_unspecified());
            }
        }
    }
}

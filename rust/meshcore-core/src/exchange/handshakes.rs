//! TLS handshakes of a listener or an upstream: what was agreed, and why some were not.
//!
//! All labels are from lists of our own: a peer chooses among them and adds none.

use crate::segment::Block;
use crate::telemetry::{Counters, Exposition};

/// The suites that are spoken: as rustls calls them, as their registry does, and their version.
const SUITES: [(&str, &str, &str); 9] = [
    ("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", "1.3"),
    ("TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", "1.3"),
    ("TLS13_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "1.3"),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "1.2"),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "1.2"),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "1.2",
    ),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "1.2"),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "1.2"),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "1.2",
    ),
];
const ALPN: [&str; 3] = ["", "http/1.1", "h2"];
const KINDS: [&str; 2] = ["full", "resumed"];
/// Why a handshake came to nothing: the alerts of RFC 8446 §6 and those of its extensions, and what
/// there is no alert for.
const REASONS: [&str; 33] = [
    "other",
    "timeout",
    "closed",
    "no_tls",
    "overflow",
    "close_notify",
    "unexpected_message",
    "bad_record_mac",
    "record_overflow",
    "handshake_failure",
    "bad_certificate",
    "unsupported_certificate",
    "certificate_revoked",
    "certificate_expired",
    "certificate_unknown",
    "illegal_parameter",
    "unknown_ca",
    "access_denied",
    "decode_error",
    "decrypt_error",
    "protocol_version",
    "insufficient_security",
    "internal_error",
    "inappropriate_fallback",
    "user_canceled",
    "no_renegotiation",
    "missing_extension",
    "unsupported_extension",
    "unrecognized_name",
    "bad_certificate_status_response",
    "unknown_psk_identity",
    "certificate_required",
    "no_application_protocol",
];
const FAILURES: usize = SUITES.len() * ALPN.len() * KINDS.len();

/// Handshakes of one listener or upstream, in columns that each worker only adds to.
#[derive(Debug)]
pub struct Handshakes(Counters);

impl Handshakes {
    /// Words of its block.
    pub const WORDS: usize = FAILURES + 2 * REASONS.len();

    /// Over a block of [`Self::WORDS`], as the worker in `slot` writes it.
    #[must_use]
    pub fn new(block: Block, slot: usize) -> Self {
        Self(Counters::new(block, slot))
    }

    /// A handshake is over. Whatever is not spoken here counts as nothing.
    pub fn made(&self, suite: &str, alpn: Option<&[u8]>, resumed: bool) {
        let suite = SUITES.iter().position(|(name, ..)| *name == suite);
        let alpn = alpn.unwrap_or_default();
        let alpn = ALPN.iter().position(|name| name.as_bytes() == alpn);
        if let (Some(suite), Some(alpn)) = (suite, alpn) {
            self.0.inc(place(suite, alpn, usize::from(resumed)));
        }
    }

    /// One came to nothing, for an alert or another of the reasons that are known; `by_peer`: the
    /// other side ended it.
    pub fn failed(&self, reason: &str, by_peer: bool) {
        let reason = REASONS.iter().position(|known| *known == reason).unwrap_or(0);
        self.0.inc(FAILURES + 2 * reason + usize::from(by_peer));
    }

    /// How many handshakes agreed on what, if any: version, suite, ALPN and kind.
    fn agreed(&self) -> impl Iterator<Item = ([&'static str; 4], u64)> {
        let all = (0..FAILURES).map(|i| {
            let (_, suite, version) = SUITES[i / (ALPN.len() * KINDS.len())];
            let alpn = ALPN[i / KINDS.len() % ALPN.len()];
            ([version, suite, alpn, KINDS[i % KINDS.len()]], self.0.get(i))
        });
        all.filter(|&(_, n)| n > 0)
    }

    /// How many failed, if any: for which reason, and whether the other side ended them.
    fn failures(&self) -> impl Iterator<Item = (&'static str, bool, u64)> {
        let all =
            (0..2 * REASONS.len()).map(|i| (REASONS[i / 2], i % 2 == 1, self.0.get(FAILURES + i)));
        all.filter(|&(_, _, n)| n > 0)
    }
}

const fn place(suite: usize, alpn: usize, kind: usize) -> usize {
    (suite * ALPN.len() + alpn) * KINDS.len() + kind
}

/// Whose handshakes they are: what a label calls them, their name, and them.
pub(super) type Owned<'a> = (&'static str, &'a str, &'a Handshakes);

/// The families of handshakes. `peer` is what the other side is called.
pub(super) fn render(
    text: Exposition,
    names: (&str, &str),
    peer: &'static str,
    owners: &[Owned<'_>],
) -> Exposition {
    let agreed = owners.iter().flat_map(|&(label, name, handshakes)| {
        handshakes.agreed().map(move |([version, suite, alpn, kind], n)| {
            let labels = [
                (label, name),
                ("version", version),
                ("suite", suite),
                ("alpn", alpn),
                ("kind", kind),
            ];
            (labels, n)
        })
    });
    let failed = owners.iter().flat_map(|&(label, name, handshakes)| {
        handshakes.failures().map(move |(reason, by_peer, n)| {
            let by = if by_peer { peer } else { "proxy" };
            ([(label, name), ("reason", reason), ("by", by)], n)
        })
    });
    text.counter(names.0, "TLS handshakes, by what was agreed.", agreed).counter(
        names.1,
        "TLS handshakes that failed, by alert and by whom.",
        failed,
    )
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::segment::{Block, Shape};
    use crate::tls::Failure;

    #[test]
    fn every_suite_and_alert_that_there_is_has_a_place() {
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            let suite = suite.suite().as_str().unwrap();
            assert!(SUITES.iter().any(|(name, ..)| *name == suite), "{suite}");
        }
        for alert in Failure::ALERTS {
            assert!(REASONS.contains(alert), "{alert}");
        }
    }

    #[test]
    fn each_handshake_counts_once_under_its_own_labels() {
        let handshakes = Handshakes::new(Block::private_shape(Shape::column(Handshakes::WORDS)), 0);
        for (known_as, suite, version) in SUITES {
            for alpn in ALPN {
                for (resumed, kind) in [(false, "full"), (true, "resumed")] {
                    let before = handshakes.agreed().count();
                    let named = (!alpn.is_empty()).then_some(alpn.as_bytes());
                    handshakes.made(known_as, named, resumed);
                    assert_eq!(handshakes.agreed().count(), before + 1);
                    let labels = [version, suite, alpn, kind];
                    assert!(handshakes.agreed().any(|each| each == (labels, 1)));
                }
            }
        }
        for reason in REASONS {
            handshakes.failed(reason, true);
            assert!(handshakes.failures().any(|each| each == (reason, true, 1)), "{reason}");
        }
        handshakes.failed("what nobody knows", false);
        assert!(handshakes.failures().any(|each| each == ("other", false, 1)));
        assert_eq!(handshakes.failures().count(), REASONS.len() + 1);
    }
}

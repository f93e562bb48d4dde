//! What TLS computes with: aws-lc-rs as rustls brings it, but for the key schedule of TLS 1.3.
//!
//! A handshake expands each of its secrets several times (RFC 8446 §7.1). What rustls brings makes
//! the state of HMAC anew for each, and extracts the secret again before; here both are done once.

use std::sync::Arc;

use aws_lc_rs::hmac::{Algorithm, Context, HMAC_SHA256, HMAC_SHA384, Key};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::tls13::HkdfUsingHmac;
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, hmac};
use rustls::{SupportedCipherSuite, Tls13CipherSuite};

/// HMAC (RFC 2104) with keys that are made ready once.
struct Hmac(Algorithm);

struct Ready(Key);

impl hmac::Hmac for Hmac {
    fn with_key(&self, key: &[u8]) -> Box<dyn hmac::Key> {
        Box::new(Ready(Key::new(self.0, key)))
    }

    fn hash_output_len(&self) -> usize {
        self.0.digest_algorithm().output_len()
    }
}

impl hmac::Key for Ready {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> hmac::Tag {
        let mut signing = Context::with_key(&self.0);
        signing.update(first);
        middle.iter().for_each(|part| signing.update(part));
        signing.update(last);
        hmac::Tag::new(signing.sign().as_ref())
    }

    fn tag_len(&self) -> usize {
        self.0.algorithm().digest_algorithm().output_len()
    }
}

static SHA256: HkdfUsingHmac<'static> = HkdfUsingHmac(&Hmac(HMAC_SHA256));
static SHA384: HkdfUsingHmac<'static> = HkdfUsingHmac(&Hmac(HMAC_SHA384));

/// A suite of rustls' with our key schedule.
const fn with(
    suite: SupportedCipherSuite,
    schedule: &'static HkdfUsingHmac<'static>,
) -> Tls13CipherSuite {
    let SupportedCipherSuite::Tls13(suite) = suite else { panic!("of TLS 1.3 alone") };
    Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        },
        hkdf_provider: schedule,
        aead_alg: suite.aead_alg,
        quic: None,
    }
}

static AES_256: Tls13CipherSuite = with(cipher_suite::TLS13_AES_256_GCM_SHA384, &SHA384);
static AES_128: Tls13CipherSuite = with(cipher_suite::TLS13_AES_128_GCM_SHA256, &SHA256);
static CHACHA20: Tls13CipherSuite = with(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, &SHA256);

/// Every suite that sessions speak: those of rustls in its order, with our key schedule.
pub(super) static SUITES: [SupportedCipherSuite; 9] = [
    SupportedCipherSuite::Tls13(&AES_256),
    SupportedCipherSuite::Tls13(&AES_128),
    SupportedCipherSuite::Tls13(&CHACHA20),
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Everything that sessions compute with.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: SUITES.to_vec(), ..default_provider() })
}

/// The same for listeners, which take the first suite that a client offers, too: AES-128 with SHA-256
/// is as good as its other parts (RFC 8446 §9.1 has all speak it), and SHA-384 takes a tenth of a
/// handshake's time where processors have instructions for SHA-256 alone.
pub(super) fn of_servers() -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(&provider());
    let is_aes_128 = |name: &str| name.contains("AES_128");
    provider.cipher_suites.sort_by_key(|suite| !suite.suite().as_str().is_some_and(is_aes_128));
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES;

    use super::*;

    /// What a later rustls adds, or takes out, is to be decided on.
    #[test]
    fn the_suites_are_those_of_rustls_in_its_order() {
        let names =
            |all: &[SupportedCipherSuite]| all.iter().map(|x| x.suite()).collect::<Vec<_>>();
        assert_eq!(names(&SUITES), names(DEFAULT_CIPHER_SUITES));
    }
}

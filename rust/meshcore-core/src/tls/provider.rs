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

/// Everything that sessions compute with.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    let ours = [&AES_256, &AES_128, &CHACHA20].map(SupportedCipherSuite::Tls13);
    for suite in &mut provider.cipher_suites {
        let own = ours.iter().find(|own| own.suite() == suite.suite());
        *suite = *own.unwrap_or(suite);
    }
    Arc::new(provider)
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

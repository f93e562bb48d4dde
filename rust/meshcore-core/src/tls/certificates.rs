//! A listener's certificates, and which of them a client gets.

use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::facts::{LEAST_RSA_BITS, key_kind, rsa_key_bits};
use super::failure::OnlyOne;
use super::offer::{ChainSchemes, Offer, has_suite_of_1_2};
use super::{Clock, ContextError, Staple, failure, pem, words};
use crate::host_map::HostMap;

/// A certificate and its key, as they are in files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// For whom: a host, `*.example.com`, or empty for those that name no known host.
    pub server_name: String,
    /// The certificate, and those between it and its root.
    pub chain_pem: Vec<u8>,
    /// PKCS#1, PKCS#8 or SEC1.
    pub key_pem: Vec<u8>,
    /// An OCSP response to staple, in DER.
    pub ocsp_der: Option<Vec<u8>>,
}

impl Pair {
    /// Whether both can be used, and belong together.
    ///
    /// # Errors
    /// [`ContextError`], as from making a context of it.
    pub fn check(&self) -> Result<(), ContextError> {
        certified(self, &super::provider::provider()).map(|_| ())
    }

    /// What its OCSP response says, if it has one.
    ///
    /// # Errors
    /// [`ContextError`]: it is none, or of another certificate.
    pub fn staple(&self) -> Result<Option<Staple>, ContextError> {
        let chain = chain(&self.chain_pem)?;
        self.ocsp_der.as_deref().map(|der| Staple::of(der, &chain)).transpose()
    }
}

/// All certificates in a PEM text, in order.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ContextError> {
    let found = pem::items(pem, "CERTIFICATE")?;
    if found.is_empty() { Err(ContextError::NoCertificate) } else { Ok(found) }
}

/// The first private key in a PEM text.
pub(super) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, ContextError> {
    use rustls::pki_types::pem::Error as Pem;
    PrivateKeyDer::from_pem_slice(pem).map_err(|why| match why {
        Pem::NoItemsFound => ContextError::NoKey,
        other => pem::unreadable(&other),
    })
}

/// Of a key that signs nothing here.
const ITS_KIND: &str = "it is neither RSA, nor ECDSA with P-256, P-384 or P-521, nor Ed25519";

/// What a handshake signs with.
pub(super) fn certified(
    pair: &Pair,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, ContextError> {
    let (chain, key) = (chain(&pair.chain_pem)?, key(&pair.key_pem)?);
    let bits = rsa_key_bits(&key).filter(|bits| *bits < LEAST_RSA_BITS);
    let made = CertifiedKey::from_der(chain, key, provider);
    let mut made = made.map_err(|why| match why {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => ContextError::KeyMismatch,
        Error::General(why) => ContextError::UnusableKey(match bits {
            Some(bits) => format!("RSA of {bits} bits, and {LEAST_RSA_BITS} are the least"),
            None if why.starts_with("failed to parse private key") => ITS_KIND.to_owned(),
            None => why,
        }),
        other => ContextError::Unreadable(words::of_error(&other)),
    })?;
    made.ocsp.clone_from(&pair.ocsp_der);
    Ok(Arc::new(made))
}

/// What a listener shows: a certificate, with what its authority says of it for as long as that is
/// to be believed (RFC 6960 §4.2.2.1).
#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// Of which kind its key is, for messages.
    kind: &'static str,
    /// The same without a staple, and what that says.
    bare: Option<(Arc<CertifiedKey>, Staple)>,
    signed_by: ChainSchemes,
    /// Within which seconds all of its chain is valid.
    valid: RangeInclusive<u64>,
}

impl Shown {
    fn of(pair: &Pair, provider: &CryptoProvider) -> Result<Self, ContextError> {
        let key = certified(pair, provider)?;
        let bare = pair.staple()?.map(|staple| {
            let bare = CertifiedKey::new(key.cert.clone(), Arc::clone(&key.key));
            (Arc::new(bare), staple)
        });
        let kind = key.cert.first().map_or("", key_kind);
        let signed_by = ChainSchemes::of(&key.cert);
        let valid = validity(&key.cert);
        Ok(Self { key, kind, bare, signed_by, valid })
    }

    fn now(&self, clock: &Clock) -> &Arc<CertifiedKey> {
        match &self.bare {
            Some((bare, staple)) if !staple.is_believed(clock.now().as_secs()) => bare,
            _ => &self.key,
        }
    }
}

/// Of what cannot be read nothing is said.
fn validity(chain: &[CertificateDer<'_>]) -> RangeInclusive<u64> {
    let read = chain.iter().filter_map(|each| Certificate::from_der(each).ok());
    let all = read.map(|each| each.tbs_certificate.validity);
    let (since_s, until_s) = all.fold((0, u64::MAX), |(since_s, until_s), each| {
        let first_s = each.not_before.to_unix_duration().as_secs();
        let last_s = each.not_after.to_unix_duration().as_secs();
        (since_s.max(first_s), until_s.min(last_s))
    });
    since_s..=until_s
}

/// Of several keys that a client can verify the one that costs us least comes first: a signature
/// with RSA takes many times what the others take.
fn rank(key: &CertifiedKey) -> u8 {
    match key.key.algorithm() {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 => 1,
        _ => 2,
    }
}

/// Certificates by the name that a client asks for (RFC 6066 §3).
#[derive(Debug)]
pub(super) struct Certificates {
    /// Of each name those come first that are preferred.
    by_name: HostMap<Vec<Arc<Shown>>>,
    clock: Clock,
}

impl Certificates {
    /// Of at least one pair: the first one's name is also that of all others. O(pairs).
    pub(super) fn of(
        pairs: &[Pair],
        provider: &CryptoProvider,
        clock: &Clock,
    ) -> Result<Self, ContextError> {
        let first = pairs.first().ok_or(ContextError::NoCertificate)?;
        let mut by_name = HostMap::<Vec<Arc<Shown>>>::new(Vec::new());
        for pair in pairs {
            by_name.entry(&pair.server_name).push(Arc::new(Shown::of(pair, provider)?));
        }
        for each in by_name.named_mut() {
            each.sort_by_key(|shown| rank(&shown.key));
        }
        by_name.others_as(&first.server_name);
        Ok(Self { by_name, clock: clock.clone() })
    }

    /// Whether there is a name with several.
    pub(super) fn is_choice(&self) -> bool {
        self.by_name.named().any(|each| each.len() > 1)
    }

    /// The preferred one of those that sign as the client can verify; of these one that is in date
    /// if there is one, and of these one whose chain it can verify, if it can any: else it gets one
    /// nevertheless (RFC 8446 §4.4.2.2). Where none signs so rustls
    /// refuses whichever it is given with `handshake_failure`, and nothing with another alert.
    fn choose(&self, hello: &ClientHello<'_>) -> Option<&Arc<CertifiedKey>> {
        let by_name = &self.by_name;
        let candidates = hello.server_name().map_or(by_name.others(), |name| by_name.get(name));
        let chosen = match &candidates[..] {
            [] => None,
            [one] => {
                let has_suite = has_suite_of_1_2(hello);
                failure::chosen_from_one(OnlyOne { kind: one.kind, has_suite });
                Some(one)
            }
            several => {
                let (offer, now_s) = (Offer::of(hello), self.clock.now().as_secs());
                let able = several.iter().filter(|each| offer.takes(&each.key));
                let lacks = |each: &&Arc<Shown>| {
                    (!each.valid.contains(&now_s), !offer.believes(&each.signed_by))
                };
                able.min_by_key(lacks).or_else(|| several.first())
            }
        };
        chosen.map(|each| each.now(&self.clock))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(&hello).cloned()
    }
}

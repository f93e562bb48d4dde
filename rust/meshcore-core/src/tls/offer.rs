//! What a client says by which one of a name's certificates is chosen.

use std::cell::RefCell;

use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, alg_id};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::{NamedGroup, SignatureScheme, SupportedCipherSuite, Tls12CipherSuite};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::facts::is_own_issuer;
use super::hello::list_of_u16;
use super::provider::SUITES;
use super::signed::Signed;

const TLS_1_3: u16 = 0x0304;

/// What of a client's first message rustls does not show to who chooses a certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct Unshown {
    /// TLS 1.3 will be spoken: it is here wherever a client offers it (RFC 8446 §4.2.1).
    is_1_3: bool,
    /// How signatures in chains are to be made, if that is said (§4.2.3).
    chain_schemes: Option<Vec<u16>>,
}

impl Unshown {
    /// Of what its two extensions hold. O(bytes).
    pub(super) fn of(versions: Option<&[u8]>, chain: Option<&[u8]>) -> Self {
        let versions = versions.and_then(list_of_u16::<1>);
        let chain = chain.and_then(list_of_u16::<2>);
        Self {
            is_1_3: versions.is_some_and(|versions| versions.contains(&TLS_1_3)),
            chain_schemes: chain,
        }
    }
}

thread_local! {
    /// Of the session whose machine is at work: rustls asks one chooser for all of them.
    static UNSHOWN: RefCell<Option<Box<Unshown>>> = const { RefCell::new(None) };
}

/// Runs a session's machine, whose client has said this.
pub(super) fn choosing<T>(unshown: &mut Option<Box<Unshown>>, run: impl FnOnce() -> T) -> T {
    if unshown.is_none() {
        return run();
    }
    UNSHOWN.set(unshown.take());
    let done = run();
    *unshown = UNSHOWN.take();
    done
}

/// What a client says, as far as it is chosen by.
pub(super) struct Offer<'a> {
    /// How it verifies the signature of a handshake; with TLS 1.2 those alone that its suites are
    /// for.
    schemes: Vec<SignatureScheme>,
    /// On which curves alone it verifies it; `None`: on any.
    curves: Option<&'a [NamedGroup]>,
    /// How it verifies those in a chain; `None`: that is not said.
    chain: Option<Vec<u16>>,
}

impl<'a> Offer<'a> {
    pub(super) fn of(hello: &'a ClientHello<'_>) -> Self {
        UNSHOWN.with_borrow(|unshown| {
            let is_1_3 = unshown.as_ref().is_some_and(|unshown| unshown.is_1_3);
            let schemes = hello.signature_schemes().iter().copied();
            // With TLS 1.3 groups are for the exchange of keys alone (RFC 8446 §4.2.7), before that
            // for certificates as well (RFC 8422 §5.1).
            let curves = if is_1_3 { None } else { hello.named_groups() };
            // rustls looks at all suites together, also where those of TLS 1.3 mean nothing.
            let schemes =
                schemes.filter(|scheme| is_1_3 || has_suite_for(hello, *scheme)).collect();
            let chain = unshown.as_ref().and_then(|unshown| unshown.chain_schemes.clone());
            Self { schemes, curves, chain }
        })
    }

    /// Whether it can verify what this key signs.
    pub(super) fn takes(&self, key: &CertifiedKey) -> bool {
        let Some(signer) = key.key.choose_scheme(&self.schemes) else { return false };
        let curve = curve_of(signer.scheme());
        curve.zip(self.curves).is_none_or(|(curve, known)| known.contains(&curve))
    }

    /// Whether it can verify every signature in a chain, as far as it says which it can.
    pub(super) fn believes(&self, chain: &ChainSchemes) -> bool {
        self.chain.as_ref().is_none_or(|known| chain.are_among(known))
    }
}

/// Whether a client of TLS 1.2 has a suite that goes with a signature (RFC 8422 §2, §5.10).
fn has_suite_for(hello: &ClientHello<'_>, scheme: SignatureScheme) -> bool {
    offered_of_1_2(hello).any(|suite| suite.sign.contains(&scheme))
}

/// Whether it has a suite of TLS 1.2 that is used here, with whichever kind of key.
pub(super) fn has_suite_of_1_2(hello: &ClientHello<'_>) -> bool {
    offered_of_1_2(hello).next().is_some()
}

fn offered_of_1_2(hello: &ClientHello<'_>) -> impl Iterator<Item = &'static Tls12CipherSuite> {
    SUITES.iter().filter_map(|suite| match suite {
        SupportedCipherSuite::Tls12(own) => {
            hello.cipher_suites().contains(&suite.suite()).then_some(*own)
        }
        SupportedCipherSuite::Tls13(_) => None,
    })
}

/// On which curve a key is that signs in this way.
const fn curve_of(scheme: SignatureScheme) -> Option<NamedGroup> {
    match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => Some(NamedGroup::secp256r1),
        SignatureScheme::ECDSA_NISTP384_SHA384 => Some(NamedGroup::secp384r1),
        SignatureScheme::ECDSA_NISTP521_SHA512 => Some(NamedGroup::secp521r1),
        _ => None,
    }
}

/// By which of some schemes each certificate of a chain was signed, but those that name themselves
/// as their issuers: whoever believes one of these does not verify it (RFC 8446 §4.2.3).
#[derive(Debug)]
pub(super) struct ChainSchemes(Vec<&'static [SignatureScheme]>);

impl ChainSchemes {
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Self {
        Self(chain.iter().filter(|each| !names_itself(each)).map(schemes_of).collect())
    }

    fn are_among(&self, known: &[u16]) -> bool {
        let is_known = |scheme: &SignatureScheme| known.contains(&u16::from(*scheme));
        self.0.iter().all(|one_of| one_of.iter().any(is_known))
    }
}

fn names_itself(der: &CertificateDer<'_>) -> bool {
    Certificate::from_der(der).is_ok_and(|read| is_own_issuer(&read.tbs_certificate))
}

/// What a signature in a certificate is called in a handshake. There a scheme of ECDSA names the
/// curve too; in a chain the hash counts, as before TLS 1.3. None of what is not known here.
fn schemes_of(der: &CertificateDer<'_>) -> &'static [SignatureScheme] {
    use SignatureScheme as S;
    const KNOWN: &[(AlgorithmIdentifier, &[SignatureScheme])] = &[
        (alg_id::ECDSA_SHA256, &[S::ECDSA_NISTP256_SHA256]),
        (alg_id::ECDSA_SHA384, &[S::ECDSA_NISTP384_SHA384]),
        (alg_id::ECDSA_SHA512, &[S::ECDSA_NISTP521_SHA512]),
        (alg_id::ED25519, &[S::ED25519]),
        (alg_id::RSA_PKCS1_SHA256, &[S::RSA_PKCS1_SHA256]),
        (alg_id::RSA_PKCS1_SHA384, &[S::RSA_PKCS1_SHA384]),
        (alg_id::RSA_PKCS1_SHA512, &[S::RSA_PKCS1_SHA512]),
        // Whether the issuer's key is for PSS alone is not looked at (§4.2.3).
        (alg_id::RSA_PSS_SHA256, &[S::RSA_PSS_SHA256, S::Unknown(0x0809)]),
        (alg_id::RSA_PSS_SHA384, &[S::RSA_PSS_SHA384, S::Unknown(0x080A)]),
        (alg_id::RSA_PSS_SHA512, &[S::RSA_PSS_SHA512, S::Unknown(0x080B)]),
    ];
    let Ok(signed) = Signed::read(der) else { return &[] };
    let found = KNOWN.iter().find(|(id, _)| id.as_ref() == signed.algorithm());
    found.map_or(&[], |(_, schemes)| schemes)
}

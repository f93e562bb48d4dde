//! What rustls and webpki say, in words for people who run this and not in their names for it.

use rustls::pki_types::UnixTime;
use rustls::{
    CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible, PeerMisbehaved,
};

use crate::calendar::civil;

/// Why a session failed, unless the peer said it.
pub(super) fn of_error(error: &Error) -> String {
    use Error as E;
    match error {
        E::InvalidCertificate(why) => of_certificate(why),
        E::NoCertificatesPresented => "it shows no certificate".to_owned(),
        E::InvalidMessage(why) => of_message(*why),
        E::InappropriateMessage { .. } | E::InappropriateHandshakeMessage { .. } => {
            "it sent a message out of its turn".to_owned()
        }
        E::DecryptError => "a record of it cannot be decrypted".to_owned(),
        E::PeerSentOversizedRecord => "it sent a record that is too long".to_owned(),
        E::NoApplicationProtocol => "it names protocols (ALPN), and none that is spoken".to_owned(),
        E::PeerIncompatible(why) => of_incompatible(why),
        E::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName) => {
            "it asks for a name that is no host's (RFC 6066 §3)".to_owned()
        }
        E::PeerMisbehaved(why) => format!("it breaks the rules of TLS: {}", spaced(why)),
        E::General(words) => words.clone(),
        other => spaced(other),
    }
}

fn of_message(why: InvalidMessage) -> String {
    use InvalidMessage as M;
    match why {
        M::InvalidContentType | M::UnknownProtocolVersion => "what it sent is no TLS".to_owned(),
        M::CertificatePayloadTooLarge => "its chain of certificates is too long".to_owned(),
        M::HandshakePayloadTooLarge | M::MessageTooLarge => {
            "it sent a message that is too long".to_owned()
        }
        other => format!("it sent a message that is not readable: {}", spaced(&other)),
    }
}

fn of_incompatible(why: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    match why {
        P::SupportedVersionsExtensionRequired => "it speaks no TLS 1.3, the least here",
        P::Tls12NotOffered | P::Tls12NotOfferedOrEnabled | P::ServerDoesNotSupportTls12Or13 => {
            "it speaks no TLS of those that are spoken here"
        }
        P::ServerTlsVersionIsDisabledByOurConfig => "it speaks an older TLS than the least here",
        P::NoCipherSuitesInCommon => "it knows no suite of those that are used here",
        P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired | P::KeyShareExtensionRequired => {
            "it knows no key exchange of those that are used here"
        }
        P::NoSignatureSchemesInCommon
        | P::NoCertificateRequestSignatureSchemesInCommon
        | P::SignatureAlgorithmsExtensionRequired => {
            "it knows no signature of those that fit the certificate"
        }
        other => return format!("it speaks another TLS: {}", spaced(other)),
    }
    .to_owned()
}

fn of_certificate(why: &CertificateError) -> String {
    use CertificateError as C;
    match why {
        C::BadEncoding => "the certificate is not readable".to_owned(),
        C::Expired => "the certificate has expired".to_owned(),
        C::ExpiredContext { not_after, .. } => {
            format!("the certificate expired on {}", date(*not_after))
        }
        C::NotValidYet => "the certificate is not valid yet".to_owned(),
        C::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}", date(*not_before))
        }
        C::Revoked => "the certificate was revoked".to_owned(),
        C::UnknownIssuer => "nobody who is believed has signed the certificate".to_owned(),
        C::ExpiredRevocationList => "the revocation list of its issuer has expired".to_owned(),
        C::ExpiredRevocationListContext { next_update, .. } => {
            format!("the revocation list of its issuer expired on {}", date(*next_update))
        }
        C::BadSignature => "a signature is not right".to_owned(),
        C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "a certificate is signed in a way that is not taken".to_owned()
        }
        C::NotValidForNameContext { expected, presented } => {
            let presented = match &presented[..] {
                [] => "nobody by name".to_owned(),
                several => several.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", "),
            };
            format!("the certificate is of {presented}, and wanted is {}", expected.to_str())
        }
        C::NotValidForName => "the certificate is of another name".to_owned(),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "the certificate is for another use".to_owned()
        }
        C::UnhandledCriticalExtension => {
            "the certificate has a critical extension that is not known".to_owned()
        }
        C::Other(OtherError(why)) => match why.downcast_ref::<webpki::Error>() {
            Some(why) => of_webpki(why),
            None => format!("the certificate: {why}"),
        },
        other => format!("the certificate: {}", spaced(other)),
    }
}

/// What is wrong with a certificate, or with a list of revoked ones.
pub(super) fn of_webpki(why: &webpki::Error) -> String {
    use webpki::Error as E;
    match why {
        E::CaUsedAsEndEntity => {
            "the certificate is an authority's (CA:TRUE): such a one is taken only where ca has that \
             very certificate"
        }
        E::UnsupportedCertVersion => "the certificate is of X.509 v1: make one of v3",
        E::BadDer | E::BadDerTime | E::TrailingData(_) => "it is not readable",
        E::NameConstraintViolation => "an authority of its chain may not sign for its name",
        E::PathLenConstraintViolated => "its chain is longer than one of its authorities allows",
        E::MaximumPathBuildCallsExceeded
        | E::MaximumPathDepthExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumNameConstraintComparisonsExceeded => "its chain takes too long to verify",
        E::IssuerNotCrlSigner => "the issuer of its revocation list may not sign lists",
        E::UnsupportedCrlIssuingDistributionPoint => {
            "a list that is of certain certificates must name its distribution point"
        }
        E::UnsupportedDeltaCrl => "a list of changes alone (a delta)",
        E::UnsupportedIndirectCrl => "a list of several issuers' certificates (an indirect one)",
        E::UnsupportedRevocationReasonsPartitioning => "a list of some reasons alone",
        E::UnsupportedCrlVersion => "a list of version 1",
        E::InvalidCrlNumber => "a list without a number, or with a wrong one",
        other => return spaced(other),
    }
    .to_owned()
}

/// `DnsName("a.example")` is a.example.
fn bare(name: &str) -> &str {
    name.split_once('"').and_then(|(_, rest)| rest.strip_suffix("\")")).unwrap_or(name)
}

/// The name of a variant as words, with what it holds: `MessageTooShort` is "message too short".
fn spaced(of: &impl std::fmt::Debug) -> String {
    let mut words = String::new();
    let mut after_lower = false;
    for c in format!("{of:?}").chars() {
        if c.is_ascii_uppercase() && after_lower {
            words.push(' ');
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        words.push(c.to_ascii_lowercase());
    }
    words
}

fn date(at: UnixTime) -> String {
    let (seconds, (year, month, day)) = (at.as_secs(), civil(at.as_secs() / 86_400));
    let (hour, minute) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

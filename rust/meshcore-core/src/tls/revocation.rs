//! Lists of revoked certificates (RFC 5280 §5), and which certificates they are about.
//!
//! webpki parses them; which list is about a certificate is decided here. webpki passes over a list
//! whose issuer is spelt otherwise, or that is of another distribution point, and a revoked
//! certificate would come in as one of an issuer without a list does. Here a name is compared as
//! §7.1 says, and what the lists of the issuer do not cover is refused, for nobody knows how it
//! stands. Of authorities of one name a list is that one's whose key has signed it.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use std::time::Duration;
use webpki::{Cert, CertRevocationList, Error, OwnedCertRevocationList, VerifiedPath};
use x509_cert::Certificate;
use x509_cert::crl::{CertificateList, TbsCertList};
use x509_cert::der::asn1::{AnyRef, BitStringRef};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, KeyUsage, SubjectKeyIdentifier};

use super::context_error::unreadable_list;
use super::distinguished_name::SameName;
use super::distribution_point::{Reach, Scope};
use super::roots::is_authority;
use super::{ContextError, certificates, words};

/// What a list of revoked certificates says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFacts {
    /// Whose it is, as RFC 4514 writes names.
    pub issuer: String,
    /// When it was made, in seconds since 1970.
    pub this_update_s: u64,
    /// Until when there is to be a newer one, in seconds since 1970.
    pub next_update_s: Option<u64>,
    /// It is about authorities alone.
    pub is_of_authorities: bool,
    name: SameName,
}

impl ListFacts {
    /// Of each list in a PEM text. O(bytes).
    ///
    /// # Errors
    /// [`ContextError`]: they are none, or of a kind that is not taken.
    pub fn read(pem: &[u8]) -> Result<Vec<Self>, ContextError> {
        let lists = Lists::compile(&lists_in(pem)?, false)?.each;
        if lists.is_empty() {
            Err(ContextError::NoList)
        } else {
            Ok(lists.iter().map(of).collect())
        }
    }

    /// Whether it can be about what these authorities signed, or about one of these certificates:
    /// its issuer is among them, or theirs. O(certificates).
    #[must_use]
    pub fn is_of(&self, ca_pem: &[u8]) -> bool {
        let all = certificates::chain(ca_pem).unwrap_or_default();
        let mut read = all.iter().filter_map(|each| Certificate::from_der(each).ok());
        read.any(|each| {
            let each = each.tbs_certificate;
            [&each.subject, &each.issuer].iter().any(|name| SameName::of(name) == self.name)
        })
    }
}

fn of(list: &List) -> ListFacts {
    ListFacts {
        issuer: list.told.clone(),
        this_update_s: list.this_update_s,
        next_update_s: list.next_update_s,
        is_of_authorities: list.reach.authorities,
        name: list.issuer.clone(),
    }
}

pub(super) fn lists_in(
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, ContextError> {
    super::pem::items(pem, "X509 CRL")
}

/// One list, made ready.
#[derive(Debug)]
struct List {
    issuer: SameName,
    /// The same for people.
    told: String,
    this_update_s: u64,
    next_update_s: Option<u64>,
    reach: Reach,
    /// Of the key that has signed it, if it tells (§5.2.1).
    key_id: Option<Vec<u8>>,
    revoked: CertRevocationList<'static>,
    signed: Signed,
}

/// What of a list is signed, and how.
#[derive(Debug)]
struct Signed {
    message: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

impl List {
    fn read(list: &[u8]) -> Result<Self, ContextError> {
        let signed = Signed::read(list).map_err(unreadable_list)?;
        let mut read = CertificateList::from_der(list).map_err(unreadable_list)?;
        is_numbered(&read.tbs_cert_list)?;
        let reach = Reach::take(&mut read.tbs_cert_list)?;
        let rest = read.to_der().map_err(unreadable_list)?;
        let revoked = OwnedCertRevocationList::from_der(&rest)
            .map_err(|why| ContextError::UnusableList(words::of_webpki(&why)))?;
        let read = read.tbs_cert_list;
        let mut all = read.crl_extensions.iter().flatten();
        let key_id = all.find(|each| each.extn_id == AuthorityKeyIdentifier::OID);
        let key_id =
            key_id.map(|each| AuthorityKeyIdentifier::from_der(each.extn_value.as_bytes()));
        Ok(Self {
            issuer: SameName::of(&read.issuer),
            told: read.issuer.to_string(),
            this_update_s: read.this_update.to_unix_duration().as_secs(),
            next_update_s: read.next_update.map(|end| end.to_unix_duration().as_secs()),
            reach,
            key_id: key_id.transpose().map_err(unreadable_list)?.and_then(key_id_in),
            revoked: revoked.into(),
            signed,
        })
    }

    /// Whether it says that another key of its issuer's name has signed it than a certificate.
    fn is_of_another_key(&self, key_id: Option<&[u8]>) -> bool {
        self.key_id.as_deref().zip(key_id).is_some_and(|(own, its)| own != its)
    }

    fn has(&self, serial: &[u8]) -> Result<bool, Error> {
        self.revoked.find_serial(serial).map(|found| found.is_some())
    }
}

/// Lists have a number (RFC 5280 §5.2.3), and for that the version with extensions; what openssl
/// and others make unless they are told to has none.
fn is_numbered(list: &TbsCertList) -> Result<(), ContextError> {
    let mut all = list.crl_extensions.iter().flatten();
    if all.any(|each| each.extn_id == CrlNumber::OID) {
        return Ok(());
    }
    let why = "a list without a number (RFC 5280 §5.2.3): name a `crlnumber` file in the \
               configuration of `openssl ca -gencrl`, or add the extension";
    Err(ContextError::UnusableList(why.to_owned()))
}

fn key_id_in(extension: AuthorityKeyIdentifier) -> Option<Vec<u8>> {
    extension.key_identifier.map(|id| id.as_bytes().to_vec())
}

/// Which key has signed a certificate, if it tells (§4.2.1.1).
fn key_id_of(read: &Certificate) -> Option<Vec<u8>> {
    let read = &read.tbs_certificate;
    if let Some((_, extension)) = read.get::<AuthorityKeyIdentifier>().ok()? {
        return key_id_in(extension);
    }
    let own = read.get::<SubjectKeyIdentifier>().ok()?.filter(|_| is_self_issued(read));
    own.map(|(_, id)| id.0.as_bytes().to_vec())
}

fn is_self_issued(read: &x509_cert::TbsCertificate) -> bool {
    SameName::of(&read.subject) == SameName::of(&read.issuer)
}

impl Signed {
    fn read(list: &[u8]) -> der::Result<Self> {
        let mut list = SliceReader::new(AnyRef::from_der(list)?.value())?;
        let message = list.tlv_bytes()?.to_vec();
        let algorithm = AnyRef::decode(&mut list)?.value().to_vec();
        let signature = BitStringRef::decode(&mut list)?.raw_bytes().to_vec();
        Ok(Self { message, algorithm, signature })
    }

    /// Whether the holder of this key has signed it. O(bytes).
    fn verify(&self, spki: &[u8], known: &WebPkiSupportedAlgorithms) -> Result<(), Error> {
        let parts = || {
            let mut spki = SliceReader::new(AnyRef::from_der(spki)?.value())?;
            let algorithm = AnyRef::decode(&mut spki)?.value();
            Ok::<_, der::Error>((algorithm, BitStringRef::decode(&mut spki)?.raw_bytes()))
        };
        let (algorithm, key) = parts().map_err(|_| Error::BadDer)?;
        let is_signed = known.all.iter().any(|each| {
            each.signature_alg_id().as_ref() == self.algorithm
                && each.public_key_alg_id().as_ref() == algorithm
                && each.verify_signature(key, &self.message, &self.signature).is_ok()
        });
        if is_signed { Ok(()) } else { Err(Error::InvalidCrlSignatureForPublicKey) }
    }
}

/// Lists of several issuers, made ready.
#[derive(Debug)]
pub(super) struct Lists {
    each: Vec<List>,
    uses_expired: bool,
}

/// How a certificate that is believed as it is stands by the lists.
#[derive(Debug)]
pub(super) struct Listed {
    /// Until when the lists of its issuer hold, in seconds since 1970, if there are any.
    due_s: Option<u64>,
    is_covered: bool,
}

/// Of those that say nothing of it.
const UNLISTED: Listed = Listed { due_s: None, is_covered: true };

impl Lists {
    /// Of several, of which two are about the same certificates of no issuer. O(bytes + lists²).
    pub(super) fn compile(
        lists: &[CertificateRevocationListDer<'static>],
        uses_expired: bool,
    ) -> Result<Self, ContextError> {
        let mut each: Vec<List> = Vec::with_capacity(lists.len());
        for list in lists {
            let list = List::read(list)?;
            // An old one and a new one: one of them is there by mistake.
            let is_twice = |other: &List| {
                other.issuer == list.issuer
                    && !other.is_of_another_key(list.key_id.as_deref())
                    && other.reach.meets(&list.reach)
            };
            if each.iter().any(is_twice) {
                return Err(ContextError::TwoLists(list.told));
            }
            each.push(list);
        }
        Ok(Self { each, uses_expired })
    }

    fn of_issuer(&self, issuer: SameName) -> impl Iterator<Item = &List> {
        self.each.iter().filter(move |list| list.issuer == issuer)
    }

    /// How a certificate stands whose issuer's key is not known; `None`: it is revoked.
    ///
    /// One that signed itself is where trust begins, and no list need tell that it goes on (§6.1);
    /// where its own list has it, it has taken itself back.
    pub(super) fn look_up(&self, read: &Certificate) -> Option<Listed> {
        let key_id = key_id_of(read);
        let read = &read.tbs_certificate;
        let (mut due_s, mut is_unknown, mut is_covered) = (None::<u64>, false, false);
        for list in self.of_issuer(SameName::of(&read.issuer)) {
            if list.is_of_another_key(key_id.as_deref()) {
                continue;
            }
            if list.has(read.serial_number.as_bytes()).unwrap_or(true) {
                return None;
            }
            match list.reach.scope(read, is_authority(read)) {
                Ok(Scope::OtherKind) => {}
                Ok(Scope::Covered) => {
                    is_covered = true;
                    due_s = due_s.into_iter().chain(list.next_update_s).min();
                }
                Ok(Scope::Unknown) | Err(_) => is_unknown = true,
            }
        }
        let listed = Listed { due_s, is_covered: is_covered || !is_unknown };
        Some(if is_self_issued(read) { UNLISTED } else { listed })
    }

    /// Whether it comes in now.
    pub(super) fn admit(&self, listed: &Listed, now: UnixTime) -> Result<(), Error> {
        if !listed.is_covered {
            return Err(Error::UnknownRevocationStatus);
        }
        listed.due_s.map_or(Ok(()), |due_s| self.is_in_force(due_s, now))
    }

    fn is_in_force(&self, next_update_s: u64, now: UnixTime) -> Result<(), Error> {
        if self.uses_expired || now.as_secs() < next_update_s {
            return Ok(());
        }
        let next_update = UnixTime::since_unix_epoch(Duration::from_secs(next_update_s));
        Err(Error::CrlExpired { time: now, next_update })
    }

    /// Whether nobody in a chain that ends at an authority was revoked. O(chain · signatures), and
    /// nothing where there are no lists.
    pub(super) fn verify(
        &self,
        path: &VerifiedPath<'_>,
        now: UnixTime,
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        if self.each.is_empty() {
            return Ok(());
        }
        let leaf: &Cert<'_> = path.end_entity();
        let signers: Vec<_> = path.intermediate_certificates().collect();
        for (place, of) in std::iter::once(leaf).chain(signers.iter().copied()).enumerate() {
            let signer = signers.get(place).copied();
            let spki = match signer {
                Some(signer) => signer.subject_public_key_info(),
                None => webpki::spki_for_anchor(path.anchor()),
            };
            self.verify_one(of, place > 0, signer, &spki, now, known)?;
        }
        Ok(())
    }

    /// Whether the lists of its issuer's key let one certificate pass.
    fn verify_one(
        &self,
        of: &Cert<'_>,
        is_authority: bool,
        signer: Option<&Cert<'_>>,
        spki: &[u8],
        now: UnixTime,
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let issuer = SameName::of_content(of.issuer()).map_err(|_| Error::BadDer)?;
        let mut lists = self.of_issuer(issuer).peekable();
        if lists.peek().is_none() {
            return Ok(());
        }
        let read = Certificate::from_der(&of.der()).map_err(|_| Error::BadDer)?;
        let (mut is_unknown, mut is_covered) = (false, false);
        for list in lists {
            let scope = list.reach.scope(&read.tbs_certificate, is_authority);
            let scope = scope.map_err(|_| Error::BadDer)?;
            if scope == Scope::OtherKind {
                continue;
            }
            // Only what the signature denies is believed to be another key's.
            match list.signed.verify(spki, known) {
                Err(_) if list.is_of_another_key(key_id_of(&read).as_deref()) => continue,
                is_signed => is_signed?,
            }
            if scope == Scope::Unknown {
                is_unknown = true;
                continue;
            }
            is_covered = true;
            if let Some(next_update_s) = list.next_update_s {
                self.is_in_force(next_update_s, now)?;
            }
            if signer.is_some_and(|signer| !may_list(&signer.der())) {
                return Err(Error::IssuerNotCrlSigner);
            }
            if list.has(of.serial())? {
                return Err(Error::CertRevoked);
            }
        }
        if is_unknown && !is_covered { Err(Error::UnknownRevocationStatus) } else { Ok(()) }
    }
}

/// §4.2.1.3: one that says what its key is for says that it signs lists.
fn may_list(der: &[u8]) -> bool {
    let Ok(read) = Certificate::from_der(der) else { return false };
    let usage = read.tbs_certificate.get::<KeyUsage>();
    usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| usage.crl_sign()))
}

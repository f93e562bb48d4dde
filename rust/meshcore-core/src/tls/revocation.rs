//! Lists of revoked certificates (RFC 5280 §5), and which certificates they are about.
//!
//! webpki parses them; which list is about a certificate is decided here. webpki passes over a list
//! whose issuer is spelt otherwise, or that is of another distribution point, and a revoked
//! certificate would come in as one of an issuer without a list does. Here a name is compared as
//! §7.1 says, and what the lists of the issuer do not cover is refused, for it is not known how it
//! stands. Of authorities of one name a list is that one's whose key has signed it.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use std::time::Duration;
use webpki::{Cert, CertRevocationList, Error, OwnedCertRevocationList, VerifiedPath};
use x509_cert::Certificate;
use x509_cert::crl::{CertificateList, TbsCertList};
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{self, Decode, Encode, SliceReader, Tag, Tagged};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, KeyUsage};

use super::context_error::unreadable_list;
use super::distinguished_name::SameName;
use super::distribution_point::{Reach, Scope};
use super::facts::is_own_issuer;
use super::roots::is_authority;
use super::signed::{Keys, Signed, may_be_same_key, own_key_id};
use super::{ContextError, certificates, is_late, words};

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
    /// Of each list in a PEM text; of two of one name certificates of authorities tell whose they
    /// are. O(bytes + lists · certificates).
    ///
    /// # Errors
    /// [`ContextError`]: they are none, or of a kind that is not taken.
    pub fn read(pem: &[u8], ca_pem: &[u8]) -> Result<Vec<Self>, ContextError> {
        let authorities = certificates::chain(ca_pem).unwrap_or_default();
        let lists = Lists::compile(&lists_in(pem)?, false, &Keys::of(authorities.iter()))?;
        if lists.each.is_empty() { Err(ContextError::NoList) } else { Ok(lists.facts()) }
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
        issuer: list.issuer_text.clone(),
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
    issuer_text: String,
    this_update_s: u64,
    next_update_s: Option<u64>,
    reach: Reach,
    /// Of the key that has signed it, if it tells (§5.2.1).
    key_id: Option<Vec<u8>>,
    revoked: CertRevocationList<'static>,
    signed: Signed,
    /// The key that has signed it, where it is that of an authority that was given.
    signer: Option<Vec<u8>>,
}

impl List {
    fn read(list: &[u8], keys: &Keys) -> Result<Self, ContextError> {
        let signed = Signed::read(list).map_err(unreadable_list)?;
        let read = CertificateList::from_der(list);
        let mut read = read.map_err(|why| match is_of_version_1(list) {
            Ok(true) => unnumbered(),
            _ => unreadable_list(why),
        })?;
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
        let issuer = SameName::of(&read.issuer);
        let key_id = key_id.transpose().map_err(unreadable_list)?.and_then(key_id_in);
        let signer = keys.signer(&issuer, &signed, key_id.as_deref());
        Ok(Self {
            signer: signer.map(<[u8]>::to_vec),
            issuer,
            issuer_text: read.issuer.to_string(),
            this_update_s: read.this_update.to_unix_duration().as_secs(),
            next_update_s: read.next_update.map(|end| end.to_unix_duration().as_secs()),
            reach,
            key_id,
            revoked: revoked.into(),
            signed,
        })
    }

    /// Whether it says that another key of its issuer's name has signed it than a certificate.
    fn is_of_another_key(&self, key_id: Option<&[u8]>) -> bool {
        self.key_id.as_deref().zip(key_id).is_some_and(|(own, its)| own != its)
    }

    /// Whether it is this authority's key that has signed it.
    fn is_signed_by(&self, spki: &[u8]) -> bool {
        self.signer.as_deref().is_some_and(|signer| may_be_same_key(signer, spki))
    }

    /// Whether another key has signed it, as the signature itself says.
    fn is_signed_by_other(&self, spki: Option<&[u8]>) -> bool {
        self.signer.as_deref().zip(spki).is_some_and(|(own, other)| !may_be_same_key(own, other))
    }

    /// Whether another key has signed it than has signed a certificate: by the signatures of both,
    /// where those tell, else by what both call their keys.
    fn is_of_other(&self, signer: Option<&[u8]>, key_id: Option<&[u8]>) -> bool {
        match (&self.signer, signer) {
            (Some(_), Some(_)) => self.is_signed_by_other(signer),
            _ => self.is_of_another_key(key_id),
        }
    }

    /// Whether this key has signed it. O(bytes), but for a key that was given.
    fn verify(&self, spki: &[u8], known: &WebPkiSupportedAlgorithms) -> Result<(), Error> {
        if self.signer.as_deref() == Some(spki) { Ok(()) } else { self.signed.verify(spki, known) }
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
    Err(unnumbered())
}

fn unnumbered() -> ContextError {
    let why = "a list without a number (RFC 5280 §5.2.3): name a `crlnumber` file in the \
               configuration of `openssl ca -gencrl`, or add the extension";
    ContextError::UnusableList(why.to_owned())
}

/// Whether a list is of the version that has no extensions, and says no version (§5.1.2.1).
fn is_of_version_1(list: &[u8]) -> der::Result<bool> {
    let mut list = SliceReader::new(AnyRef::from_der(list)?.value())?;
    let mut signed = SliceReader::new(AnyRef::decode(&mut list)?.value())?;
    Ok(AnyRef::decode(&mut signed)?.tag() == Tag::Sequence)
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
    if is_own_issuer(read) { own_key_id(read) } else { None }
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
    /// Of several, of which no two are of one key and about the same certificates; `keys`: who may
    /// have signed them. O(bytes · keys of one name + lists²).
    pub(super) fn compile(
        lists: &[CertificateRevocationListDer<'static>],
        uses_expired: bool,
        keys: &Keys,
    ) -> Result<Self, ContextError> {
        let mut each: Vec<List> = Vec::with_capacity(lists.len());
        for list in lists {
            let list = List::read(list, keys)?;
            // An old one and a new one: one of them is there by mistake.
            let is_twice = |other: &List| {
                other.issuer == list.issuer
                    && !other.is_of_other(list.signer.as_deref(), list.key_id.as_deref())
                    && other.reach.meets(&list.reach)
            };
            if let Some(other) = each.iter().find(|other| is_twice(other)) {
                let is_untied = list.signer.is_none() || other.signer.is_none();
                return Err(ContextError::TwoLists { issuer: list.issuer_text, is_untied });
            }
            each.push(list);
        }
        Ok(Self { each, uses_expired })
    }

    /// What each says of itself.
    pub(super) fn facts(&self) -> Vec<ListFacts> {
        self.each.iter().map(of).collect()
    }

    fn of_issuer(&self, issuer: SameName) -> impl Iterator<Item = &List> {
        self.each.iter().filter(move |list| list.issuer == issuer)
    }

    /// Whether no client that an authority signed comes in (or else the revoked do) for want of a
    /// list of its key, where there are lists of its name; `None`: it has one, or its name has
    /// none.
    pub(super) fn lack(&self, name: &SameName, spki: &[u8], key_id: Option<&[u8]>) -> Option<bool> {
        let of_name: Vec<_> = self.each.iter().filter(|list| list.issuer == *name).collect();
        if of_name.is_empty() || of_name.iter().any(|list| list.is_signed_by(spki)) {
            return None;
        }
        let may_be_its = |list: &&List| list.signer.is_none() && !list.is_of_another_key(key_id);
        Some(of_name.iter().any(may_be_its))
    }

    /// Whether a list says that an authority's key has signed it, which has not.
    pub(super) fn has_forged(&self, name: &SameName, key_id: Option<&[u8]>) -> bool {
        let of_name = self.each.iter().filter(|list| list.issuer == *name);
        key_id.is_some()
            && of_name.into_iter().any(|x| x.signer.is_none() && x.key_id.as_deref() == key_id)
    }

    /// When the first of the lists that an authority's key has signed runs out, in seconds since
    /// 1970; `None`: never, or it has none.
    pub(super) fn end_s(&self, name: &SameName, spki: &[u8]) -> Option<u64> {
        let own = self.each.iter().filter(|list| list.issuer == *name && list.is_signed_by(spki));
        own.filter_map(|list| list.next_update_s).min()
    }

    /// How a certificate that was given stands; `None`: it is revoked. Its issuer's key is one of
    /// those that may have signed lists, or not known.
    ///
    /// One that signed itself is where trust begins, and no list need tell that it goes on (§6.1);
    /// where its own list has it, it has taken itself back.
    pub(super) fn look_up(&self, der: &[u8], read: &Certificate, keys: &Keys) -> Option<Listed> {
        let key_id = key_id_of(read);
        let read = &read.tbs_certificate;
        let issuer = SameName::of(&read.issuer);
        let signed = if self.each.is_empty() { None } else { Signed::read(der).ok() };
        let signer = signed.and_then(|signed| keys.signer(&issuer, &signed, key_id.as_deref()));
        let (mut due_s, mut is_unknown, mut is_covered) = (None::<u64>, false, false);
        for list in self.of_issuer(issuer) {
            if list.is_of_other(signer, key_id.as_deref()) {
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
        Some(if is_own_issuer(read) { UNLISTED } else { listed })
    }

    /// Whether it comes in now.
    pub(super) fn admit(&self, listed: &Listed, now: UnixTime) -> Result<(), Error> {
        if !listed.is_covered {
            return Err(Error::UnknownRevocationStatus);
        }
        listed.due_s.map_or(Ok(()), |due_s| self.is_in_force(due_s, now))
    }

    fn is_in_force(&self, next_update_s: u64, now: UnixTime) -> Result<(), Error> {
        if self.uses_expired || !is_late(next_update_s, now.as_secs()) {
            return Ok(());
        }
        let next_update = UnixTime::since_unix_epoch(Duration::from_secs(next_update_s));
        Err(Error::CrlExpired { time: now, next_update })
    }

    /// Whether no certificate in a chain that ends at an authority was revoked. O(chain ·
    /// signatures), and nothing where there are no lists.
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
            if list.is_signed_by_other(Some(spki)) {
                continue;
            }
            // Only what the signature denies is believed to be another key's.
            match list.verify(spki, known) {
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

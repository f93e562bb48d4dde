//! Which certificates of its issuer a list of revoked ones is about (RFC 5280 §5.2.5, §6.3.3).

use x509_cert::certificate::TbsCertificate;
use x509_cert::crl::TbsCertList;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{self, Decode};
use x509_cert::ext::pkix::CrlDistributionPoints;
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::name::Name;

use super::ContextError;
use super::context_error::unreadable_list;
use super::distinguished_name::SameName;

/// `id-ce-issuingDistributionPoint` (§5.2.5).
const POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");

/// Whether a list is about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Covered,
    /// It is about certificates of another kind.
    OtherKind,
    /// It is about those of another distribution point.
    Unknown,
}

/// What a list is about.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Certificates that are no authority's alone.
    users: bool,
    /// Those of authorities alone.
    pub(super) authorities: bool,
    /// Those of a distribution point of one of these names.
    names: Option<Vec<PointName>>,
}

/// One name of a distribution point.
#[derive(Debug, PartialEq, Eq)]
enum PointName {
    Directory(SameName),
    Other(GeneralName),
}

impl Reach {
    /// Takes out of a list what it says of it. What is behind it is read by webpki, which takes
    /// such an extension only with a point, and with one that has a full name.
    pub(super) fn take(list: &mut TbsCertList) -> Result<Self, ContextError> {
        let Some(all) = &mut list.crl_extensions else { return Ok(Self::default()) };
        let mut found = all.iter().filter(|each| each.extn_id == POINT);
        // There is no second one of an extension (§4.2): webpki says so.
        let (Some(one), None) = (found.next(), found.next()) else { return Ok(Self::default()) };
        let point = IssuingDistributionPoint::from_der(one.extn_value.as_bytes());
        let reach = Self::of(point.map_err(unreadable_list)?, &list.issuer)
            .map_err(|why| ContextError::UnusableList(why.to_owned()))?;
        all.retain(|each| each.extn_id != POINT);
        Ok(reach)
    }

    fn of(point: IssuingDistributionPoint, issuer: &Name) -> Result<Self, &'static str> {
        let IssuingDistributionPoint { only_contains_user_certs: users, .. } = point;
        let IssuingDistributionPoint { only_contains_ca_certs: authorities, .. } = point;
        if point.indirect_crl {
            return Err("a list of several issuers' certificates (an indirect one)");
        }
        if point.only_some_reasons.is_some() {
            return Err("a list of some reasons alone");
        }
        if point.only_contains_attribute_certs {
            return Err("a list of attribute certificates");
        }
        if users && authorities {
            return Err("a list of authorities alone, and of all others alone (RFC 5280 §5.2.5)");
        }
        let names = point.distribution_point.map(|point| names(&point, issuer));
        Ok(Self { users, authorities, names })
    }

    /// Whether some certificate may be in the reach of both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let apart = self.users && other.authorities || self.authorities && other.users;
        let share = match (&self.names, &other.names) {
            (Some(one), Some(other)) => one.iter().any(|name| other.contains(name)),
            _ => true,
        };
        !apart && share
    }

    /// Whether it is about a certificate of the same issuer (§6.3.3 (b)(2)).
    pub(super) fn scope(&self, of: &TbsCertificate, is_authority: bool) -> der::Result<Scope> {
        if self.authorities && !is_authority || self.users && is_authority {
            return Ok(Scope::OtherKind);
        }
        let Some(own) = &self.names else { return Ok(Scope::Covered) };
        // One that names no point may be in any of its issuer's lists.
        let Some((_, points)) = of.get::<CrlDistributionPoints>()? else {
            return Ok(Scope::Covered);
        };
        let is_same = points.0.iter().any(|each| {
            let whole = each.crl_issuer.is_none() && each.reasons.is_none();
            let names = each.distribution_point.as_ref().map(|name| names(name, &of.issuer));
            whole && names.is_some_and(|names| names.iter().any(|name| own.contains(name)))
        });
        Ok(if is_same { Scope::Covered } else { Scope::Unknown })
    }
}

/// A relative name is one below its issuer's (§4.2.1.13).
fn names(point: &DistributionPointName, issuer: &Name) -> Vec<PointName> {
    match point {
        DistributionPointName::FullName(all) => all.iter().map(PointName::of).collect(),
        DistributionPointName::NameRelativeToCRLIssuer(part) => {
            let mut whole = issuer.clone();
            whole.0.push(part.clone());
            vec![PointName::Directory(SameName::of(&whole))]
        }
    }
}

impl PointName {
    fn of(name: &GeneralName) -> Self {
        match name {
            GeneralName::DirectoryName(name) => Self::Directory(SameName::of(name)),
            other => Self::Other(other.clone()),
        }
    }
}

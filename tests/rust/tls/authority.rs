//! Certificates of a test's own.

use std::sync::atomic::{AtomicU32, Ordering};

use meshcore_core::tls::{Pair, Roots, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, RevocationReason, RevokedCertParams, SanType, SignatureAlgorithm,
    date_time_ymd,
};

/// 2026-06-01.
pub(crate) const NOW_S: u64 = 1_780_272_000;
pub(crate) const DAY_S: u64 = 86_400;
/// 2027-01-01, when certificates of hosts end.
pub(crate) const END_S: u64 = 1_798_761_600;

static MADE: AtomicU32 = AtomicU32::new(0);

/// Who signs.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        Self::until(2_030)
    }

    /// One that ends on the first day of that year.
    pub(crate) fn until(year: i32) -> Self {
        // Of two of one name a chain would be a matter of signatures alone.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        Self::called(&format!("authority {number}"), year)
    }

    /// One that signs with RSA.
    pub(crate) fn rsa() -> Self {
        Self::with("of RSA", 2_030, &PKCS_RSA_SHA256)
    }

    /// One of several of a name.
    pub(crate) fn called(name: &str, year: i32) -> Self {
        Self::with(name, year, &PKCS_ECDSA_P256_SHA256)
    }

    fn with(name: &str, year: i32, kind: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, year);
        Self(CertifiedIssuer::self_signed(params, key(kind)).unwrap())
    }

    pub(crate) fn roots(&self) -> Trust {
        self.believed().into()
    }

    pub(crate) fn believed(&self) -> Roots {
        Roots::from_pem(self.0.pem().as_bytes(), b"").unwrap()
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// What was taken back: the certificate of this number.
    pub(crate) fn list(&self, serial: u64) -> Vec<u8> {
        self.list_until(serial, 2_027)
    }

    /// The same, which is to be made anew before the first day of that year.
    pub(crate) fn list_until(&self, serial: u64, year: i32) -> Vec<u8> {
        let revoked = RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: date_time_ymd(2_025, 6, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2_025, 6, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap().into_bytes()
    }

    /// A certificate for a host, until the end of 2026.
    pub(crate) fn host(&self, name: &str) -> Pair {
        self.signed(name, &PKCS_ECDSA_P256_SHA256, ExtendedKeyUsagePurpose::ServerAuth, 2_027)
    }

    /// The same with an RSA key.
    pub(crate) fn rsa_host(&self, name: &str) -> Pair {
        self.signed(name, &PKCS_RSA_SHA256, ExtendedKeyUsagePurpose::ServerAuth, 2_027)
    }

    /// A client's, with a SPIFFE name, until the first day of that year.
    pub(crate) fn client(&self, path: &str, until: i32) -> Pair {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        self.signed(&format!("spiffe://a.example/{path}"), &PKCS_ECDSA_P256_SHA256, usage, until)
    }

    /// What else a certificate may say.
    pub(crate) fn made(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(7.into());
        valid(&mut params, 2_027);
        change(&mut params);
        let own = key(&PKCS_ECDSA_P256_SHA256);
        let certificate = params.signed_by(&own, &self.0).unwrap();
        made("", &certificate.pem(), &own)
    }

    fn signed(
        &self,
        name: &str,
        kind: &'static SignatureAlgorithm,
        usage: ExtendedKeyUsagePurpose,
        until: i32,
    ) -> Pair {
        let mut params = named(name);
        params.extended_key_usages = vec![usage];
        params.serial_number = Some(7.into());
        valid(&mut params, until);
        let own = key(kind);
        let certificate = params.signed_by(&own, &self.0).unwrap();
        made(name, &certificate.pem(), &own)
    }
}

/// A certificate that signs itself, and may sign nobody else.
pub(crate) struct Leaf {
    pub(crate) pair: Pair,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Leaf {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.distinguished_name.push(DnType::CommonName, "leaf");
        valid(&mut params, 2_027);
        let own = key(&PKCS_ECDSA_P256_SHA256);
        let key_pem = own.serialize_pem().into_bytes();
        let issuer = CertifiedIssuer::self_signed(params, own).unwrap();
        let chain_pem = issuer.pem().into_bytes();
        let server_name = name.to_owned();
        Self { pair: Pair { server_name, chain_pem, key_pem, ocsp_der: None }, issuer }
    }

    /// What its holder makes of it nevertheless.
    pub(crate) fn signs(&self, name: &str) -> Pair {
        let mut params = named(name);
        valid(&mut params, 2_027);
        let own = key(&PKCS_ECDSA_P256_SHA256);
        made(name, &params.signed_by(&own, &self.issuer).unwrap().pem(), &own)
    }
}

/// What `openssl req -x509` makes: it signs itself, and may sign others.
pub(crate) fn self_signed(name: &str, until: i32, usage: &[ExtendedKeyUsagePurpose]) -> Pair {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = usage.to_vec();
    valid(&mut params, until);
    let own = key(&PKCS_ECDSA_P256_SHA256);
    let certificate = params.self_signed(&own).unwrap();
    made(name, &certificate.pem(), &own)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let uri = name.contains("://");
    let name = name.try_into().unwrap();
    params.subject_alt_names = vec![if uri { SanType::URI(name) } else { SanType::DnsName(name) }];
    params
}

fn valid(params: &mut CertificateParams, until: i32) {
    params.not_before = date_time_ymd(2_025, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
}

fn key(kind: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(kind).unwrap()
}

fn made(name: &str, chain: &str, own: &KeyPair) -> Pair {
    Pair {
        server_name: name.to_owned(),
        chain_pem: chain.as_bytes().to_vec(),
        key_pem: own.serialize_pem().into_bytes(),
        ocsp_der: None,
    }
}

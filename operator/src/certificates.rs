//! Keys and certificates of one cluster: its authority, what the authority signs, and the key that signs tokens.
//!
//! In: the cluster's id, names and the time. Out: PEM texts, and whether a certificate is due for renewal. Absent: Secrets.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kvfleet_api::token::{Jwk, JwkSet};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, SanType,
};
use ring::digest::{SHA256, digest};
use x509_parser::{
    pem::parse_x509_pem,
    prelude::{FromDer, GeneralName, X509Certificate},
};

use crate::error::Error;

#[cfg(test)]
const DAY: Duration = Duration::from_secs(86_400);
/// An authority outlives everything but a rotation.
const AUTHORITY_LIFE: Duration = Duration::from_secs(86_400 * 3_650);
/// What the authority signs lives this long and is renewed after a third: an operator that is down for weeks kills no fleet.
const LEAF_LIFE: Duration = Duration::from_secs(86_400 * 90);
/// Clocks of members may be behind ours.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member, on the peer and admin ports.
    Member,
    /// The operator, towards the admin port.
    Operator,
}

impl Role {
    /// The identity that a certificate of this role states.
    #[must_use]
    pub fn identity(self, cluster_id: &str) -> String {
        let role = match self {
            Role::Member => "member",
            Role::Operator => "operator",
        };
        format!("kvfleet://{cluster_id}/{role}")
    }
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Pair {
    /// Whether both can be read, and the key is the certificate's.
    #[must_use]
    pub fn belongs_together(&self) -> bool {
        let Ok(key) = KeyPair::from_pem(&self.key) else { return false };
        let stated = with_certificate(&self.certificate, |certificate| {
            certificate.public_key().subject_public_key.data.to_vec()
        });
        stated.is_some_and(|stated| stated == key.public_key_raw())
    }
}

/// A cluster's authority.
pub struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Certificate`]
    pub fn create(cluster_id: &str, now: SystemTime) -> Result<Self, Error> {
        let failed = failed("the authority");
        let key = KeyPair::generate().map_err(&failed)?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = common_name(&format!("kvfleet {cluster_id} CA"));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.not_before = (now - BACKDATED).into();
        parameters.not_after = (now + AUTHORITY_LIFE).into();
        let pair = Pair {
            certificate: parameters.self_signed(&key).map_err(&failed)?.pem(),
            key: key.serialize_pem(),
        };
        Ok(Authority {
            pair,
            issuer: Issuer::new(parameters, key),
        })
    }

    /// One made before.
    ///
    /// # Errors
    /// [`Error::Certificate`] when the texts are no certificate and key, or do not belong together.
    pub fn load(pair: Pair) -> Result<Self, Error> {
        let failed = failed("use of the authority");
        let key = KeyPair::from_pem(&pair.key).map_err(&failed)?;
        if !pair.belongs_together() {
            return Err(failed(rcgen::Error::CouldNotParseCertificate));
        }
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key).map_err(&failed)?;
        Ok(Authority { pair, issuer })
    }

    /// The authority's own certificate and key.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Signs a new certificate with a new key.
    ///
    /// # Errors
    /// [`Error::Certificate`]
    pub fn issue(&self, cluster_id: &str, role: Role, host: Option<&str>, now: SystemTime) -> Result<Pair, Error> {
        let failed = failed("a certificate");
        let identity = role.identity(cluster_id);
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = common_name(&identity);
        let uri = identity.as_str().try_into().map_err(&failed)?;
        parameters.subject_alt_names.push(SanType::URI(uri));
        if let Some(host) = host {
            let host = host.try_into().map_err(&failed)?;
            parameters.subject_alt_names.push(SanType::DnsName(host));
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        parameters.not_before = (now - BACKDATED).into();
        parameters.not_after = (now + LEAF_LIFE).into();
        let key = KeyPair::generate().map_err(&failed)?;
        Ok(Pair {
            certificate: parameters.signed_by(&key, &self.issuer).map_err(&failed)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// Whether a certificate must be made anew: it cannot be read, is not for this identity, is not signed by this authority, or a third of its
/// life is over.
#[must_use]
pub fn is_due(certificate: &str, authority: &str, identity: &str, now: SystemTime) -> bool {
    let Some(due) = with_certificate(certificate, |leaf| {
        let states_identity = leaf
            .subject_alternative_name()
            .ok()
            .flatten()
            .is_some_and(|names| names.value.general_names.contains(&GeneralName::URI(identity)));
        let signed = with_certificate(authority, |authority| leaf.verify_signature(Some(authority.public_key())).is_ok()).unwrap_or(false);
        let begin = leaf.validity().not_before.timestamp();
        let end = leaf.validity().not_after.timestamp();
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        !states_identity || !signed || now - begin >= (end - begin) / 3
    }) else {
        return true;
    };
    due
}

fn with_certificate<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Some(read(&certificate))
}

/// The key that signs tokens, and the set of public keys that members verify with.
///
/// # Errors
/// [`Error::Certificate`]
pub fn signing_key() -> Result<(String, JwkSet), Error> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(failed("the key that signs tokens"))?;
    let x = URL_SAFE_NO_PAD.encode(key.public_key_raw());
    // The key's name is its thumbprint: RFC 7638 on the members that RFC 8037 requires.
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let jwk = Jwk {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        kid: URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes())),
        x,
    };
    Ok((key.serialize_pem(), JwkSet { keys: vec![jwk] }))
}

fn failed(what: &'static str) -> impl Fn(rcgen::Error) -> Error {
    move |error| Error::Certificate {
        what,
        reason: error.to_string(),
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_after_a_third_of_its_life_and_not_before() {
        let now = SystemTime::now();
        let authority = Authority::create("id", now).unwrap();
        let leaf = authority.issue("id", Role::Member, Some("*.prod-peers.storage.svc"), now).unwrap();
        let identity = Role::Member.identity("id");
        let due = |at| is_due(&leaf.certificate, &authority.pair().certificate, &identity, at);
        assert!(!due(now));
        assert!(!due(now + 29 * DAY));
        assert!(due(now + 31 * DAY));
        assert!(is_due(
            &leaf.certificate,
            &authority.pair().certificate,
            "kvfleet://id/operator",
            now
        ));
        assert!(is_due("", &authority.pair().certificate, &identity, now));
    }

    #[test]
    fn a_certificate_of_another_authority_of_the_same_name_is_due() {
        let now = SystemTime::now();
        let (first, second) = (Authority::create("id", now).unwrap(), Authority::create("id", now).unwrap());
        let leaf = first.issue("id", Role::Member, None, now).unwrap();
        let identity = Role::Member.identity("id");
        assert!(is_due(&leaf.certificate, &second.pair().certificate, &identity, now));
    }

    #[test]
    fn an_authority_signs_the_same_after_it_was_stored() {
        let now = SystemTime::now();
        let created = Authority::create("id", now).unwrap();
        let loaded = Authority::load(created.pair().clone()).unwrap();
        let leaf = loaded.issue("id", Role::Operator, None, now).unwrap();
        let identity = Role::Operator.identity("id");
        assert!(!is_due(&leaf.certificate, &created.pair().certificate, &identity, now));
        let other = Authority::create("id", now).unwrap();
        let mixed = Pair {
            certificate: created.pair().certificate.clone(),
            key: other.pair().key.clone(),
        };
        assert!(Authority::load(mixed).is_err());
        assert!(leaf.belongs_together());
        for key in ["x", other.pair().key.as_str()] {
            let spoilt = Pair {
                certificate: leaf.certificate.clone(),
                key: key.to_owned(),
            };
            assert!(!spoilt.belongs_together(), "{key}");
        }
    }
}

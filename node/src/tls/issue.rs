//! Making certificates: for bare processes (`kvnode certs`) and for tests. In: a cluster id, a role, host names. Out: PEM texts.
//! Absent: files and their modes, and the operator's own issuing (it has its own rules for renewal).

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::identity::Identity;
use crate::cluster_id::ClusterId;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A host name is not acceptable in a certificate.
    #[error("`{name}` cannot be a name in a certificate: use a DNS name or an IP address")]
    Name {
        /// The name.
        name: String,
        /// The reason.
        source: rcgen::Error,
    },
    /// The CA's certificate or key cannot be read.
    #[error("the CA cannot be used: give the ca.crt and ca.key that `kvnode certs` made")]
    Authority {
        /// The reason.
        source: rcgen::Error,
    },
    /// Signing or making a key failed.
    #[error("the certificate could not be made")]
    Sign {
        /// The reason.
        source: rcgen::Error,
    },
}

/// A certificate and its key, both as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key: a secret.
    pub key: String,
}

/// A certificate authority that can sign.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

fn sign(source: rcgen::Error) -> IssueError {
    IssueError::Sign { source }
}

impl Authority {
    /// A new CA for a cluster, valid as long as rcgen's default says (it is made anew with the cluster).
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn create(cluster: ClusterId) -> Result<Self, IssueError> {
        let key = KeyPair::generate().map_err(sign)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("kvfleet {cluster} CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(sign)?.pem();
        let pem = key.serialize_pem();
        Ok(Authority {
            certificate,
            key: pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// A CA made before.
    ///
    /// # Errors
    /// [`IssueError::Authority`] when the texts are no certificate and key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IssueError> {
        let unusable = |source| IssueError::Authority { source };
        let pair = KeyPair::from_pem(key).map_err(unusable)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, pair).map_err(unusable)?;
        Ok(Authority {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            issuer,
        })
    }

    /// The CA's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The CA's private key, PEM: whoever holds it can be any member.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A certificate for `identity`, also naming `hosts` (DNS names or addresses) for tools that look at host names.
    ///
    /// # Errors
    /// [`IssueError::Name`] for a host that cannot be named.
    pub fn issue(&self, identity: Identity, hosts: &[String]) -> Result<Issued, IssueError> {
        let mut params = CertificateParams::default();
        for host in hosts {
            let bad = |source| IssueError::Name {
                name: host.clone(),
                source,
            };
            params.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into().map_err(bad)?),
            });
        }
        let uri = identity.to_string();
        let bad = |source| IssueError::Name { name: uri.clone(), source };
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().map_err(bad)?));
        params.distinguished_name = name(&format!("kvfleet {}", identity.role.as_str()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(sign)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(sign)?.pem();
        Ok(Issued {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

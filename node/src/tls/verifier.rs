//! What rustls asks when the other end shows its certificate. In: a chain. Out: yes only if it ends at the cluster's CA and states an
//! identity of this cluster with a role that is taken here; every refusal is logged with who and why. Absent: names of hosts.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::identity::{Identity, IdentityError, Role};
use crate::cluster_id::ClusterId;

/// Why a well-signed certificate is refused.
#[derive(thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the certificate is {found}, and this connection takes {}", wanted(*cluster, roles))]
    Other {
        found: Identity,
        cluster: ClusterId,
        roles: Vec<Role>,
    },
}

/// rustls shows the reason in this form when it says why a handshake failed.
impl fmt::Debug for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

fn wanted(cluster: ClusterId, roles: &[Role]) -> String {
    roles
        .iter()
        .map(|role| Identity { cluster, role: *role }.to_string())
        .collect::<Vec<_>>()
        .join(" or ")
}

/// Checks the identity of a certificate whose chain is known to be good.
fn check(certificate: &CertificateDer<'_>, cluster: ClusterId, roles: &[Role]) -> Result<(), Error> {
    let refused = match Identity::of(certificate) {
        Ok(found) if found.cluster == cluster && roles.contains(&found.role) => return Ok(()),
        Ok(found) => Refused::Other {
            found,
            cluster,
            roles: roles.to_vec(),
        },
        Err(error) => Refused::Identity(error),
    };
    Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused)))))
}

/// A client's view of a member: chain and identity, no host name.
#[derive(Debug)]
pub(super) struct MemberVerifier {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) cluster: ClusterId,
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        check(end_entity, self.cluster, &[Role::Member])?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A port's view of its callers: chain, identity and role.
#[derive(Debug)]
pub(super) struct CallerVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    cluster: ClusterId,
    roles: Vec<Role>,
}

impl CallerVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        cluster: ClusterId,
        roles: &[Role],
    ) -> Result<Self, rustls::server::VerifierBuilderError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
        Ok(CallerVerifier {
            chain,
            cluster,
            roles: roles.to_vec(),
        })
    }
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        check(end_entity, self.cluster, &self.roles)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

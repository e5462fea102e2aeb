//! Mutual TLS with a member: the chain must end at the cluster's CA, and the certificate must state the member's identity as a URI name.
//! Names of hosts take no part.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text cannot be read.
    #[error("{what} is not PEM: {reason}")]
    Pem {
        /// `ca.crt`, `tls.crt` or `tls.key`.
        what: &'static str,
        /// The parser's reason.
        reason: String,
    },
    /// The certificates and the key do not make a usable pair.
    #[error("the certificates cannot be used")]
    Rustls(#[from] RustlsError),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// What stands in the certificate of one who answers in a member's place.
#[derive(Debug, thiserror::Error)]
#[error("the certificate does not name `{wanted}`: this is not a member of the cluster")]
struct NotTheMember {
    wanted: String,
}

/// TLS without any certificate to believe in: every `https` URL is refused. For plain HTTP.
pub(crate) fn trusting_nobody() -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// TLS 1.3 towards a server that states `identity`, with a certificate of our own.
pub(crate) fn client_config(ca: &[u8], certificate: &[u8], key: &[u8], identity: &str) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.crt", ca)? {
        roots.add(certificate)?;
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Pem {
        what: "tls.key",
        reason: error.to_string(),
    })?;
    let verifier = MemberVerifier {
        roots,
        provider: Arc::clone(&provider),
        identity: identity.to_owned(),
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(certificates("tls.crt", certificate)?, key)?)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| TlsError::Pem { what, reason };
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if found.is_empty() {
        Err(bad("it holds no certificate".to_owned()))
    } else {
        Ok(found)
    }
}

#[derive(Debug)]
struct MemberVerifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    identity: String,
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        if states(end_entity, &self.identity) {
            return Ok(ServerCertVerified::assertion());
        }
        let refused = NotTheMember {
            wanted: self.identity.clone(),
        };
        Err(RustlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(
            refused,
        )))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether the certificate's `kvfleet://` names are exactly this one.
fn states(certificate: &CertificateDer<'_>, identity: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with("kvfleet://") => Some(*uri),
        _ => None,
    });
    uris.next() == Some(identity) && uris.next().is_none()
}

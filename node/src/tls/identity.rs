//! The name in a certificate. In: a DER certificate. Out: the cluster and the role that its URI name states, or why it has none.
//! Absent: whether the certificate is to be believed (`verifier`).

use std::{fmt, str::FromStr};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::cluster_id::ClusterId;

const SCHEME: &str = "kvfleet://";

/// What the holder of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member of the cluster: peer port, and reads on the admin port.
    Member,
    /// The cluster's operator: admin port only.
    Operator,
}

impl Role {
    /// The last part of the URI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Operator => "operator",
        }
    }
}

/// Who a certificate was issued to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The role in it.
    pub role: Role,
}

/// Why a certificate gives no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is no X.509 certificate.
    #[error("the certificate cannot be read: {reason}")]
    Unreadable {
        /// The parser's reason.
        reason: String,
    },
    /// It has no `kvfleet://` URI among its names, or more than one.
    #[error("the certificate has {count} names of the form kvfleet://<cluster id>/<role>: it must have exactly one")]
    NotOneName {
        /// How many it has.
        count: usize,
    },
    /// The URI is of another form.
    #[error("the name `{name}` is not of the form kvfleet://<cluster id>/member or kvfleet://<cluster id>/operator")]
    BadName {
        /// The name.
        name: String,
    },
}

impl Identity {
    /// The identity that a certificate states.
    ///
    /// # Errors
    /// [`IdentityError`] when it states none, or more than one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let unreadable = |reason: String| IdentityError::Unreadable { reason };
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| unreadable(error.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| unreadable(error.to_string()))?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|names| names.value.general_names.iter())
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris.as_slice() {
            [uri] => uri.parse(),
            other => Err(IdentityError::NotOneName { count: other.len() }),
        }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(name: &str) -> Result<Self, IdentityError> {
        let bad = || IdentityError::BadName { name: name.to_owned() };
        let (cluster, role) = name.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or_else(bad)?;
        let role = match role {
            "member" => Role::Member,
            "operator" => Role::Operator,
            _ => return Err(bad()),
        };
        Ok(Identity {
            cluster: cluster.parse().map_err(|_| bad())?,
            role,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{SCHEME}{}/{}", self.cluster, self.role.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_forms_are_names() {
        let name = "kvfleet://7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f11/member";
        let identity: Identity = name.parse().unwrap();
        assert_eq!(identity.role, Role::Member);
        assert_eq!(identity.to_string(), name);
        for bad in [
            "kvfleet://7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f11/root",
            "kvfleet://x/member",
            "spiffe://7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f11/member",
            "kvfleet://7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f11",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}

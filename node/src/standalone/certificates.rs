//! `kvnode certs`: everything that a cluster without Kubernetes needs before its first start, in one directory.
//!
//! ```text
//! ca.crt ca.key               the certificate authority; ca.key need not be on any member
//! tls.crt tls.key             identity kvfleet://<clusterId>/member: peer and admin ports
//! operator.crt operator.key   identity kvfleet://<clusterId>/operator: who may write on the admin port
//! jwt.pem jwks.json           the key that signs tokens, and its public half
//! ```

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::signing::{SigningKey, SigningKeyError};
use crate::{
    cluster_id::ClusterId,
    tls::{
        Identity, Role,
        issue::{Authority, IssueError},
    },
};

/// Why the files could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A file is there already.
    #[error("{} is there already, and is not replaced: a new one would shut out every member that has the old one; choose another --out", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The token key could not be made.
    #[error("the signing key {0}")]
    Key(SigningKeyError),
}

/// Writes the files; none of them may be there.
///
/// # Errors
/// When a file exists or cannot be written, or a host is no name for a certificate.
pub fn write(out: &Path, cluster: ClusterId, hosts: &[String]) -> Result<(), CertificatesError> {
    let authority = Authority::create(cluster)?;
    let member = authority.issue(
        Identity {
            cluster,
            role: Role::Member,
        },
        hosts,
    )?;
    let operator = authority.issue(
        Identity {
            cluster,
            role: Role::Operator,
        },
        &[],
    )?;
    let pem = SigningKey::generate().map_err(CertificatesError::Key)?;
    let keys = SigningKey::from_pem(&pem).map_err(CertificatesError::Key)?.jwk_set();
    let keys = serde_json::to_string_pretty(&keys).expect("text serialises");
    let files = [
        ("ca.crt", Secrecy::Public, authority.certificate()),
        ("ca.key", Secrecy::Private, authority.key()),
        ("tls.crt", Secrecy::Public, &member.certificate),
        ("tls.key", Secrecy::Private, &member.key),
        ("operator.crt", Secrecy::Public, &operator.certificate),
        ("operator.key", Secrecy::Private, &operator.key),
        ("jwt.pem", Secrecy::Private, &pem),
        ("jwks.json", Secrecy::Public, &keys),
    ];
    fs::create_dir_all(out).map_err(|source| CertificatesError::Write {
        path: out.to_owned(),
        source,
    })?;
    // Looked at before the first is written: a directory that holds half of two sets helps nobody.
    if let Some(path) = files.iter().map(|(name, ..)| out.join(name)).find(|path| path.exists()) {
        return Err(CertificatesError::Exists { path });
    }
    for (name, secrecy, content) in files {
        let path = out.join(name);
        create(&path, secrecy, content).map_err(|source| CertificatesError::Write { path, source })?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Secrecy {
    Public,
    Private,
}

fn create(path: &Path, secrecy: Secrecy, content: &str) -> std::io::Result<()> {
    let mode = match secrecy {
        Secrecy::Public => 0o644,
        Secrecy::Private => 0o600,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content.as_bytes())
}

/// The certificates of a member alone, beside its data: made at the first start, kept from then on.
///
/// # Errors
/// As [`write`].
pub(crate) fn beside_data(data_dir: &Path, cluster: ClusterId) -> Result<PathBuf, CertificatesError> {
    let directory = data_dir.join("certs");
    if directory.exists() {
        return Ok(directory);
    }
    let unfinished = data_dir.join("certs.tmp");
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificatesError::Write { path, source }
    };
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(fail(&unfinished))?;
    }
    write(&unfinished, cluster, &["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    fs::rename(&unfinished, &directory).map_err(fail(&directory))?;
    Ok(directory)
}

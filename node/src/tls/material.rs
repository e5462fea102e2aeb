//! The files of a TLS directory as rustls configurations. In: the directory, looked at for every new connection. Out: configurations made
//! of the newest files that fit together. Absent: watching (a connection is rare, and looking at three files costs microseconds).

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::NoServerSessionStorage,
    version::TLS13,
};

use super::{
    identity::Role,
    verifier::{CallerVerifier, MemberVerifier},
};
use crate::cluster_id::ClusterId;

const AUTHORITY: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Why the files of a TLS directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or not readable.
    #[error("cannot read {}: put ca.crt, tls.crt and tls.key there (`kvnode certs` makes them)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file holds no PEM of the kind that it should.
    #[error("{} holds no usable {wanted} in PEM form", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// The parser's reason.
        source: rustls::pki_types::pem::Error,
    },
    /// The three files do not fit together.
    #[error("the certificates in {} cannot be used: tls.key must be the key of tls.crt", directory.display())]
    Mismatch {
        /// The directory.
        directory: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The CA file gives no trust anchor.
    #[error("the CA in {} cannot be used", directory.display())]
    Authority {
        /// The directory.
        directory: PathBuf,
        /// What rustls says.
        source: rustls::server::VerifierBuilderError,
    },
}

/// The TLS files of one process, on disk. A cheap handle.
#[derive(Clone, Debug)]
pub struct TlsDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    cluster: ClusterId,
    current: Mutex<(Stamp, Configurations)>,
}

/// Tells whether files changed: time of modification and length of each.
type Stamp = [Option<(SystemTime, u64)>; 3];

#[derive(Clone, Debug)]
struct Configurations {
    client: Arc<ClientConfig>,
    peer: Arc<ServerConfig>,
    admin: Arc<ServerConfig>,
}

impl TlsDirectory {
    /// Reads the files of `directory`; they must be of `cluster`.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what it should hold.
    pub fn open(directory: &Path, cluster: ClusterId) -> Result<Self, TlsError> {
        let stamp = stamp(directory);
        let current = Mutex::new((stamp, Configurations::read(directory, cluster)?));
        Ok(TlsDirectory {
            inner: Arc::new(Inner {
                directory: directory.to_owned(),
                cluster,
                current,
            }),
        })
    }

    /// For a connection to a member's peer or admin port.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.newest().client
    }

    /// For the peer port: callers with the identity `/member`.
    pub fn peer_port(&self) -> Arc<ServerConfig> {
        self.newest().peer
    }

    /// For the admin port: callers with the identity `/operator` or `/member`; [`Identity::of`](super::Identity::of) on the first
    /// certificate of the connection tells which.
    pub fn admin_port(&self) -> Arc<ServerConfig> {
        self.newest().admin
    }

    fn newest(&self) -> Configurations {
        let Inner {
            directory,
            cluster,
            current,
        } = &*self.inner;
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamp(directory);
        if found != current.0 {
            match Configurations::read(directory, *cluster) {
                Ok(configurations) => {
                    tracing::info!(directory = %directory.display(), "the TLS files have changed; new connections use the new ones");
                    *current = (found, configurations);
                }
                // Files are replaced one by one; half a replacement is met now and then and is gone at the next look.
                Err(error) => {
                    tracing::warn!(directory = %directory.display(), %error, "the TLS files have changed and cannot be used; the old ones stay in use")
                }
            }
        }
        current.1.clone()
    }
}

fn stamp(directory: &Path) -> Stamp {
    [AUTHORITY, CERTIFICATE, KEY].map(|name| {
        let metadata = fs::metadata(directory.join(name)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

impl Configurations {
    fn read(directory: &Path, cluster: ClusterId) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&directory.join(AUTHORITY))? {
            roots.add(authority).map_err(|source| TlsError::Mismatch {
                directory: directory.to_owned(),
                source,
            })?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&directory.join(CERTIFICATE))?;
        let key_path = directory.join(KEY);
        let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?).map_err(|source| TlsError::Pem {
            path: key_path,
            wanted: "private key",
            source,
        })?;

        let provider = Arc::new(ring::default_provider());
        let mismatch = |source| TlsError::Mismatch {
            directory: directory.to_owned(),
            source,
        };
        let verifier = MemberVerifier {
            roots: Arc::clone(&roots),
            provider: Arc::clone(&provider),
            cluster,
        };
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(mismatch)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        // A resumed session would skip the look at the certificates.
        client.resumption = Resumption::disabled();

        let port = |roles: &[Role]| -> Result<Arc<ServerConfig>, TlsError> {
            let callers =
                CallerVerifier::new(Arc::clone(&roots), Arc::clone(&provider), cluster, roles).map_err(|source| TlsError::Authority {
                    directory: directory.to_owned(),
                    source,
                })?;
            let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&TLS13])
                .map_err(mismatch)?
                .with_client_cert_verifier(Arc::new(callers))
                .with_single_cert(chain.clone(), key.clone_key())
                .map_err(mismatch)?;
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
            Ok(Arc::new(server))
        };
        Ok(Configurations {
            client: Arc::new(client),
            peer: port(&[Role::Member])?,
            admin: port(&[Role::Operator, Role::Member])?,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |source| TlsError::Pem {
        path: path.to_owned(),
        wanted: "certificate",
        source,
    };
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(error)?;
    if found.is_empty() {
        return Err(error(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

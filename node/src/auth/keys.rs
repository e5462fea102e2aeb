//! The public keys that tokens are verified with: a JWK set on disk. In: its path. Out: keys by name. Absent: private keys.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kvfleet_api::token::JwkSet;
use ring::signature::{ED25519, UnparsedPublicKey};

/// Why a JWK set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the token keys at {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is no JWK set.
    #[error("{} is no JWK set (RFC 7517); `kvnode certs` makes one", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// A key of the set is none that we can use.
    #[error("key `{kid}` in {} must have kty OKP, crv Ed25519 and 32 bytes of x in base64url", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        kid: String,
    },
    /// The set is empty: no token could be accepted.
    #[error("{} holds no key; `kvnode certs` makes one", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Tells whether the file changed: time of modification and length.
pub(super) type Stamp = Option<(SystemTime, u64)>;

/// Two system calls on a file that is nearly always in memory; it does not need a thread of its own.
pub(super) fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Public keys by name.
pub(super) struct KeySet(Vec<(String, UnparsedPublicKey<Vec<u8>>)>);

impl KeySet {
    pub(super) fn read(path: &Path) -> Result<Self, KeysError> {
        let text = fs::read(path).map_err(|source| KeysError::Read {
            path: path.to_owned(),
            source,
        })?;
        let set: JwkSet = serde_json::from_slice(&text).map_err(|source| KeysError::Parse {
            path: path.to_owned(),
            source,
        })?;
        let mut keys = Vec::with_capacity(set.keys.len());
        for key in set.keys {
            match URL_SAFE_NO_PAD.decode(&key.x) {
                Ok(x) if x.len() == 32 && key.kty == "OKP" && key.crv == "Ed25519" => {
                    keys.push((key.kid, UnparsedPublicKey::new(&ED25519, x)));
                }
                _ => {
                    return Err(KeysError::Key {
                        path: path.to_owned(),
                        kid: key.kid,
                    });
                }
            }
        }
        if keys.is_empty() {
            return Err(KeysError::Empty { path: path.to_owned() });
        }
        Ok(KeySet(keys))
    }

    pub(super) fn get(&self, kid: &str) -> Option<&UnparsedPublicKey<Vec<u8>>> {
        self.0.iter().find(|(name, _)| name == kid).map(|(_, key)| key)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

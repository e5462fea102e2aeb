//! `kvnode join-token`: lets one new process into a group, once. In: the key that signs the cluster's tokens. Out: a token with a
//! number of its own. Absent: any record of it; the group keeps one of the tokens that it has been shown.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kvfleet_api::token::{JOIN_AUDIENCE, JoinClaims};
use ring::rand::{SecureRandom, SystemRandom};

use super::signing::{SigningKey, SigningKeyError};
use crate::cluster_id::ClusterId;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum JoinTokenError {
    /// The key cannot be read.
    #[error("--signing-key: {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key is none.
    #[error("--signing-key: {} {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SigningKeyError,
    },
    /// The system gave no random number.
    #[error("the operating system gave no randomness for the token")]
    NoRandomness,
}

/// A token for one new member, good for so long.
///
/// # Errors
/// [`JoinTokenError`].
pub fn make(signing_key: &Path, cluster: ClusterId, valid_for: Duration) -> Result<String, JoinTokenError> {
    let path = || signing_key.to_owned();
    let text = std::fs::read_to_string(signing_key).map_err(|source| JoinTokenError::Read { path: path(), source })?;
    let key = SigningKey::from_pem(&text).map_err(|source| JoinTokenError::Key { path: path(), source })?;
    let mut number = [0; 8];
    SystemRandom::new().fill(&mut number).map_err(|_| JoinTokenError::NoRandomness)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(key.join_token(&JoinClaims {
        iss: cluster.to_string(),
        aud: JOIN_AUDIENCE.to_owned(),
        jti: u64::from_be_bytes(number),
        iat: now,
        exp: now.saturating_add(valid_for.as_secs()),
    }))
}

//! Who calls the data port.
//!
//! In: the `Authorization` header of a request, and a JWK set on disk. Out: the [`Claims`] of a token that this cluster's key signed.
//! Absent by design: whether those claims still open a tenant. That depends on the replicated configuration of the moment (a tenant may
//! be suspended, its credentials renewed), so `app` decides it anew for every request; what is kept here is only that a signature is good.

mod cache;
mod jwt;
mod keys;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
pub(crate) mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, header};
pub use keys::KeysError;
use kvfleet_api::token::{Claims, JoinClaims};

use self::{cache::Cache, keys::KeySet};
use crate::cluster_id::ClusterId;

/// How often the file of keys is looked at. A new key is trusted, and an old one refused, within this time.
const LOOK: Duration = Duration::from_secs(1);

/// The longest token that is looked at: ours have under 400 bytes.
const LONGEST: usize = 4 << 10;

/// Why a request has no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no token.
    #[error("send the tenant's token as `Authorization: Bearer <token>`")]
    Missing,
    /// It is none that this cluster signed.
    #[error("the token is not accepted: {0}")]
    Invalid(&'static str),
    /// Its time is over.
    #[error("the token has expired; get a new one")]
    Expired,
}

/// Checks tokens. A cheap handle.
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<Inner>,
}

struct Inner {
    /// What `iss` must say.
    cluster: String,
    path: PathBuf,
    trusted: ArcSwap<Trusted>,
}

/// The keys, with the tokens that were found good under them: new keys begin with an empty cache.
struct Trusted {
    keys: KeySet,
    verified: Cache,
}

impl Authenticator {
    /// Trusts the keys of the JWK set at `path` for `cluster`, and reads the file again whenever it changes. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`KeysError`], when the file cannot be used now. One that becomes unusable later is logged, and the last good one stays in use.
    pub fn open(path: &Path, cluster: ClusterId) -> Result<Self, KeysError> {
        let (stamp, keys) = (keys::stamp(path), KeySet::read(path)?);
        let inner = Arc::new(Inner {
            cluster: cluster.to_string(),
            path: path.to_owned(),
            trusted: ArcSwap::from_pointee(Trusted {
                keys,
                verified: Cache::default(),
            }),
        });
        tokio::spawn(follow(Arc::downgrade(&inner), stamp));
        Ok(Authenticator { inner })
    }

    /// The cluster whose tokens are accepted.
    pub fn cluster(&self) -> &str {
        &self.inner.cluster
    }

    /// The claims of the request's token.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Claims>, Rejection> {
        let token = bearer(headers)?;
        if token.len() > LONGEST {
            return Err(Rejection::Invalid("it is too long to be one of ours"));
        }
        let trusted = self.inner.trusted.load();
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let claims = match trusted.verified.get(digest.as_ref()) {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(jwt::verify(token, &trusted.keys, &self.inner.cluster).map_err(Rejection::Invalid)?);
                trusted.verified.put(digest.as_ref(), Arc::clone(&claims));
                claims
            }
        };
        match claims.exp {
            Some(end) if end <= unix_seconds() => Err(Rejection::Expired),
            _ => Ok(claims),
        }
    }
}

impl Authenticator {
    /// What this join token says, if it is good now.
    ///
    /// # Errors
    /// Why it lets nobody in, for a person.
    pub fn join_grant(&self, token: &str) -> Result<JoinClaims, String> {
        let trusted = self.inner.trusted.load();
        let claims = jwt::verify_join(token, &trusted.keys, &self.inner.cluster).map_err(|reason| {
            format!("the join token is foreign: {reason}; make one with `kvnode join-token` and this cluster's signing key")
        })?;
        if claims.exp <= unix_seconds() {
            return Err(format!(
                "the join token has expired, at Unix second {}; make a new one with `kvnode join-token`",
                claims.exp
            ));
        }
        Ok(claims)
    }
}

/// The token of the request's only `Authorization` header. The scheme's case does not matter (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Rejection::Missing)?;
    if values.next().is_some() {
        return Err(Rejection::Invalid("there is more than one Authorization header"));
    }
    let value = value.to_str().map_err(|_| Rejection::Invalid("the header is no ASCII text"))?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let token = token.trim();
    match (scheme.eq_ignore_ascii_case("bearer"), token.is_empty()) {
        (true, false) => Ok(token),
        (true, true) => Err(Rejection::Missing),
        (false, _) => Err(Rejection::Invalid("the scheme must be Bearer")),
    }
}

fn unix_seconds() -> u64 {
    // A clock before 1970 expires nothing.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// Reads the file again when it changes, for as long as somebody uses it.
async fn follow(inner: Weak<Inner>, mut known: keys::Stamp) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let found = keys::stamp(&inner.path);
        if found == known {
            continue;
        }
        known = found;
        match KeySet::read(&inner.path) {
            Ok(keys) => {
                tracing::info!(path = %inner.path.display(), keys = keys.len(), "the token keys have changed; the new ones are in use");
                inner.trusted.store(Arc::new(Trusted {
                    keys,
                    verified: Cache::default(),
                }));
            }
            Err(error) => tracing::error!(%error, "the token keys have changed and cannot be used; the old ones stay in use"),
        }
    }
}

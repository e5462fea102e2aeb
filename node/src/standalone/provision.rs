//! Puts the tenants of `--tenants` in force and writes their tokens: what the operator does for Tenant resources.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use kvfleet_api::{tenant::TenantStatus, token::Claims};

use super::{signing::SigningKey, tenants::Wanted};
use crate::{
    cluster_id::ClusterId,
    raft::{Group, ProposeError},
    state::{Command, Response},
};

/// How long one attempt may take; a group without a leader is asked again.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Why a tenant is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The group refused it.
    #[error("tenant `{name}`: the cluster refused its configuration: {reason}")]
    Refused {
        /// The tenant.
        name: String,
        /// What it answered.
        reason: String,
    },
    /// The member is closing down or has failed.
    #[error("tenant `{name}`: this member cannot propose it any more: {source}")]
    Stopped {
        /// The tenant.
        name: String,
        /// Why.
        #[source]
        source: ProposeError,
    },
    /// The token could not be written.
    #[error("tenant `{name}`: cannot write {}", path.display())]
    Token {
        /// The tenant.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Proposes this tenant until the group has answered; a configuration that is in force already changes nothing.
///
/// # Errors
/// When the group refuses it, or this member ends.
pub async fn put(group: &Group, wanted: &Wanted) -> Result<TenantStatus, ProvisionError> {
    let Wanted { name, config } = wanted;
    loop {
        let command = Command::PutTenant {
            name: name.clone(),
            config: config.clone(),
        };
        match group.propose(command, tokio::time::Instant::now() + ATTEMPT).await {
            Ok(Response::Tenant(status)) => return Ok(*status),
            Ok(other) => {
                return Err(ProvisionError::Refused {
                    name: name.clone(),
                    reason: format!("{other:?}"),
                });
            }
            // Repeating is safe: the same configuration a second time is no change. `propose` itself has waited for a leader.
            Err(error @ (ProposeError::NoLeader { .. } | ProposeError::Deadline { .. })) => {
                tracing::info!(tenant = name, %error, "the tenant's configuration has not been accepted yet; trying again");
                // A proposal that a closing group refuses at once would otherwise spin here.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(source) => {
                return Err(ProvisionError::Stopped {
                    name: name.clone(),
                    source,
                });
            }
        }
    }
}

/// The token of a tenant in force, for reading and writing.
pub fn token(key: &SigningKey, cluster: ClusterId, status: &TenantStatus) -> String {
    key.token(&Claims {
        iss: cluster.to_string(),
        sub: status.name.clone(),
        tid: status.id,
        scope: "read write".to_owned(),
        r#gen: status.config.credential_generation,
        iat: status.credential_issued_at,
        exp: None,
    })
}

/// Writes `<tenant>.token` whole or not at all, readable by the owner only.
///
/// # Errors
/// When the file system refuses.
pub fn write_token(directory: &Path, name: &str, token: &str) -> Result<PathBuf, ProvisionError> {
    let path = directory.join(format!("{name}.token"));
    let temporary = directory.join(format!(".{name}.token.{}.tmp", std::process::id()));
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        writeln!(file, "{token}")?;
        fs::rename(&temporary, &path)
    };
    match write() {
        Ok(()) => Ok(path),
        Err(source) => Err(ProvisionError::Token {
            name: name.to_owned(),
            path,
            source,
        }),
    }
}

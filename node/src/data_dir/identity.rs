//! `identity.json`: which cluster, which shard, which member. A member id is made with the directory and never used again.

use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::{durable, error::DataDirError};
use crate::cluster_id::ClusterId;

/// The format of the data directory that this program writes.
pub const FORMAT: u32 = 1;

/// Who the member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The format of the directory.
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: u32,
    /// The member's id, not zero.
    pub member: u64,
    /// The member whose place this one takes; none once it votes, and for a member that never replaced another.
    pub replaces: Option<u64>,
}

/// The file. Unknown members are ignored: an older program may meet them in a format that it knows.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityFile {
    format: u32,
    cluster_id: String,
    shard: u32,
    #[serde(with = "kvfleet_api::admin::id_string")]
    member_id: u64,
    /// As text, as every member id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    /// Over the fields above: a flipped digit is another number, and JSON all the same. Files of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
}

impl IdentityFile {
    fn expected_checksum(&self) -> String {
        let IdentityFile {
            format,
            cluster_id,
            shard,
            member_id,
            replaces,
            checksum: _,
        } = self;
        let replaces = replaces.as_deref().unwrap_or_default();
        let text = format!("{format}/{cluster_id}/{shard}/{member_id}/{replaces}");
        format!("{:08x}", crc32c::crc32c(text.as_bytes()))
    }
}

/// Read first and alone, so that a newer file is told from a damaged one.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Identity {
    /// The identity in this directory, if there is one.
    pub(super) fn read(directory: &Path) -> Result<Option<Identity>, DataDirError> {
        let Some(text) = durable::read_file(&directory.join("identity.json"))? else {
            return Ok(None);
        };
        let damaged = |problem: String| DataDirError::BadIdentity {
            path: directory.to_owned(),
            problem,
        };
        let FormatOnly { format } = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if format > FORMAT {
            return Err(DataDirError::NewerFormat {
                path: directory.to_owned(),
                found: format,
                known: FORMAT,
            });
        }
        let file: IdentityFile = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if file.checksum.as_ref().is_some_and(|found| *found != file.expected_checksum()) {
            return Err(damaged("its checksum does not fit".to_owned()));
        }
        let cluster = file
            .cluster_id
            .parse()
            .map_err(|_| damaged(format!("clusterId `{}` is no UUID", file.cluster_id)))?;
        if file.member_id == 0 {
            return Err(damaged("memberId is 0".to_owned()));
        }
        let replaces = match file.replaces.as_deref().map(str::parse) {
            Some(Ok(member)) => Some(member),
            Some(Err(_)) => return Err(damaged("replaces is no member id".to_owned())),
            None => None,
        };
        Ok(Some(Identity {
            format: file.format,
            cluster,
            shard: file.shard,
            member: file.member_id,
            replaces,
        }))
    }

    /// This identity, if the configuration means the same cluster and shard.
    pub(super) fn accept(self, directory: &Path, cluster: Option<ClusterId>, shard: u32) -> Result<Identity, DataDirError> {
        let path = directory.to_owned();
        match cluster {
            Some(configured) if configured != self.cluster => Err(DataDirError::ForeignCluster {
                path,
                found: self.cluster,
                configured,
            }),
            _ if shard != self.shard => Err(DataDirError::ForeignShard {
                path,
                found: self.shard,
                configured: shard,
            }),
            _ => Ok(self),
        }
    }

    /// Makes a new member.
    pub(super) fn create(directory: &Path, cluster: Option<ClusterId>, shard: u32) -> Result<Identity, DataDirError> {
        let cluster = match cluster {
            Some(cluster) => cluster,
            None => new_cluster_id().map_err(|_| DataDirError::NoRandomness {
                path: directory.to_owned(),
            })?,
        };
        let identity = Identity {
            format: FORMAT,
            cluster,
            shard,
            member: Self::new_member(directory)?,
            replaces: None,
        };
        identity.write(directory)?;
        Ok(identity)
    }

    /// A member id that nobody has.
    pub(super) fn new_member(directory: &Path) -> Result<u64, DataDirError> {
        let mut bytes = [0; 8];
        SystemRandom::new().fill(&mut bytes).map_err(|_| DataDirError::NoRandomness {
            path: directory.to_owned(),
        })?;
        // Zero stands for "nobody" in places; one in 2^64 directories gets 1 instead.
        Ok(u64::from_be_bytes(bytes).max(1))
    }

    /// Puts the identity in place.
    pub(super) fn write(&self, directory: &Path) -> Result<(), DataDirError> {
        let mut file = IdentityFile {
            format: FORMAT,
            cluster_id: self.cluster.to_string(),
            shard: self.shard,
            member_id: self.member,
            replaces: self.replaces.map(|member| member.to_string()),
            checksum: None,
        };
        file.checksum = Some(file.expected_checksum());
        let text = serde_json::to_string_pretty(&file).expect("numbers and text serialise");
        durable::write_file(&directory.join("identity.json"), text.as_bytes())
    }
}

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct NoRandomness;

/// A random cluster id (UUID version 4, RFC 9562).
///
/// # Errors
/// [`NoRandomness`].
pub fn new_cluster_id() -> Result<ClusterId, NoRandomness> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) | (0x4 << 76);
    let number = number & !(0b11 << 62) | (0b10 << 62);
    Ok(ClusterId::from_bytes(number.to_be_bytes()))
}

//! Putting a member's data aside: what it holds is renamed into `damaged-<seconds>/` or `removed-<seconds>/`, and the directory becomes a new
//! member's. In: the permission of a leader, which the caller holds. Out: a blank directory with a new id. Absent: the decision.
//!
//! `aside.json` is written first and removed last; a start that finds it finishes what was begun. So a crash leaves the old member whole,
//! or the new one, and never parts of both under one identity.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{
    Lock, durable,
    error::DataDirError,
    identity::{FORMAT, Identity},
};
use crate::cluster_id::ClusterId;

/// What makes up a member. `identity.json` last: as long as it is there, the rest is still known to be somebody's.
const PARTS: [&str; 5] = ["quarantine.json", "members.json", "raft", "sm", "identity.json"];

/// Why a member's data is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It cannot be vouched for.
    Damaged,
    /// The member has left its group.
    Removed,
}

impl Cause {
    const fn prefix(self) -> &'static str {
        match self {
            Cause::Damaged => "damaged-",
            Cause::Removed => "removed-",
        }
    }
}

/// Who the directory becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Successor {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: u32,
    /// The member whose place the new one asks for; none to wait, blank, until somebody takes it in.
    pub replaces: Option<u64>,
}

/// What is under way.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Aside {
    into: String,
    cluster_id: String,
    shard: u32,
    #[serde(with = "kvfleet_api::admin::id_string")]
    member_id: u64,
    /// As text, as every member id.
    replaces: Option<String>,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("aside.json")
}

/// Puts the data of the locked directory aside and makes it a new member's. Blocking.
///
/// # Errors
/// When the directory cannot be written, or there is no randomness for an id.
pub fn put_aside(lock: &Lock, cause: Cause, successor: Successor) -> Result<Identity, DataDirError> {
    let directory = lock.directory();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let Successor { cluster, shard, replaces } = successor;
    let aside = Aside {
        into: format!("{}{seconds}", cause.prefix()),
        cluster_id: cluster.to_string(),
        shard,
        member_id: Identity::new_member(directory)?,
        replaces: replaces.map(|member| member.to_string()),
    };
    let text = serde_json::to_string_pretty(&aside).expect("numbers and text serialise");
    durable::write_file(&path(directory), text.as_bytes())?;
    finish(directory, &aside)
}

/// Finishes what a crash has interrupted. Blocking.
pub(super) fn resume(directory: &Path) -> Result<(), DataDirError> {
    let bytes = match fs::read(path(directory)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io("read", &path(directory))(source)),
    };
    let aside: Aside = serde_json::from_slice(&bytes).map_err(|error| DataDirError::BadAside {
        path: directory.to_owned(),
        problem: error.to_string(),
    })?;
    finish(directory, &aside).map(drop)
}

fn finish(directory: &Path, aside: &Aside) -> Result<Identity, DataDirError> {
    let bad = |problem: String| DataDirError::BadAside {
        path: directory.to_owned(),
        problem,
    };
    let known = |name: &str| {
        [Cause::Damaged, Cause::Removed]
            .into_iter()
            .any(|cause| name.starts_with(cause.prefix()))
    };
    if !known(&aside.into) || aside.into.contains('/') {
        return Err(bad(format!("`into` is `{}`", aside.into)));
    }
    let identity = Identity {
        format: FORMAT,
        cluster: aside.cluster_id.parse().map_err(|_| bad("`clusterId` is no UUID".to_owned()))?,
        shard: aside.shard,
        member: aside.member_id,
        replaces: match aside.replaces.as_deref().map(str::parse) {
            Some(Ok(member)) => Some(member),
            Some(Err(_)) => return Err(bad("`replaces` is no member id".to_owned())),
            None => None,
        },
    };
    // Once the new identity stands, everything under its name is the new member's.
    if Identity::read(directory).ok().flatten() != Some(identity) {
        let target = directory.join(&aside.into);
        durable::create_directory(&target)?;
        for part in PARTS {
            match fs::rename(directory.join(part), target.join(part)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(io("rename", &directory.join(part))(source)),
            }
        }
        durable::flush_directory(&target)?;
        durable::flush_directory(directory)?;
        identity.write(directory)?;
    }
    fs::remove_file(path(directory)).map_err(io("remove", &path(directory)))?;
    durable::flush_directory(directory)?;
    remove_older(directory, &aside.into);
    Ok(identity)
}

/// Only the newest is kept: each may be as large as the data. One that cannot be removed is left for a person.
fn remove_older(directory: &Path, newest: &str) {
    let Ok(names) = fs::read_dir(directory) else { return };
    for name in names.flatten().filter_map(|item| item.file_name().into_string().ok()) {
        let prefixed = name.strip_prefix("damaged-").or_else(|| name.strip_prefix("removed-"));
        let ours = prefixed.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
        if ours
            && name != newest
            && let Err(error) = fs::remove_dir_all(directory.join(&name))
        {
            tracing::warn!(name, %error, "data that was put aside earlier cannot be removed");
        }
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { action, path, source }
}

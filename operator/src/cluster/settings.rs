//! What travels through the log: the settings that are in force without a restart.
//!
//! In: the wanted [`Settings`] and the members' reports. Out: whether every member has them. Absent: what they do.

use kvfleet_api::admin::{MemberReport, Role, Settings};

use super::{Memory, fetch::Observed, status::primary, validate::Validated};
use crate::error::Error;

/// Puts the settings where they differ.
///
/// # Errors
/// [`Error::Waits`] while not every member has them; [`Error::Member`].
pub async fn ensure(validated: &Validated, observed: &Observed, memory: &mut Memory) -> Result<(), Error> {
    let wanted = &validated.settings;
    let revision = match &memory.settings {
        Some((known, revision)) if same(known, wanted) => *revision,
        _ => put(validated, observed, memory).await?,
    };
    let behind = observed.members.iter().filter(|member| {
        let report = member.report.as_ref();
        // A learner answers nobody, and who is blank has nothing.
        let serves = |report: &&MemberReport| matches!(report.role, Some(Role::Primary | Role::Follower));
        report.filter(serves).is_some_and(|report| report.applied_revision < revision)
    });
    let behind: Vec<&str> = behind.map(|member| member.pod.as_str()).collect();
    if behind.is_empty() {
        return Ok(());
    }
    Err(Error::Waits(format!(
        "the settings of this generation are not in force on {} yet",
        behind.join(", ")
    )))
}

/// Whether the members have them, without putting any: a pause lets nothing through.
///
/// # Errors
/// [`Error::Waits`] when they have others, or cannot be asked; [`Error::Member`].
pub async fn compare(validated: &Validated, observed: &Observed, memory: &Memory) -> Result<(), Error> {
    let wanted = &validated.settings;
    if memory.settings.as_ref().is_some_and(|(known, _)| same(known, wanted)) {
        return Ok(());
    }
    let address = primary(observed).and_then(|(member, _)| member.seen.as_ref()?.address);
    let (Some(admin), Some(address)) = (&observed.admin, address) else {
        return Err(Error::Waits("the settings cannot be compared without a primary".to_owned()));
    };
    let stored = admin.settings(address).await.map_err(Error::member("read the settings"))?;
    match same(&stored.settings, wanted) {
        true => Ok(()),
        false => Err(Error::Waits("the members have the settings of an earlier spec".to_owned())),
    }
}

async fn put(validated: &Validated, observed: &Observed, memory: &mut Memory) -> Result<u64, Error> {
    let address = primary(observed).and_then(|(member, _)| member.seen.as_ref()?.address);
    let (Some(admin), Some(address)) = (&observed.admin, address) else {
        return Err(Error::Waits("the settings wait for a primary".to_owned()));
    };
    let stored = admin.settings(address).await.map_err(Error::member("read the settings"))?;
    let mut wanted = validated.settings.clone();
    let status = if same(&stored.settings, &wanted) {
        stored
    } else {
        // A KvCluster that was deleted and made again begins at generation 1, below what its data remembers.
        wanted.generation = wanted.generation.max(stored.settings.generation);
        admin
            .put_settings(address, &wanted)
            .await
            .map_err(Error::member("put the settings"))?
    };
    memory.settings = Some((validated.settings.clone(), status.revision));
    Ok(status.revision)
}

/// Whether both say the same, whichever generation they are of.
fn same(one: &Settings, other: &Settings) -> bool {
    let Settings {
        generation: _,
        log_level,
        sweep_interval_ms,
        scan_items,
        scan_bytes,
        request_timeout_ms,
        max_request_timeout_ms,
        hold_level,
    } = one;
    *log_level == other.log_level
        && *sweep_interval_ms == other.sweep_interval_ms
        && *scan_items == other.scan_items
        && *scan_bytes == other.scan_bytes
        && *request_timeout_ms == other.request_timeout_ms
        && *max_request_timeout_ms == other.max_request_timeout_ms
        && *hold_level == other.hold_level
}

//! The volume claims of a cluster: which are its own, what they say of it, and which of other owners stand in its way.
//!
//! In: the metadata of claims, and the status. Out: the cluster's id, the claims whose group was formed, why the cluster must not grow.
//! A claim is this cluster's only by its exact name: copies that people, backup tools and CSI drivers make keep the labels, and belong to
//! whoever made them. Absent: reads and writes.

use kube::ResourceExt;
use kvfleet_crds::{
    cluster::Formation,
    conditions::Reason,
    names::{ANNOTATION_FORMED, ClusterNames, LABEL_CLUSTER_ID},
};

use super::{
    fetch::{Claim, MOST_PODS, Observed},
    formation::shard,
    plan::FormedClaim,
    validate::{self, SHARD},
};
use crate::error::Error;

/// The number of the pod that mounts the claim of this name; none for a claim that no pod of the cluster can ever mount.
#[must_use]
pub fn ordinal(names: &ClusterNames, claim: &str) -> Option<u32> {
    (0..MOST_PODS).find(|ordinal| names.claim(SHARD, *ordinal) == claim)
}

/// Those that pods of the cluster mount, or would.
#[must_use]
pub fn named(names: &ClusterNames, claims: Vec<Claim>) -> Vec<Claim> {
    let is_named = |claim: &Claim| ordinal(names, &claim.name_any()).is_some();
    claims.into_iter().filter(is_named).collect()
}

/// The cluster whose data the claim holds.
#[must_use]
pub fn cluster_of(claim: &Claim) -> Option<&str> {
    claim.labels().get(LABEL_CLUSTER_ID).map(String::as_str)
}

/// Whether the claim says that its group was formed.
#[must_use]
pub fn is_formed(claim: &Claim) -> bool {
    claim.annotations().contains_key(ANNOTATION_FORMED)
}

/// The cluster that the claims hold data of; none where they hold none. Those that the wanted pods mount decide; where there are none, the
/// others do, because a group may be larger than its KvCluster is now.
///
/// # Errors
/// [`Error::Halted`] with `ForeignVolumes` where they do not agree.
pub fn identity(names: &ClusterNames, known: Option<&str>, claims: &[Claim], replicas: u32) -> Result<Option<String>, Error> {
    let mut id = known.map(str::to_owned);
    let (wanted, others): (Vec<&Claim>, Vec<&Claim>) = claims
        .iter()
        .partition(|claim| ordinal(names, &claim.name_any()).is_some_and(|ordinal| ordinal < replicas));
    let has_own = known.is_some() || wanted.iter().any(|claim| cluster_of(claim).is_some());
    for claim in wanted
        .into_iter()
        .chain(others.into_iter().filter(|claim| !has_own && is_formed(claim)))
    {
        match (cluster_of(claim), &id) {
            (None, _) => return Err(foreign(claim, None)),
            (Some(found), Some(known)) if found != known => return Err(foreign(claim, Some(known))),
            (Some(found), _) => id = Some(found.to_owned()),
        }
    }
    Ok(id)
}

/// How many pods the formed claims of a cluster need: all of them may be needed for a majority.
#[must_use]
pub fn places(names: &ClusterNames, id: Option<&str>, claims: &[Claim]) -> u32 {
    let formed = claims
        .iter()
        .filter(|claim| id.is_some() && cluster_of(claim) == id && is_formed(claim));
    let ordinals = formed.filter_map(|claim| ordinal(names, &claim.name_any()));
    ordinals.max().map_or(0, |ordinal| ordinal + 1)
}

/// The id of an observed cluster: status is a copy that dies with the object; after it, the claims say which cluster their data is of; where
/// there are none, the cluster is new and takes the object's uid, which is as unique, and the same however often this is asked.
///
/// # Errors
/// [`Error::Halted`] with `ForeignVolumes`; [`Error::Waits`].
pub fn cluster_id(observed: &Observed) -> Result<String, Error> {
    let names = ClusterNames::new(observed.cluster.name_any());
    let known = observed.status.cluster_id.as_deref();
    let is_formed = formation(observed) == Formation::Formed;
    // What a group that runs would only grow into stops nothing but that: see `no_growth`.
    let wanted = match is_formed {
        true => observed.size,
        false => validate::replicas(&observed.cluster),
    };
    let id = identity(&names, known, &observed.claims, wanted)?
        .or_else(|| observed.cluster.uid())
        .ok_or_else(|| Error::Waits("the KvCluster has no uid yet".to_owned()))?;
    let mounted = |claim: &&Claim| ordinal(&names, &claim.name_any()).is_some_and(|ordinal| ordinal < observed.size);
    match observed
        .claims
        .iter()
        .filter(mounted)
        .find(|claim| cluster_of(claim) != Some(id.as_str()))
    {
        Some(claim) => Err(foreign(claim, Some(&id))),
        None => Ok(id),
    }
}

/// Why a group that runs must not get more pods: for people. The claim of a pod to come is another owner's.
#[must_use]
pub fn no_growth(observed: &Observed) -> Option<String> {
    if formation(observed) != Formation::Formed {
        return None;
    }
    let names = ClusterNames::new(observed.cluster.name_any());
    let id = observed.status.cluster_id.as_deref();
    let to_come = observed.size..validate::replicas(&observed.cluster);
    let stranger = observed.claims.iter().find(|claim| {
        let ordinal = ordinal(&names, &claim.name_any());
        ordinal.is_some_and(|ordinal| to_come.contains(&ordinal)) && cluster_of(claim) != id
    })?;
    let owner = cluster_of(stranger).map_or_else(
        || "belongs to no kvfleet cluster".to_owned(),
        |other| format!("belongs to cluster {other}"),
    );
    Some(format!(
        "the cluster keeps {} pods and does not grow to {}: the volume claim {} {owner}, and a new pod would write into it. Move its data to \
         a claim of another name, or set spec.replicas back",
        observed.size,
        to_come.end,
        stranger.name_any()
    ))
}

/// The claims of this cluster that say that its group was formed.
#[must_use]
pub fn formed(observed: &Observed) -> Vec<FormedClaim> {
    let names = ClusterNames::new(observed.cluster.name_any());
    let Ok(id) = cluster_id(observed) else { return Vec::new() };
    let own = observed
        .claims
        .iter()
        .filter(|claim| cluster_of(claim) == Some(id.as_str()) && is_formed(claim));
    own.filter_map(|claim| {
        let name = claim.name_any();
        let pod = names.pod(SHARD, ordinal(&names, &name)?);
        Some(FormedClaim { name, pod })
    })
    .collect()
}

fn formation(observed: &Observed) -> Formation {
    shard(&observed.status).map(|shard| shard.formation).unwrap_or_default()
}

/// The data may be anything and anybody's, so the way out leaves it where it is.
fn foreign(claim: &Claim, known: Option<&str>) -> Error {
    let name = claim.name_any();
    let message = match (cluster_of(claim), known) {
        (None, _) => format!(
            "the volume claim {name} exists and belongs to no kvfleet cluster: name the KvCluster differently, or move the data of that claim to one \
             of another name"
        ),
        (Some(found), known) => format!(
            "the volume claim {name} belongs to cluster {found}, not to {}: name the KvCluster differently; if the label {LABEL_CLUSTER_ID} was \
             edited, put it right",
            known.unwrap_or("this one")
        ),
    };
    Error::Halted {
        reason: Reason::FOREIGN_VOLUMES,
        message,
    }
}

#[cfg(test)]
#[path = "claims/tests.rs"]
mod tests;

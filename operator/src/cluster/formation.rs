//! Step 4, second half: one step of the plan, carried out.
//!
//! In: a [`Step`]. Out: what status shall say of the formation. The order of its three writes is what makes a group be formed once: first
//! status names the members, then the claims say so, then one member is told. Absent: the decision.

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use kvfleet_api::admin::{Initialize, MemberAddress};
use kvfleet_crds::{
    KvClusterStatus,
    cluster::{Formation, MemberStatus, ShardStatus, WhenDeleted},
    conditions::Reason,
    names::{ANNOTATION_FORMED, ClusterNames, MANAGER, PORT_PEER},
};
use serde_json::json;

use super::{
    Memory, claims,
    fetch::{self, Claim, Member, Observed},
    membership,
    plan::{Evidence, Founder, Place, Step},
    status::write,
    validate::{SHARD, Validated},
};
use crate::{context::Context, error::Error};

/// What the plan decides on.
#[must_use]
pub fn evidence(observed: &Observed) -> Evidence {
    let shard = shard(&observed.status);
    let founder = |member: &MemberStatus| {
        Some(Founder {
            pod: member.pod.clone(),
            id: member.id.as_ref()?.parse().ok()?,
        })
    };
    let chosen = shard.iter().flat_map(|shard| &shard.members).filter_map(founder);
    let known = shard.iter().flat_map(|shard| &shard.members).filter(|member| member.voter);
    let voters = match membership::named(observed) {
        Some(members) => {
            let voters = members.iter().filter(|member| member.voter);
            let founder = |member: &kvfleet_api::admin::MemberStanding| Founder {
                pod: member.name.clone(),
                id: member.id,
            };
            voters.map(founder).collect()
        }
        None => known.filter_map(founder).collect(),
    };
    let names = ClusterNames::new(observed.cluster.name_any());
    let (desired, no_growth) = (membership::desired(observed), claims::no_growth(observed));
    // Where there must not be more pods, the places of those that there are not are no places.
    let is_place = |ordinal: usize, member: &Member| {
        no_growth.is_none() || member.seen.is_some() || u32::try_from(ordinal).is_ok_and(|ordinal| ordinal < desired)
    };
    Evidence {
        formation: shard.map(|shard| shard.formation).unwrap_or_default(),
        bootstrap: shard.and_then(|shard| shard.bootstrap_id.as_ref()?.parse().ok()),
        chosen: chosen.collect(),
        formed_claims: claims::formed(observed),
        places: observed
            .members
            .iter()
            .enumerate()
            .filter(|(ordinal, member)| is_place(*ordinal, member))
            .map(|(_, member)| Place {
                pod: member.pod.clone(),
                heard: member.report.as_ref().map(|report| (report.id, report.state)),
            })
            .collect(),
        desired,
        no_growth,
        voters,
        group: membership::group(observed, &names),
    }
}

/// The status of the only shard.
#[must_use]
pub fn shard(status: &KvClusterStatus) -> Option<&ShardStatus> {
    status.shards.iter().find(|shard| shard.index == SHARD)
}

/// Carries the step out.
///
/// # Errors
/// [`Error::Halted`] with `FormationLost`; [`Error::Waits`]; [`Error::Kubernetes`]; [`Error::Member`].
pub async fn execute(context: &Context, validated: &Validated, observed: &Observed, memory: &mut Memory, step: &Step) -> Result<(), Error> {
    match step {
        Step::Converged | Step::MarkFormed => {
            mark_claims(context, validated, &observed.claims).await?;
            Ok(())
        }
        Step::Change(change) => {
            mark_claims(context, validated, &observed.claims).await?;
            membership::execute(validated, observed, &mut memory.refusals, change).await
        }
        Step::Wait(_) => Ok(()),
        Step::FormationLost(message) => Err(Error::Halted {
            reason: Reason::FORMATION_LOST,
            message: message.clone(),
        }),
        Step::Intend(founders) => {
            let claims = uncached_claims(context, validated).await?;
            if claims.iter().any(claims::is_formed) {
                return Err(Error::Waits("a volume claim says by now that the group was formed".to_owned()));
            }
            let Some(bootstrap) = founders.first() else {
                return Err(Error::Waits("the cluster has no members".to_owned()));
            };
            intend(context, validated, observed, memory, bootstrap, founders).await?;
            initialize(context, validated, observed, &claims, bootstrap, founders).await
        }
        Step::Initialize { bootstrap, founders } => {
            let claims = uncached_claims(context, validated).await?;
            initialize(context, validated, observed, &claims, bootstrap, founders).await
        }
    }
}

/// All of this cluster: also one of a pod that there is not may say that the group was formed.
async fn uncached_claims(context: &Context, validated: &Validated) -> Result<Vec<Claim>, Error> {
    let mut claims = fetch::claims(context, &validated.namespace, &validated.names).await?;
    claims.retain(|claim| claims::cluster_of(claim) == Some(validated.cluster_id.as_str()));
    Ok(claims)
}

/// Status first. The object's version goes along: had it changed since it was read, this decision would rest on the past.
async fn intend(
    context: &Context,
    validated: &Validated,
    observed: &Observed,
    memory: &mut Memory,
    bootstrap: &Founder,
    founders: &[Founder],
) -> Result<(), Error> {
    let members = founders.iter().map(|founder| MemberStatus {
        pod: founder.pod.clone(),
        id: Some(founder.id.to_string()),
        role: None,
        voter: true,
        ready: false,
        storage_used: None,
    });
    let mut status = observed.status.clone();
    status.cluster_id = Some(validated.cluster_id.clone());
    status.shards = vec![ShardStatus {
        bootstrap_id: Some(bootstrap.id.to_string()),
        members: members.collect(),
        ..ShardStatus::of(SHARD, Formation::Intended)
    }];
    write(context, &observed.cluster, memory, status).await
}

async fn initialize(
    context: &Context,
    validated: &Validated,
    observed: &Observed,
    claims: &[Claim],
    bootstrap: &Founder,
    founders: &[Founder],
) -> Result<(), Error> {
    let claims: Vec<Claim> = claims
        .iter()
        .filter(|claim| {
            let name = claim.name_any();
            let mounts = |founder: &Founder| name == format!("{}-{}", ClusterNames::claim_template(), founder.pod);
            founders.iter().any(mounts)
        })
        .cloned()
        .collect();
    if claims.len() != founders.len() {
        return Err(Error::Waits("a volume claim of a member is missing".to_owned()));
    }
    mark_claims(context, validated, &claims).await?;
    let address = observed
        .members
        .iter()
        .find(|member| member.pod == bootstrap.pod)
        .and_then(|member| member.seen.as_ref()?.address);
    let (Some(admin), Some(address)) = (&observed.admin, address) else {
        return Err(Error::Waits(format!("waiting for {}, which forms the group", bootstrap.pod)));
    };
    let formation = Initialize {
        cluster_id: validated.cluster_id.clone(),
        bootstrap: bootstrap.id,
        members: founders
            .iter()
            .map(|founder| MemberAddress {
                id: founder.id,
                name: founder.pod.clone(),
                peer: format!("{}:{PORT_PEER}", validated.names.pod_host(&validated.namespace, &founder.pod)),
                voter: true,
            })
            .collect(),
    };
    admin
        .initialize(address, &formation)
        .await
        .map_err(Error::member(format!("form the group at {}", bootstrap.pod)))?;
    tracing::info!(
        namespace = validated.namespace,
        cluster = validated.names.cluster(),
        bootstrap = bootstrap.pod,
        "told a member to form the group"
    );
    Ok(())
}

/// Says on each claim of this cluster that the shard has been formed, and who owns it: no object, unless the data is to go with the KvCluster.
async fn mark_claims(context: &Context, validated: &Validated, claims: &[Claim]) -> Result<(), Error> {
    let goes = validated.when_deleted == WhenDeleted::Delete;
    let owner = Some(&validated.owner).filter(|_| goes);
    for claim in claims.iter().filter(|claim| is_own(&validated.names, &validated.cluster_id, claim)) {
        if !claims::is_formed(claim) || is_owned(&validated.owner.uid, claim) != goes {
            mark(context, &validated.namespace, claim, true, owner).await?;
        }
    }
    Ok(())
}

/// Lets go of claims that are to stay. Before everything else of a pass, in a pause and whatever is wrong with the spec: a person who is told to
/// delete the KvCluster and to keep the data sets `whenDeleted: Retain` first, and what stands in the way then must not keep the data bound to
/// the object.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn let_go(context: &Context, observed: &Observed) -> Result<(), Error> {
    let cluster = observed.cluster.as_ref();
    let (Some(namespace), Some(uid)) = (cluster.namespace(), cluster.uid()) else {
        return Ok(());
    };
    if cluster.spec.storage.retention.when_deleted == WhenDeleted::Delete {
        return Ok(());
    }
    // Status comes first: what the claims say together may be what is wrong.
    let told = || claims::cluster_id(observed).ok();
    let Some(id) = observed.status.cluster_id.clone().or_else(told) else {
        return Ok(());
    };
    let names = ClusterNames::new(cluster.name_any());
    for claim in &observed.claims {
        if is_own(&names, &id, claim) && is_owned(&uid, claim) {
            mark(context, &namespace, claim, claims::is_formed(claim), None).await?;
        }
    }
    Ok(())
}

fn is_own(names: &ClusterNames, cluster_id: &str, claim: &Claim) -> bool {
    claims::cluster_of(claim) == Some(cluster_id) && claims::ordinal(names, &claim.name_any()).is_some()
}

fn is_owned(uid: &str, claim: &Claim) -> bool {
    claim.owner_references().iter().any(|owner| owner.uid == uid)
}

async fn mark(context: &Context, namespace: &str, claim: &Claim, formed: bool, owner: Option<&OwnerReference>) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let name = claim.name_any();
    // No controller reference: the StatefulSet's own controller would take a claim with another controller for a stranger's.
    let owners = owner.map(|owner| {
        let mut owner = owner.clone();
        owner.controller = None;
        owner.block_owner_deletion = None;
        vec![owner]
    });
    let annotations = formed.then(|| json!({ ANNOTATION_FORMED: "true" }));
    let patch = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            // A claim that was made in the meantime is another claim.
            "uid": claim.metadata.uid,
            "annotations": annotations.unwrap_or_else(|| json!({})),
            "ownerReferences": owners.unwrap_or_default(),
        },
    });
    api.patch_metadata(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch))
        .await
        .map(drop)
        .map_err(Error::kubernetes(format!("annotate PersistentVolumeClaim {namespace}/{name}")))
}

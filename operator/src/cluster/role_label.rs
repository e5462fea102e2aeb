//! The label of the primary's pod, which `<cluster>-primary` and people follow. It is a hint.
//!
//! In: the reports. Out: the label on one pod and on no other. While no primary is known, nothing moves. Absent: failover, which is Raft's.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use kvfleet_crds::names::{LABEL_ROLE, MANAGER, ROLE_PRIMARY};
use serde_json::json;

use super::{fetch::Observed, status::primary};
use crate::{context::Context, error::Error};

/// Moves the label.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn follow(context: &Context, namespace: &str, observed: &Observed) -> Result<(), Error> {
    let Some((leader, _)) = primary(observed) else {
        return Ok(());
    };
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    for member in &observed.members {
        let Some(seen) = &member.seen else { continue };
        let leads = member.pod == leader.pod;
        if seen.labelled_primary == leads {
            continue;
        }
        let role = leads.then_some(ROLE_PRIMARY);
        // Merged, not applied: whoever set the label, it must come off.
        let patch = Patch::Merge(json!({ "metadata": { "labels": { LABEL_ROLE: role } } }));
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api.patch_metadata(&member.pod, &parameters, &patch).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(Error::kubernetes(format!("label Pod {namespace}/{}", member.pod))(error)),
        }
    }
    Ok(())
}

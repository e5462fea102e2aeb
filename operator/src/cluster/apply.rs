//! Step 4, first half: the objects, as built, to the API server.
//!
//! In: [`Objects`]. Out: nothing but what the API server then holds. Absent: Secrets and members.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Resource, ResourceExt, api::DeleteParams, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};

use super::{build::Objects, fetch::Observed, validate::Validated};
use crate::{
    apply::{apply as apply_object, is_as_wanted},
    context::Context,
    error::Error,
};

/// Applies everything, then removes what no pod uses any longer.
///
/// # Errors
/// The first refusal; what comes after it is left for the next time.
pub async fn apply(context: &Context, validated: &Validated, observed: &Observed, objects: Objects) -> Result<(), Error> {
    let Objects {
        service_account,
        config_map,
        peers_service,
        client_service,
        primary_service,
        network_policy,
        disruption_budget,
        stateful_set,
        spec_hash: _,
    } = objects;
    let config_name = config_map.metadata.name.clone().unwrap_or_default();
    // What pods need comes before the pods, and what guards them too.
    if let Some(service_account) = service_account {
        apply_object(context, service_account).await?;
    }
    apply_object(context, config_map).await?;
    apply_object(context, network_policy).await?;
    apply_object(context, disruption_budget).await?;
    apply_object(context, peers_service).await?;
    apply_object(context, stateful_set).await?;
    apply_object(context, client_service).await?;
    apply_object(context, primary_service).await?;
    prune(context, validated, observed, &config_name).await
}

/// The objects that are not as wanted, each as `Kind name`. Nothing is written.
///
/// # Errors
/// [`Error::Kubernetes`]; [`Error::NotOwned`].
pub async fn differing(context: &Context, objects: &Objects) -> Result<Vec<String>, Error> {
    let Objects {
        service_account,
        config_map,
        peers_service,
        client_service,
        primary_service,
        network_policy,
        disruption_budget,
        stateful_set,
        spec_hash: _,
    } = objects;
    let mut differing = Vec::new();
    if let Some(service_account) = service_account {
        compare(context, service_account, &mut differing).await?;
    }
    compare(context, config_map, &mut differing).await?;
    compare(context, network_policy, &mut differing).await?;
    compare(context, disruption_budget, &mut differing).await?;
    compare(context, peers_service, &mut differing).await?;
    compare(context, stateful_set, &mut differing).await?;
    compare(context, client_service, &mut differing).await?;
    compare(context, primary_service, &mut differing).await?;
    Ok(differing)
}

async fn compare<K>(context: &Context, object: &K, differing: &mut Vec<String>) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    if !is_as_wanted(context, object).await? {
        differing.push(format!("{} {}", K::kind(&()), object.name_any()));
    }
    Ok(())
}

/// Files of earlier specs go when the last pod that was made from them has gone.
async fn prune(context: &Context, validated: &Validated, observed: &Observed, current: &str) -> Result<(), Error> {
    let pods = observed.members.iter().filter_map(|member| member.seen.as_ref());
    let used: Vec<&String> = pods.flat_map(|pod| &pod.config_maps).collect();
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &validated.namespace);
    for old in context.caches.config_maps(&validated.namespace, validated.names.cluster()) {
        let name = old.metadata.name.clone().unwrap_or_default();
        let owners = old.metadata.owner_references.iter().flatten();
        let ours = owners
            .into_iter()
            .any(|owner| owner.uid == validated.owner.uid && owner.controller == Some(true));
        if name == current || used.contains(&&name) || !ours {
            continue;
        }
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => tracing::info!(namespace = validated.namespace, name, "deleted a ConfigMap that no pod uses"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(Error::kubernetes(format!("delete ConfigMap {}/{name}", validated.namespace))(error)),
        }
    }
    Ok(())
}

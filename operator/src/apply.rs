//! The one way in which the operator writes objects: server-side apply, and nothing when nothing would change.
//!
//! In: a typed object, with the owner that it shall have. Out: the object as the API server has it. An object of that name without that
//! owner is someone else's and is left alone. Absent: deletion, status, and what to apply.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::NamespaceResourceScope,
};
use kvfleet_crds::names::{LABEL_CLUSTER_ID, LABEL_MANAGED_BY, MANAGER};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    caches::Caches,
    context::{Context, Error},
};

/// The hash of what was applied last: a field that is no longer wanted is still in the object, and would not be missed otherwise.
const ANNOTATION_APPLIED: &str = "kvfleet.dev/applied-hash";

/// Which objects were found as wanted, at which version.
#[derive(Debug, Default)]
pub struct Applied {
    seen: Mutex<HashMap<Key, Seen>>,
}

type Key = (String, String, String);

#[derive(Debug)]
struct Seen {
    hash: String,
    version: String,
}

impl Applied {
    fn holds(&self, key: &Key, hash: &str, version: Option<&str>) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(key)
            .is_some_and(|seen| seen.hash == hash && Some(seen.version.as_str()) == version)
    }

    /// Of a kind that is not in the caches no version is known to compare with.
    fn record(&self, key: Key, hash: String, version: Option<String>) {
        let Some(version) = version.filter(|_| Caches::keeps(&key.0)) else {
            return;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(key, Seen { hash, version });
    }

    /// Forgets the objects of namespaces that `keeps` does not name: those of a cluster go soon after it, and one that is still wanted is
    /// read once more.
    pub fn retain(&self, keeps: impl Fn(&str) -> bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let namespaces: HashSet<String> = seen.keys().map(|(_, namespace, _)| namespace.clone()).collect();
        let kept: HashSet<&String> = namespaces.iter().filter(|namespace| keeps(namespace)).collect();
        seen.retain(|(_, namespace, _), _| kept.contains(namespace));
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was as wanted.
    Unchanged,
    /// It was made or changed.
    Written,
}

/// Brings an object to what is wanted. Its kind, namespace and name are those of `desired`; its controller must be that of `desired`, or,
/// where `desired` has none, its manager label must be the operator's.
///
/// # Errors
/// [`Error::NotOwned`]; [`Error::Kubernetes`].
pub async fn apply<K>(context: &Context, desired: K) -> Result<Outcome, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let Some(Change { key, hash, desired }) = look(context, &desired).await? else {
        return Ok(Outcome::Unchanged);
    };
    let (kind, namespace, name) = &key;
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    // Forced: in an object that is ours, another manager's edit of a field that we set does not last.
    let parameters = PatchParams::apply(MANAGER).force();
    let stored = api
        .patch(name, &parameters, &Patch::Apply(&desired))
        .await
        .map_err(Error::kubernetes(format!("apply {kind} {namespace}/{name}")))?;
    tracing::info!(kind, namespace, name, "applied");
    context.applied.record(key, hash, stored.resource_version());
    Ok(Outcome::Written)
}

/// Whether an object is what is wanted. Nothing is written.
///
/// # Errors
/// As [`apply`].
pub async fn is_as_wanted<K>(context: &Context, desired: &K) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    Ok(look(context, desired).await?.is_none())
}

/// What would be written.
struct Change {
    key: Key,
    hash: String,
    desired: Value,
}

/// None: the object is as wanted.
async fn look<K>(context: &Context, desired: &K) -> Result<Option<Change>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let kind = K::kind(&()).into_owned();
    let name = desired.name_any();
    let namespace = desired.namespace().unwrap_or_default();
    let what = format!("apply {kind} {namespace}/{name}");
    let mut desired = to_value(desired, &what)?;
    let hash = crate::hash::short(desired.to_string().as_bytes());
    let key = (kind.clone(), namespace.clone(), name.clone());
    let known = context.caches.version(&kind, &namespace, &name);
    if known.is_some() && context.applied.holds(&key, &hash, known.as_deref()) {
        return Ok(None);
    }

    annotate(&mut desired, &hash);
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let live = api
        .get_opt(&name)
        .await
        .map_err(Error::kubernetes(format!("read {kind} {namespace}/{name}")))?;
    if let Some(live) = live {
        if !is_ours(live.meta(), &desired) && !was_left(live.meta(), &desired) {
            return Err(match last_owner(live.meta(), &desired) {
                Some(owner) => Error::BeingCollected { kind, name, owner },
                None => Error::NotOwned { kind, name },
            });
        }
        if covers(&to_value(&live, &what)?, &desired) {
            context.applied.record(key, hash, live.resource_version());
            return Ok(None);
        }
    }
    Ok(Some(Change { key, hash, desired }))
}

/// A reference that makes `owner` the controller of an object.
///
/// # Errors
/// [`Error::Waits`] for an object that the API server has not stored yet.
pub fn controller_of<K: Resource<DynamicType = ()>>(owner: &K) -> Result<OwnerReference, Error> {
    owner
        .controller_owner_ref(&())
        .ok_or_else(|| Error::Waits("the object has no uid yet".to_owned()))
}

fn to_value<K: Serialize>(object: &K, what: &str) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|error| Error::Kubernetes {
        what: what.to_owned(),
        source: Box::new(kube::Error::SerdeError(error)),
    })
}

fn annotate(desired: &mut Value, hash: &str) {
    if let Some(metadata) = desired.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(ANNOTATION_APPLIED.to_owned(), Value::from(hash));
        }
    }
}

fn is_ours(live: &ObjectMeta, desired: &Value) -> bool {
    let wanted = controller(desired).and_then(|owner| owner.get("uid")).and_then(Value::as_str);
    match wanted {
        Some(uid) => live
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.controller == Some(true) && owner.uid == uid),
        None => live
            .labels
            .as_ref()
            .and_then(|labels| labels.get(LABEL_MANAGED_BY))
            .is_some_and(|manager| manager == MANAGER),
    }
}

/// Whether it was left behind by an earlier KvCluster of the same data: the operator made it for this cluster id, and it has no controller, or
/// one that is gone by now and whose going it survives, because it shares another owner (a volume claim) with what is wanted.
fn was_left(live: &ObjectMeta, desired: &Value) -> bool {
    let label = |key: &str| live.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let wanted = desired
        .pointer("/metadata/labels")
        .and_then(|labels| labels.get(LABEL_CLUSTER_ID))
        .and_then(Value::as_str);
    if wanted.is_none() || label(LABEL_CLUSTER_ID) != wanted || label(LABEL_MANAGED_BY) != Some(MANAGER) {
        return false;
    }
    let owners = || live.owner_references.iter().flatten();
    let wanted: Vec<&Value> = desired
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    let is_shared = |owner: &OwnerReference| {
        owner.controller != Some(true)
            && wanted
                .iter()
                .any(|wanted| wanted.get("uid").and_then(Value::as_str) == Some(owner.uid.as_str()))
    };
    !owners().any(|owner| owner.controller == Some(true)) || (last_owner(live, desired).is_some() && owners().any(is_shared))
}

/// The kind of the owner, where it is an object of the same kind and name that lived before: then the object goes by itself.
fn last_owner(live: &ObjectMeta, desired: &Value) -> Option<String> {
    let wanted = controller(desired)?;
    let text = |key: &str| wanted.get(key).and_then(Value::as_str);
    live.owner_references
        .iter()
        .flatten()
        .find(|owner| {
            owner.controller == Some(true) && Some(owner.kind.as_str()) == text("kind") && Some(owner.name.as_str()) == text("name")
        })
        .map(|owner| owner.kind.clone())
}

fn controller(desired: &Value) -> Option<&Value> {
    let owners = desired.pointer("/metadata/ownerReferences").and_then(Value::as_array)?;
    owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// Whether everything in `desired` is in `live`, which may have more: what the API server filled in.
fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, desired)| match live.get(key) {
            Some(live) => covers(live, desired),
            None => is_empty(desired),
        }),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len() && live.iter().zip(desired).all(|(live, desired)| covers(live, desired))
        }
        _ => live == desired,
    }
}

/// The API server drops empty lists and maps of some fields.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_filled_in_is_no_difference() {
        let live = json!({ "a": { "b": 1, "c": 2 }, "list": [{ "x": 1, "y": 2 }] });
        assert!(covers(&live, &json!({ "a": { "b": 1 }, "list": [{ "x": 1 }], "none": {} })));
        for different in [
            json!({ "a": { "b": 2 } }),
            json!({ "a": { "d": 1 } }),
            json!({ "list": [] }),
            json!({ "list": [{ "x": 1 }, { "x": 1 }] }),
            json!({ "list": [{ "x": 2 }] }),
        ] {
            assert!(!covers(&live, &different), "{different}");
        }
    }

    #[test]
    fn what_an_earlier_object_of_the_same_data_left_behind_is_taken_over() {
        let owner = |kind: &str, name: &str, uid: &str, controller: Option<bool>| OwnerReference {
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            controller,
            ..OwnerReference::default()
        };
        let meta = |manager: &str, id: &str, owners| ObjectMeta {
            labels: Some(
                [
                    (LABEL_MANAGED_BY.to_owned(), manager.to_owned()),
                    (LABEL_CLUSTER_ID.to_owned(), id.to_owned()),
                ]
                .into(),
            ),
            owner_references: Some(owners),
            ..ObjectMeta::default()
        };
        let desired = json!({ "metadata": { "labels": { LABEL_CLUSTER_ID: "id" }, "ownerReferences": [
            { "kind": "KvCluster", "name": "prod", "uid": "new", "controller": true }, { "kind": "PersistentVolumeClaim", "uid": "claim" } ] } });
        let claim = || owner("PersistentVolumeClaim", "data", "claim", None);
        let gone = || owner("KvCluster", "prod", "old", Some(true));
        assert!(was_left(&meta(MANAGER, "id", vec![claim()]), &desired), "the controller is gone");
        assert!(
            was_left(&meta(MANAGER, "id", vec![gone(), claim()]), &desired),
            "it survives its controller"
        );
        for (other, why) in [
            (meta(MANAGER, "id", vec![gone()]), "it goes with its controller"),
            (meta(MANAGER, "other", vec![claim()]), "another cluster's"),
            (meta("someone", "id", vec![claim()]), "not the operator's"),
            (
                meta(MANAGER, "id", vec![owner("Other", "x", "y", Some(true)), claim()]),
                "another controller's",
            ),
        ] {
            assert!(!was_left(&other, &desired), "{why}");
        }
    }

    #[test]
    fn only_the_same_controller_makes_an_object_ours() {
        let owner = |uid: &str, controller| OwnerReference {
            uid: uid.to_owned(),
            controller,
            ..OwnerReference::default()
        };
        let meta = |owners| ObjectMeta {
            owner_references: Some(owners),
            ..ObjectMeta::default()
        };
        let desired = json!({ "metadata": { "ownerReferences": [{ "uid": "u", "controller": true }] } });
        assert!(is_ours(&meta(vec![owner("u", Some(true))]), &desired));
        for foreign in [
            meta(vec![owner("v", Some(true))]),
            meta(vec![owner("u", None)]),
            ObjectMeta::default(),
        ] {
            assert!(!is_ours(&foreign, &desired));
        }
    }
}

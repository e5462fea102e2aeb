//! Where members keep their data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{quantity::Quantity, rules};

/// Where members keep their data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::all([
    rules::fixed(
        "storageClassName",
        "storage.storageClassName may not change, appear or disappear: volumes cannot move to another class, so create another cluster",
    ),
])))]
pub struct Storage {
    /// What data is kept in: `file`, a volume of its own for each member. Default file. It cannot change.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-validations" = rules::all([
        rules::transition("self == oldSelf", "storage.engine may not change: create another cluster with the engine you want"),
    ])))]
    pub engine: StorageEngine,

    /// The size of each member's volume, at least 64Mi: a whole quantity such as `10Gi`. Required. It may not shrink, and
    /// cannot grow in this release.
    #[schemars(extend("x-kubernetes-validations" = size_rules()))]
    pub size: Quantity,

    /// The StorageClass of the volumes. Default: the Kubernetes cluster's default class. It may not change, not even from
    /// unset to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,

    /// What becomes of the volumes.
    #[serde(default)]
    pub retention: Retention,
}

fn size_rules() -> serde_json::Value {
    let mut rules = rules::quantity("storage.size", "64Mi", "1Pi");
    let changes = rules::all([
        rules::transition(
            "quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0",
            "storage.size may not shrink: a volume cannot be made smaller, so set it back to the present size or more",
        ),
        rules::transition(
            "quantity(string(self)).compareTo(quantity(string(oldSelf))) <= 0",
            "storage.size may not grow: this release does not expand volumes, so set it back to the present size",
        ),
    ]);
    if let (Some(rules), serde_json::Value::Array(changes)) = (rules.as_array_mut(), changes) {
        rules.extend(changes);
    }
    rules
}

/// What data is kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StorageEngine {
    /// A persistent volume for each member.
    #[default]
    File,
}

/// What becomes of the volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// What happens to the volumes when the KvCluster is deleted: Retain keeps them, and a KvCluster of the same name finds
    /// its data again; Delete destroys them. Default Retain.
    #[serde(default)]
    pub when_deleted: WhenDeleted,
}

/// What happens to the volumes when the KvCluster is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenDeleted {
    /// The volumes and the data stay.
    #[default]
    Retain,
    /// The volumes and the data go.
    Delete,
}

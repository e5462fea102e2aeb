//! The image of the members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The container image of the members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The repository, without a tag. Default: that of the operator's node image when the cluster is made; a cluster that runs keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._:/-]*$"))]
    pub repository: Option<String>,

    /// The tag. Default: that of the operator's node image when the cluster is made; a cluster that runs keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z0-9_][a-zA-Z0-9._-]*$"))]
    pub tag: Option<String>,

    /// When a node fetches the image. Default IfNotPresent.
    #[serde(default)]
    pub pull_policy: PullPolicy,

    /// Secrets of this namespace that hold the registry's credentials. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pull_secrets: Vec<PullSecret>,
}

impl Image {
    /// Whether nothing is asked for beyond the operator's node image.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self == &Self::default()
    }
}

/// When a node fetches an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Each time a container starts.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Not at all: the image must be on the node.
    Never,
}

impl PullPolicy {
    /// The name that a container's `imagePullPolicy` uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// A Secret with the credentials of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

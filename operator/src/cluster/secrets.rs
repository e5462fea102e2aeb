//! The Secrets of a cluster: made once and kept, unlike everything else that is built.
//!
//! In: a [`Validated`]. Out: `<cluster>-ca`, `-jwt`, `-peer-tls` and `-operator-tls`, the last two renewed in time. Absent: making anew what a
//! running cluster cannot do without: that is reported.

use std::{collections::BTreeMap, time::SystemTime};

use k8s_openapi::{
    ByteString,
    api::{
        core::v1::Secret,
        rbac::v1::{RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, Resource};
use kvfleet_crds::names::{LABEL_CLUSTER_ID, LABEL_MANAGED_BY, MANAGER, NAMESPACE_BINDING_CLUSTERS, NAMESPACE_ROLE};

use super::validate::Validated;
use crate::{
    apply::{Outcome, apply},
    certificates::{self, Authority, Pair, Role},
    context::Context,
    error::Error,
};

const REMEDY: &str = "restore it from a backup, or delete the KvCluster while storage.retention.whenDeleted is Retain and apply it again, \
                      which makes a new one and keeps the data";

/// Whether a Secret that is missing may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No pod has been started with these Secrets.
    New,
    /// Members run with them.
    Running,
}

/// Makes what is missing and renews what is due.
///
/// # Errors
/// [`Error::SecretLost`]; [`Error::NotOwned`]; [`Error::Kubernetes`].
pub async fn ensure(context: &Context, validated: &Validated, origin: Origin) -> Result<(), Error> {
    // With named namespaces the chart has made the bindings.
    if context.config.watch_namespaces.is_empty() {
        bind(context, validated).await?;
    }
    let now = SystemTime::now();
    let names = &validated.names;
    let id = &validated.cluster_id;

    let authority = match read(context, validated, &names.authority_secret(), ["tls.crt", "tls.key"]).await? {
        Some([certificate, key]) => Authority::load(Pair { certificate, key }).map_err(|error| Error::SecretLost {
            name: names.authority_secret(),
            problem: format!("cannot be used ({error})"),
            remedy: REMEDY,
        })?,
        None => {
            may_make(origin, names.authority_secret())?;
            let authority = Authority::create(id, now)?;
            let Pair { certificate, key } = authority.pair().clone();
            let content = [("tls.crt", certificate), ("tls.key", key)];
            write(context, validated, names.authority_secret(), content).await?;
            authority
        }
    };
    if read(context, validated, &names.jwt_secret(), ["signing-key.pem", "jwks.json"])
        .await?
        .is_none()
    {
        may_make(origin, names.jwt_secret())?;
        let (key, keys) = certificates::signing_key()?;
        let keys = serde_json::to_string(&keys).expect("a struct of texts is always JSON");
        let content = [("signing-key.pem", key), ("jwks.json", keys)];
        write(context, validated, names.jwt_secret(), content).await?;
    }
    let wildcard = names.peer_wildcard(&validated.namespace);
    let leaves = [
        (names.peer_tls_secret(), Role::Member, Some(wildcard.as_str())),
        (names.operator_tls_secret(), Role::Operator, None),
    ];
    for (name, role, host) in leaves {
        let trusted = &authority.pair().certificate;
        let stored = read(context, validated, &name, ["ca.crt", "tls.crt", "tls.key"]).await?;
        let good = stored
            .is_some_and(|[ca, certificate, _]| ca == *trusted && !certificates::is_due(&certificate, trusted, &role.identity(id), now));
        if good {
            continue;
        }
        let Pair { certificate, key } = authority.issue(id, role, host, now)?;
        let content = [("ca.crt", trusted.clone()), ("tls.crt", certificate), ("tls.key", key)];
        write(context, validated, name, content).await?;
        context.forget_admin(&validated.namespace, names.cluster());
    }
    Ok(())
}

fn may_make(origin: Origin, name: String) -> Result<(), Error> {
    match origin {
        Origin::New => Ok(()),
        Origin::Running => Err(Error::SecretLost {
            name,
            problem: "is lost while members run with it".to_owned(),
            remedy: REMEDY,
        }),
    }
}

/// The named entries, or none where the Secret or one of them is missing.
async fn read<const N: usize>(context: &Context, validated: &Validated, name: &str, keys: [&str; N]) -> Result<Option<[String; N]>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &validated.namespace);
    let secret = api
        .get_opt(name)
        .await
        .map_err(Error::kubernetes(format!("read Secret {}/{name}", validated.namespace)))?;
    let Some(secret) = secret else { return Ok(None) };
    let owners = secret.metadata.owner_references.iter().flatten();
    match owners.into_iter().find(|owner| owner.controller == Some(true)) {
        Some(owner) if owner.uid == validated.owner.uid => {}
        Some(owner) if owner.kind == validated.owner.kind && owner.name == validated.owner.name => {
            return Err(Error::BeingCollected {
                kind: "Secret".to_owned(),
                name: name.to_owned(),
                owner: owner.kind.clone(),
            });
        }
        _ => {
            return Err(Error::NotOwned {
                kind: "Secret".to_owned(),
                name: name.to_owned(),
            });
        }
    }
    let data = secret.data.unwrap_or_default();
    let texts: Option<Vec<String>> = keys
        .iter()
        .map(|key| String::from_utf8(data.get(*key)?.0.clone()).ok().filter(|text| !text.is_empty()))
        .collect();
    Ok(texts.and_then(|texts| texts.try_into().ok()))
}

async fn write<const N: usize>(
    context: &Context,
    validated: &Validated,
    name: String,
    content: [(&str, String); N],
) -> Result<Outcome, Error> {
    let mut labels = validated.names.labels();
    labels.insert(LABEL_CLUSTER_ID.to_owned(), validated.cluster_id.clone());
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(validated.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![validated.owner.clone()]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from(
            content.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))),
        )),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    apply(context, secret).await
}

/// The operator's own rights on Secrets in this namespace. They go with the last KvCluster.
async fn bind(context: &Context, validated: &Validated) -> Result<(), Error> {
    let clusters = context.caches.clusters(&validated.namespace);
    let mut owners: Vec<OwnerReference> = clusters.iter().filter_map(|cluster| cluster.owner_ref(&())).collect();
    owners.sort_by(|one, other| one.uid.cmp(&other.uid));
    let binding = RoleBinding {
        metadata: ObjectMeta {
            name: Some(NAMESPACE_BINDING_CLUSTERS.to_owned()),
            namespace: Some(validated.namespace.clone()),
            labels: Some(BTreeMap::from([(LABEL_MANAGED_BY.to_owned(), MANAGER.to_owned())])),
            owner_references: Some(owners),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: NAMESPACE_ROLE.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: context.config.service_account.clone(),
            namespace: Some(context.config.namespace.clone()),
            api_group: None,
        }]),
    };
    apply(context, binding).await.map(drop)
}

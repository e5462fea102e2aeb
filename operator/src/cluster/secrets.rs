//! The Secrets of a cluster: made once and kept, unlike everything else that is built.
//!
//! In: a [`Validated`] and the volume claims. Out: `<cluster>-ca`, `-jwt`, `-peer-tls` and `-operator-tls`, the last two renewed in time and
//! put right when they are spoilt. With `whenDeleted: Retain` the authority and the key that signs tokens are owned by the claims too: they
//! outlive the KvCluster and go with the last volume of their data. Absent: making again what a running cluster cannot do without, and any use of
//! another cluster's Secret: those are reported.

use std::{collections::BTreeMap, time::SystemTime};

use k8s_openapi::{
    ByteString,
    api::{
        core::v1::Secret,
        rbac::v1::{RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, Resource, ResourceExt, runtime::events::EventType};
use kvfleet_api::token::JwkSet;
use kvfleet_crds::{
    cluster::WhenDeleted,
    names::{ClusterNames, LABEL_CLUSTER_ID, LABEL_MANAGED_BY, MANAGER, NAMESPACE_BINDING_CLUSTERS, NAMESPACE_ROLE},
};

use super::{
    claims,
    fetch::{Claim, Observed},
    validate::{SHARD, Validated},
};
use crate::{
    apply::{Outcome, apply},
    certificates::{self, Authority, Pair, Role},
    context::Context,
    error::Error,
    token::Signer,
};

const REMEDY: &str = "restore it from a backup; or, to have a new one made and keep the data, delete the KvCluster while \
                      storage.retention.whenDeleted is Retain, then this Secret, and apply the KvCluster again: tokens issued before are \
                      refused from then on, and every Tenant gets a new one";

/// Whether a Secret that is missing may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No pod has been started with these Secrets.
    New,
    /// Members run with them.
    Running,
}

/// What all of them have in common.
struct Keeper<'a> {
    context: &'a Context,
    validated: &'a Validated,
    observed: &'a Observed,
    origin: Origin,
}

/// Makes what is missing, renews what is due, and puts right what is spoilt and can be made again.
///
/// # Errors
/// [`Error::SecretLost`]; [`Error::NotOwned`]; [`Error::Kubernetes`].
pub async fn ensure(context: &Context, validated: &Validated, observed: &Observed, origin: Origin) -> Result<(), Error> {
    // With named namespaces the chart has made the bindings.
    if context.config.watch_namespaces.is_empty() {
        bind(context, validated).await?;
    }
    let keeper = Keeper {
        context,
        validated,
        observed,
        origin,
    };
    // What is to live as long as the data is bound to it first, both of them: whatever is wrong with one, the next step may be to delete the
    // KvCluster.
    let authority = keeper.bound(&validated.names.authority_secret(), &["tls.crt", "tls.key"]).await;
    let signing_key = keeper.bound(&validated.names.jwt_secret(), &["signing-key.pem", "jwks.json"]).await;
    let authority = keeper.authority(authority?).await?;
    let wildcard = validated.names.peer_wildcard(&validated.namespace);
    keeper
        .leaf(&authority, validated.names.peer_tls_secret(), Role::Member, Some(&wildcard))
        .await?;
    keeper
        .leaf(&authority, validated.names.operator_tls_secret(), Role::Operator, None)
        .await?;
    // Last: a key that is lost ends no certificate.
    keeper.signing_key(signing_key?).await
}

/// The claims that what lives as long as the data is owned by, for a comparison.
#[must_use]
pub fn volumes(validated: &Validated, observed: &Observed) -> Vec<String> {
    let owners = with_the_data(validated, &observed.claims);
    owners.into_iter().map(|owner| owner.uid).collect()
}

impl Keeper<'_> {
    /// A Secret as it is stored, good or not, once its owners are written down.
    async fn bound(&self, name: &str, keys: &[&str]) -> Result<Option<Stored>, Error> {
        let Some(stored) = read(self.context, self.validated, name).await? else {
            return Ok(None);
        };
        let owners = self.owners_of_the_data();
        if stored.owners != owners {
            let mut data = stored.data.clone();
            data.retain(|key, _| keys.contains(&key.as_str()));
            self.write_data(name.to_owned(), data, owners).await?;
        }
        Ok(Some(stored))
    }

    async fn authority(&self, stored: Option<Stored>) -> Result<Authority, Error> {
        let name = self.validated.names.authority_secret();
        let Some(stored) = stored else {
            self.may_make(&name)?;
            let authority = Authority::create(&self.validated.cluster_id, SystemTime::now())?;
            self.write_authority(&authority).await?;
            self.tell_made_anew(&name, "members trust the new one once they have been restarted")
                .await;
            return Ok(authority);
        };
        let (Some(certificate), Some(key)) = (stored.text("tls.crt"), stored.text("tls.key")) else {
            return Err(lost(&name, "lacks tls.crt or tls.key".to_owned()));
        };
        Authority::load(Pair { certificate, key }).map_err(|error| lost(&name, format!("cannot be used ({error})")))
    }

    async fn write_authority(&self, authority: &Authority) -> Result<(), Error> {
        let Pair { certificate, key } = authority.pair().clone();
        let content = [("tls.crt", certificate), ("tls.key", key)];
        let name = self.validated.names.authority_secret();
        self.write(name, content, self.owners_of_the_data()).await
    }

    async fn signing_key(&self, stored: Option<Stored>) -> Result<(), Error> {
        let name = self.validated.names.jwt_secret();
        let Some(stored) = stored else {
            self.may_make(&name)?;
            let (key, keys) = certificates::signing_key()?;
            self.write_signing_key(key, &keys).await?;
            let effect = "tokens issued before are refused, and every Tenant gets a new one";
            self.tell_made_anew(&name, effect).await;
            return Ok(());
        };
        let Some(key) = stored.text("signing-key.pem") else {
            return Err(lost(&name, "lacks signing-key.pem".to_owned()));
        };
        let own = Signer::from_pem(&key)
            .map_err(|error| lost(&name, format!("cannot be used ({error})")))?
            .published();
        let published = stored.text("jwks.json").and_then(|text| serde_json::from_str::<JwkSet>(&text).ok());
        match published {
            // There may be more keys in the set: of a rotation.
            Some(published) if published.keys.contains(&own) => Ok(()),
            Some(published) if !published.keys.is_empty() => Err(lost(
                &name,
                "holds a signing-key.pem that none of the keys in its jwks.json belongs to, so one of the two is not this cluster's"
                    .to_owned(),
            )),
            // Nothing else is known of what members verify with, and the set follows from the key.
            _ => self.write_signing_key(key, &JwkSet { keys: vec![own] }).await,
        }
    }

    async fn write_signing_key(&self, key: String, keys: &JwkSet) -> Result<(), Error> {
        let keys = serde_json::to_string(keys).expect("a struct of texts is always JSON");
        let content = [("signing-key.pem", key), ("jwks.json", keys)];
        let name = self.validated.names.jwt_secret();
        self.write(name, content, self.owners_of_the_data()).await
    }

    async fn leaf(&self, authority: &Authority, name: String, role: Role, host: Option<&str>) -> Result<(), Error> {
        let now = SystemTime::now();
        let id = &self.validated.cluster_id;
        let trusted = &authority.pair().certificate;
        let stored = read(self.context, self.validated, &name).await?;
        let is_good = |stored: &Stored| {
            let pair = stored.text("tls.crt").zip(stored.text("tls.key"));
            pair.is_some_and(|(certificate, key)| {
                !certificates::is_due(&certificate, trusted, &role.identity(id), now) && Pair { certificate, key }.belongs_together()
            }) && stored.text("ca.crt").as_ref() == Some(trusted)
        };
        if stored.as_ref().is_some_and(is_good) {
            return Ok(());
        }
        let Pair { certificate, key } = authority.issue(id, role, host, now)?;
        let content = [("ca.crt", trusted.clone()), ("tls.crt", certificate), ("tls.key", key)];
        self.write(name, content, vec![self.validated.owner.clone()]).await?;
        self.context.forget_admin(&self.validated.namespace, self.validated.names.cluster());
        Ok(())
    }

    fn may_make(&self, name: &str) -> Result<(), Error> {
        match self.origin {
            Origin::New => Ok(()),
            Origin::Running => Err(lost(name, "is lost while members run with it".to_owned())),
        }
    }

    /// A new one beside old data is what was asked for, and nothing to be silent about.
    async fn tell_made_anew(&self, name: &str, effect: &str) {
        if !self.observed.claims.iter().any(claims::is_formed) {
            return;
        }
        let note = format!("the Secret {name} of the data that was found is gone, so a new one was made: {effect}");
        let cluster = self.observed.cluster.as_ref();
        self.context
            .event(cluster, EventType::Warning, "KeysMadeAnew", "Reconcile", note)
            .await;
    }

    fn owners_of_the_data(&self) -> Vec<OwnerReference> {
        let mut owners = vec![self.validated.owner.clone()];
        owners.extend(with_the_data(self.validated, &self.observed.claims));
        owners
    }

    async fn write<const N: usize>(&self, name: String, content: [(&str, String); N], owners: Vec<OwnerReference>) -> Result<(), Error> {
        let data = content.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
        self.write_data(name, BTreeMap::from(data), owners).await
    }

    async fn write_data(&self, name: String, data: BTreeMap<String, ByteString>, owners: Vec<OwnerReference>) -> Result<(), Error> {
        let mut labels = self.validated.names.labels();
        labels.insert(LABEL_CLUSTER_ID.to_owned(), self.validated.cluster_id.clone());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(self.validated.namespace.clone()),
                labels: Some(labels),
                owner_references: Some(owners),
                ..ObjectMeta::default()
            },
            data: Some(data),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        let _: Outcome = apply(self.context, secret).await?;
        Ok(())
    }
}

fn lost(name: &str, problem: String) -> Error {
    Error::SecretLost {
        name: name.to_owned(),
        problem,
        remedy: REMEDY,
    }
}

/// The claims of this cluster's data as further owners: the garbage collector removes an object when the last of its owners is gone. None where
/// the data goes with the KvCluster.
fn with_the_data(validated: &Validated, claims: &[Claim]) -> Vec<OwnerReference> {
    if validated.when_deleted == WhenDeleted::Delete {
        return Vec::new();
    }
    let prefix = format!("{}-{}-", ClusterNames::claim_template(), validated.names.stateful_set(SHARD));
    let owner = |claim: &Claim| {
        let is_ours = claim.labels().get(LABEL_CLUSTER_ID) == Some(&validated.cluster_id) && claim.name_any().starts_with(&prefix);
        Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "PersistentVolumeClaim".to_owned(),
            name: claim.name_any(),
            uid: claim.uid().filter(|_| is_ours)?,
            ..OwnerReference::default()
        })
    };
    let mut owners: Vec<OwnerReference> = claims.iter().filter_map(owner).collect();
    owners.sort_by(|one, other| one.name.cmp(&other.name));
    owners
}

/// A Secret that may be used.
struct Stored {
    data: BTreeMap<String, ByteString>,
    owners: Vec<OwnerReference>,
}

impl Stored {
    fn text(&self, key: &str) -> Option<String> {
        String::from_utf8(self.data.get(key)?.0.clone())
            .ok()
            .filter(|text| !text.is_empty())
    }
}

/// None where there is none.
async fn read(context: &Context, validated: &Validated, name: &str) -> Result<Option<Stored>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &validated.namespace);
    let secret = api
        .get_opt(name)
        .await
        .map_err(Error::kubernetes(format!("read Secret {}/{name}", validated.namespace)))?;
    let Some(secret) = secret else { return Ok(None) };
    may_use(&secret, validated)?;
    Ok(Some(Stored {
        owners: secret.metadata.owner_references.unwrap_or_default(),
        data: secret.data.unwrap_or_default(),
    }))
}

/// It is this KvCluster's, or one that an earlier KvCluster left with the data that this one has.
fn may_use(secret: &Secret, validated: &Validated) -> Result<(), Error> {
    let owner = secret.owner_references().iter().find(|owner| owner.controller == Some(true));
    if owner.is_some_and(|owner| owner.uid == validated.owner.uid) {
        return Ok(());
    }
    let name = secret.name_any();
    let kind = || "Secret".to_owned();
    let is_namesake = owner.is_some_and(|owner| owner.kind == validated.owner.kind && owner.name == validated.owner.name);
    if secret.labels().get(LABEL_MANAGED_BY).map(String::as_str) != Some(MANAGER) || (owner.is_some() && !is_namesake) {
        return Err(Error::NotOwned { kind: kind(), name });
    }
    // Another owner, a volume claim, keeps it from going with the KvCluster that it was made for.
    if is_namesake && secret.owner_references().len() == 1 {
        return Err(Error::BeingCollected {
            kind: kind(),
            name,
            owner: validated.owner.kind.clone(),
        });
    }
    match secret.labels().get(LABEL_CLUSTER_ID) {
        Some(id) if *id == validated.cluster_id => Ok(()),
        id => Err(Error::SecretLost {
            problem: format!(
                "belongs to the data of cluster {}, not to that of {}",
                id.map_or("(no label)", String::as_str),
                validated.cluster_id
            ),
            name,
            remedy: "restore the one of this cluster from a backup, or delete it if the data of the other one is gone for good",
        }),
    }
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

#[cfg(test)]
#[path = "secrets/tests.rs"]
mod tests;

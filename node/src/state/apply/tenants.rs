//! Creates, replaces, releases and deletes tenants. Their configuration reaches every member through here and by no other way.

use kvfleet_api::tenant::{TenantConfig, TenantState};

use crate::state::{Refusal, Response, Tenant, TenantId, draft::Draft};

/// Creates the tenant or replaces its configuration. Who may: see [`supersede`]. The stored configuration again changes nothing.
pub(super) fn put(draft: &mut Draft, now_ms: u64, name: String, config: TenantConfig) -> Result<Response, Refusal> {
    let now_seconds = now_ms / 1_000;
    let (id, credential_issued_at) = match draft.tables.tenants.by_name(&name) {
        None => (None, now_seconds),
        Some(stored) => {
            supersede(stored, &config)?;
            if stored.state == TenantState::Active && stored.config == config {
                return Ok(answer(draft, stored.id));
            }
            // A token of an earlier Tenant object must not pass for one of this object's, although both count from 1.
            let same_credential = stored.config.uid == config.uid && stored.config.credential_generation == config.credential_generation;
            (
                Some(stored.id),
                if same_credential {
                    stored.credential_issued_at
                } else {
                    now_seconds
                },
            )
        }
    };
    let id = id.unwrap_or_else(|| draft.take_tenant_id());
    let revision = draft.take_revision();
    draft.put_tenant(Tenant {
        id,
        name,
        state: TenantState::Active,
        config,
        revision,
        credential_issued_at,
    });
    Ok(answer(draft, id))
}

/// Whether `new` may take the place of what is stored. For the same uid no generation may go down, so that an operator which lags
/// cannot undo a newer edit. Another uid is another Tenant object: it takes over only what was released, and only from an object of
/// the same namespace and name.
fn supersede(stored: &Tenant, new: &TenantConfig) -> Result<(), Refusal> {
    let old = &stored.config;
    if old.uid != new.uid {
        let adopted = stored.state == TenantState::Released && old.owner == new.owner;
        return if adopted {
            Ok(())
        } else {
            Err(Refusal::TenantNameTaken { owner: old.owner.clone() })
        };
    }
    let generations = [
        ("generation", old.generation, new.generation),
        ("clusterGeneration", old.cluster_generation, new.cluster_generation),
        ("credentialGeneration", old.credential_generation, new.credential_generation),
    ];
    match generations.into_iter().find(|(_, stored, new)| new < stored) {
        Some((field, stored, _)) => Err(Refusal::StaleGeneration {
            field: field.to_owned(),
            stored,
        }),
        None => Ok(()),
    }
}

/// Refuses access from here on and keeps the data.
pub(super) fn release(draft: &mut Draft, name: &str, uid: &str) -> Result<Response, Refusal> {
    let Some(stored) = draft.tables.tenants.by_name(name).cloned() else {
        return Ok(Response::TenantGone { existed: false });
    };
    if stored.config.uid != uid {
        return Err(Refusal::UidMismatch);
    }
    if stored.state == TenantState::Active {
        let revision = draft.take_revision();
        draft.put_tenant(Tenant {
            state: TenantState::Released,
            revision,
            ..Tenant::clone(&stored)
        });
    }
    Ok(answer(draft, stored.id))
}

/// Frees the name and hides the rows at once; `Reap` removes them. The id is never used again, so nothing can see them in between.
pub(super) fn delete(draft: &mut Draft, name: &str, uid: &str) -> Result<Response, Refusal> {
    let Some(stored) = draft.tables.tenants.by_name(name).cloned() else {
        return Ok(Response::TenantGone { existed: false });
    };
    if stored.config.uid != uid {
        return Err(Refusal::UidMismatch);
    }
    draft.take_revision();
    draft.bury_tenant(stored.id);
    Ok(Response::TenantGone { existed: true })
}

fn answer(draft: &Draft, id: TenantId) -> Response {
    match draft.tables.tenants.by_id(id) {
        Some(tenant) => Response::Tenant(Box::new(tenant.status(draft.usage(id).used()))),
        None => Response::TenantGone { existed: false },
    }
}

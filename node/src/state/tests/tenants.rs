use kvfleet_api::{
    admin::{Settings, SettingsStatus},
    tenant::{TenantState, TenantStatus},
    usage::Used,
};

use super::*;
use crate::storage::keys;

fn tenant(response: Response) -> TenantStatus {
    match response {
        Response::Tenant(status) => *status,
        other => panic!("{other:?}"),
    }
}

fn put_config(name: &str, config: TenantConfig) -> Command {
    Command::PutTenant {
        name: name.to_owned(),
        config,
    }
}

fn release(uid: &str) -> Command {
    Command::ReleaseTenant {
        name: "acme".to_owned(),
        uid: uid.to_owned(),
    }
}

fn remove(uid: &str) -> Command {
    Command::DeleteTenant {
        name: "acme".to_owned(),
        uid: uid.to_owned(),
    }
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let mut shard = Shard::new();
    let first = tenant(shard.run(put_tenant("acme", TenantLimits::default())));
    assert_eq!(
        (first.id, first.revision, first.state, first.credential_issued_at),
        (1, 1, TenantState::Active, START / 1_000)
    );
    shard.put("k", "v");
    shard.pass(5_000);
    let again = tenant(shard.run(put_tenant("acme", TenantLimits::default())));
    assert_eq!(
        again,
        TenantStatus {
            usage: Used { storage: 2, keys: 1 },
            ..first
        }
    );
    assert_eq!(shard.view().revision(), 2);
    let shard = shard.reopen();
    assert_eq!(shard.view().tenants(), std::slice::from_ref(&again));
    assert_eq!(shard.view().tenant_status("acme"), Some(again));
}

#[test]
fn no_generation_goes_down() {
    let mut shard = Shard::new();
    let base = TenantConfig {
        generation: 5,
        cluster_generation: 6,
        credential_generation: 7,
        ..config("u", TenantLimits::default())
    };
    shard.run(put_config("acme", base.clone()));
    let lower = [
        (
            "generation",
            5,
            TenantConfig {
                generation: 4,
                ..base.clone()
            },
        ),
        (
            "clusterGeneration",
            6,
            TenantConfig {
                cluster_generation: 5,
                ..base.clone()
            },
        ),
        (
            "credentialGeneration",
            7,
            TenantConfig {
                credential_generation: 6,
                ..base.clone()
            },
        ),
    ];
    for (field, stored, config) in lower {
        assert_eq!(
            shard.run(put_config("acme", config)),
            refused(Refusal::StaleGeneration {
                field: field.to_owned(),
                stored
            })
        );
    }
    assert_eq!(shard.view().revision(), 1);
    shard.pass(10_000);
    let edited = tenant(shard.run(put_config(
        "acme",
        TenantConfig {
            generation: 6,
            ..base.clone()
        },
    )));
    assert_eq!(
        (edited.id, edited.revision, edited.credential_issued_at),
        (1, 2, START / 1_000),
        "the credential is as old as before"
    );
    let rotated = tenant(shard.run(put_config(
        "acme",
        TenantConfig {
            generation: 6,
            credential_generation: 8,
            ..base
        },
    )));
    assert_eq!((rotated.revision, rotated.credential_issued_at), (3, START / 1_000 + 10));
}

#[test]
fn a_name_belongs_to_its_object_until_it_is_released() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("k", "v");
    let newcomer = config("uid-2", TenantLimits::default());
    let stranger = TenantConfig {
        owner: "elsewhere/acme".to_owned(),
        ..config("uid-3", TenantLimits::default())
    };
    let taken = refused(Refusal::TenantNameTaken {
        owner: "team/acme".to_owned(),
    });
    assert_eq!(shard.run(put_config("acme", newcomer.clone())), taken);
    assert_eq!(shard.run(release("uid-2")), refused(Refusal::UidMismatch));
    let released = tenant(shard.run(release("uid-1")));
    assert_eq!(
        (released.state, released.revision, released.usage.keys),
        (TenantState::Released, 3, 1)
    );
    assert_eq!(tenant(shard.run(release("uid-1"))).revision, 3, "once is enough");
    assert_eq!(shard.put("k", "w"), refused(Refusal::TenantUnknown));
    assert_eq!(
        shard.run(put_config("acme", stranger)),
        taken,
        "the data does not go to another namespace"
    );
    let mut shard = shard.reopen();
    assert_eq!(shard.view().tenant("acme").unwrap().state, TenantState::Released);
    shard.pass(2_000);
    let adopted = tenant(shard.run(put_config("acme", newcomer)));
    assert_eq!((adopted.id, adopted.state), (1, TenantState::Active));
    assert_eq!(
        adopted.credential_issued_at,
        START / 1_000 + 2,
        "tokens of the earlier object are older than this"
    );
    assert_eq!(shard.value("k").as_deref(), Some("v"));
}

#[test]
fn the_same_object_may_come_back_after_a_release() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(release("uid-1"));
    let back = tenant(shard.run(put_tenant("acme", TenantLimits::default())));
    assert_eq!((back.state, back.revision), (TenantState::Active, 3));
}

#[test]
fn a_deleted_tenant_is_gone_at_once_and_its_rows_go_in_steps() {
    let mut shard = Shard::with(TenantLimits::default());
    for n in 0..25 {
        let ttl = if n % 2 == 0 { Ttl::For(1_000) } else { Ttl::Never };
        shard.run(put_with(&format!("k{n:02}"), "v", ttl, Condition::None));
    }
    shard.pass(1_000);
    shard.run(Command::Sweep { limit: Bound::rows(3) });
    let revision = shard.view().revision();
    assert_eq!(shard.run(remove("uid-9")), refused(Refusal::UidMismatch));
    assert_eq!(shard.run(remove("uid-1")), Response::TenantGone { existed: true });
    assert_eq!(shard.run(remove("uid-1")), Response::TenantGone { existed: false });
    assert_eq!(shard.view().revision(), revision + 1);
    assert_eq!(shard.value("k01"), None);
    assert!(shard.view().tenants().is_empty() && shard.view().tenant("acme").is_none());
    assert!(shard.view().reap_due());
    assert_eq!(
        shard.due().filter(|due| *due <= shard.now_ms),
        None,
        "its expired rows call for no sweep"
    );

    let again = tenant(shard.run(put_tenant("acme", TenantLimits::default())));
    assert_eq!((again.id, again.usage), (2, Used::default()), "the name is free, the id is not");
    assert_eq!(
        shard.run(Command::Reap { limit: Bound::rows(10) }),
        Response::Swept { removed: 10, more: true }
    );
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::rows(2) }),
        Response::Swept { removed: 2, more: true },
        "a sweep may meet them first"
    );
    let mut shard = shard.reopen();
    assert!(shard.view().reap_due());
    let last = [10, 0].map(|removed| Response::Swept {
        removed,
        more: removed > 0,
    });
    assert_eq!(
        last.clone().map(|_| shard.run(Command::Reap { limit: Bound::rows(10) })),
        last,
        "no row is read to see whether there is one"
    );
    assert!(!shard.view().reap_due());
    assert_eq!(shard.view().revision(), revision + 2, "rows of a deleted tenant take no revision");
    let rows = shard.dump();
    let left: Vec<_> = rows
        .iter()
        .filter(|(keyspace, ..)| !matches!(keyspace, Keyspace::Meta))
        .map(|(keyspace, ..)| *keyspace)
        .collect();
    assert_eq!(left, [Keyspace::Tenants], "only the new tenant's configuration");
}

#[test]
fn a_reap_leaves_off_where_the_next_begins() {
    let mut shard = Shard::with(TenantLimits::default());
    for key in ["a", "b", "c"] {
        shard.put(key, "v");
    }
    shard.run(remove("uid-1"));
    assert_eq!(
        shard.run(Command::Reap { limit: Bound::rows(2) }),
        Response::Swept { removed: 2, more: true }
    );
    let row = (Keyspace::Tenants, keys::tenant_grave(ACME), keys::record(ACME, "b\0"));
    assert!(shard.dump().contains(&row));
}

#[test]
fn records_that_expire_after_their_tenant_call_for_no_sweep() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(put_with("k", "v", Ttl::For(1_000), Condition::None));
    shard.run(remove("uid-1"));
    shard.pass(5_000);
    shard.run(put_tenant("acme", TenantLimits::default()));
    assert_eq!(shard.due(), None);
    let mut shard = shard.reopen();
    assert_eq!(shard.due(), None);
    assert_eq!(
        shard.run(Command::Reap { limit: Bound::rows(10) }),
        Response::Swept { removed: 1, more: false }
    );
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::rows(10) }),
        Response::Swept { removed: 0, more: false }
    );
}

#[test]
fn an_id_is_never_used_again_not_even_after_a_restart() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(remove("uid-1"));
    shard.run(Command::Reap { limit: Bound::rows(1) });
    let mut shard = shard.reopen();
    assert_eq!(tenant(shard.run(put_tenant("acme", TenantLimits::default()))).id, 2);
}

#[test]
fn settings_take_a_revision_when_they_change() {
    let mut shard = Shard::new();
    assert_eq!(
        shard.view().settings_status(),
        SettingsStatus {
            revision: 0,
            settings: Settings::default()
        }
    );
    let settings = Settings {
        generation: 3,
        log_level: "debug".to_owned(),
        ..Settings::default()
    };
    let status = SettingsStatus {
        revision: 1,
        settings: settings.clone(),
    };
    assert_eq!(
        shard.run(Command::PutSettings(settings.clone())),
        Response::Settings(Box::new(status.clone()))
    );
    assert_eq!(
        shard.run(Command::PutSettings(settings.clone())),
        Response::Settings(Box::new(status.clone()))
    );
    let stale = Settings { generation: 2, ..settings };
    assert_eq!(
        shard.run(Command::PutSettings(stale)),
        refused(Refusal::StaleGeneration {
            field: "generation".to_owned(),
            stored: 3
        })
    );
    assert_eq!(shard.view().revision(), 1);
    assert_eq!(shard.reopen().view().settings_status(), status);
}

/// covers row 115
#[test]
fn a_join_token_is_spent_on_the_first_that_asks() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let mut shard = Shard::new();
    let end = shard.now_ms + 1_000;
    let spend = |token, member| Command::SpendToken {
        token,
        member,
        expires_at_ms: end,
    };
    let on = |member| Response::TokenSpent { member };
    assert_eq!(shard.run(spend(7, 1)), on(1));
    assert_eq!(shard.run(spend(7, 2)), on(1));
    assert_eq!(shard.run(spend(8, 2)), on(2));
    let mut shard = shard.reopen();
    assert_eq!(shard.run(spend(7, 3)), on(1), "after a restart too");
    // Members judge by their own clocks whether its time is over.
    shard.now_ms = end + DAY_MS - 1;
    assert_eq!(shard.run(spend(9, 3)), on(3));
    assert_eq!(shard.run(spend(7, 3)), on(1));
    shard.now_ms = end + DAY_MS;
    assert_eq!(shard.run(spend(10, 3)), on(3));
    assert_eq!(shard.run(spend(7, 3)), on(3), "nobody accepts it any more, so it is forgotten");
}

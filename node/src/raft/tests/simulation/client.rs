//! Clients of one member: each asks one thing after the other and notes what it was told.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kvfleet_api::tenant::{TenantConfig, TenantLimits};
use tokio::time::Instant;

use super::{
    history::{Answer, Asked, Seen},
    member::Seat,
    world::World,
};
use crate::{
    log::fake::Dice,
    raft::{Group, ReadPoint},
    state::{Command, Condition, Delete, Kind, Operation, Put, TenantId, Ttl, View},
};

const KEYS: u64 = 6;
const TENANT: &str = "t";

/// Makes the tenant that clients use, if there is none.
pub(super) async fn make_tenant(group: &Group, view: &View, world: &World) {
    if view.tenant(TENANT).is_some() {
        return;
    }
    let config = TenantConfig {
        uid: "u".to_owned(),
        owner: "tests/t".to_owned(),
        generation: 1,
        cluster_generation: 1,
        credential_generation: 1,
        limits: TenantLimits::default(),
    };
    let put = Command::PutTenant {
        name: TENANT.to_owned(),
        config,
    };
    let answer = group.propose(put, Instant::now() + Duration::from_secs(2)).await;
    world.note(format!("tenant: {answer:?}"));
}

pub(super) async fn run(group: Group, seat: Arc<Seat>, life: u64, number: usize) {
    let world = Arc::clone(seat.world());
    let name = format!("c{}.{life}.{number}", seat.at);
    let mut dice = Dice::new(seat.seed() ^ (life << 24) ^ ((seat.at as u64) << 16) ^ ((number as u64) << 20) ^ 0x5eed);
    let mut sequence = 0;
    while !world.is_quiet() {
        tokio::time::sleep(Duration::from_millis(1 + dice.roll(40))).await;
        let Some(tenant) = known_tenant(&group) else { continue };
        sequence += 1;
        ask(&group, &seat, tenant, &mut dice, format!("{name}.{sequence}")).await;
    }
}

fn known_tenant(group: &Group) -> Option<TenantId> {
    let point = group.local_read().ok()?;
    point.view.tenant(TENANT).map(|tenant| tenant.id)
}

async fn ask(group: &Group, seat: &Seat, tenant: TenantId, dice: &mut Dice, name: String) {
    let world = seat.world();
    let key = format!("k{}", dice.roll(KEYS));
    let deadline = Instant::now() + Duration::from_millis(300 + dice.roll(3000));
    let asked = match dice.roll(100) {
        0..45 => Asked::Write(put(tenant, &key, &name, dice)),
        45..55 => Asked::Write(Command::one(
            tenant,
            Operation::Delete(Delete {
                key: key.clone(),
                condition: condition(group, tenant, &key, dice),
            }),
        )),
        55..85 => Asked::Read { key: key.clone() },
        85..99 => Asked::LocalRead { key: key.clone() },
        _ => {
            let outcome = group.transfer_leadership(deadline).await;
            world.note(format!("{name} asks for another leader: {outcome:?}"));
            return;
        }
    };
    let number = world.state().history.ask(seat.at, asked.clone(), world.tick());
    world.note(format!("{name} asks: {}", describe(&asked)));
    let answer = match asked {
        Asked::Write(command) => match group.propose(command, deadline).await {
            Ok(response) => Answer::Written(response),
            Err(error) => Answer::Refused(error),
        },
        Asked::Read { key } => match group.read_barrier(deadline).await {
            Ok(point) => Answer::Found(look(&point, tenant, &key)),
            Err(_) => Answer::Unread,
        },
        Asked::LocalRead { key } => match group.local_read() {
            Ok(point) => Answer::Found(look(&point, tenant, &key)),
            Err(_) => Answer::Unread,
        },
    };
    world.note(format!("{name} is told: {answer:?}"));
    world.state().history.answer(number, world.tick(), answer);
}

fn describe(asked: &Asked) -> String {
    match asked {
        Asked::Write(command) => match command.operation() {
            Some(Operation::Put(Put { key, ttl, condition, .. })) => format!("put {key} {ttl:?} {condition:?}"),
            Some(Operation::Delete(Delete { key, condition })) => format!("delete {key} {condition:?}"),
            _ => format!("{command:?}"),
        },
        Asked::Read { key } => format!("read {key}"),
        Asked::LocalRead { key } => format!("read {key} here"),
    }
}

/// What a read finds.
pub(super) fn look(point: &ReadPoint, tenant: TenantId, key: &str) -> Seen {
    let record = point.view.get(tenant, key, point.now_ms).unwrap().map(|record| {
        let value = String::from_utf8(record.value.to_vec()).unwrap();
        (value, record.revision, record.expires_at_ms)
    });
    Seen {
        revision: point.view.revision(),
        applied: point.view.applied().map_or(0, |applied| applied.index),
        now_ms: point.now_ms,
        record,
    }
}

fn put(tenant: TenantId, key: &str, value: &str, dice: &mut Dice) -> Command {
    // Some end while things go wrong, some would only if time jumped.
    let ttl = match dice.roll(8) {
        0 | 1 => Ttl::For(1_000 + dice.roll(2_000)),
        2 => Ttl::For(12_000),
        3 => Ttl::For(3_600_000),
        _ => Ttl::Never,
    };
    let condition = match dice.roll(6) {
        0 => Condition::Absent,
        1 => Condition::Present,
        _ => Condition::None,
    };
    Command::one(
        tenant,
        Operation::Put(Put {
            key: key.to_owned(),
            // Unique, and of a length that fills segments.
            value: Bytes::from(format!("{value}:{}", "x".repeat(dice.roll(300) as usize))),
            kind: Kind::String,
            content_type: None,
            metadata: Vec::new(),
            ttl,
            condition,
        }),
    )
}

/// Half of the deletions are for the revision that the member knows.
fn condition(group: &Group, tenant: TenantId, key: &str, dice: &mut Dice) -> Condition {
    let known = group.local_read().ok().and_then(|point| look(&point, tenant, key).record);
    match known {
        Some((_, revision, _)) if dice.roll(2) == 0 => Condition::Revision(revision),
        _ => Condition::None,
    }
}

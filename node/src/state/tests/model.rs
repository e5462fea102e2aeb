//! Random commands against a model that is too simple to be wrong: a map, searched from end to end for every question.
//! The seed is printed; `KVFLEET_SEED` replays it.

use std::collections::BTreeMap;

use super::*;

const TENANTS: [&str; 2] = ["acme", "other"];
const QUOTA: u64 = 60;
const KEYS: u64 = 6;

pub(super) struct Random(pub(super) u64);

impl Random {
    /// SplitMix64 (Steele, Lea and Flood, 2014).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    value: String,
    revision: u64,
    expires: Option<u64>,
}

impl Row {
    fn live(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }
}

#[derive(Clone, Default)]
struct Model {
    rows: BTreeMap<(u32, String), Row>,
    revision: u64,
    clock: u64,
}

impl Model {
    fn bytes(&self, tenant: u32) -> u64 {
        self.rows
            .iter()
            .filter(|((owner, _), _)| *owner == tenant)
            .map(|((_, key), row)| (key.len() + row.value.len()) as u64)
            .sum()
    }

    fn live(&self, tenant: u32, now: u64) -> Vec<(String, Row)> {
        let mine = self.rows.iter().filter(|((owner, _), row)| *owner == tenant && row.live(now));
        mine.map(|((_, key), row)| (key.clone(), row.clone())).collect()
    }

    fn apply(&mut self, stamp: u64, command: &Command) -> Response {
        self.clock = self.clock.max(stamp);
        let now = self.clock;
        match command {
            Command::Write(write) => self.write(now, write),
            Command::Sweep { limit } => {
                let mut due: Vec<_> = self
                    .rows
                    .iter()
                    .filter(|(_, row)| !row.live(now))
                    .map(|(id, row)| (row.expires, id.clone()))
                    .collect();
                due.sort();
                let more = due.len() > limit.rows as usize;
                due.truncate(limit.rows as usize);
                for (_, id) in &due {
                    self.rows.remove(id);
                    self.revision += 1;
                }
                Response::Swept {
                    removed: due.len() as u32,
                    more,
                }
            }
            other => panic!("{other:?} is not part of the model"),
        }
    }

    fn write(&mut self, now: u64, write: &Write) -> Response {
        for (check, number) in write.checks.iter().zip(0..) {
            let live = self.rows.get(&(write.tenant.0, check.key.clone())).filter(|row| row.live(now));
            if let Some(refusal) = Model::unmet(check.condition, live) {
                let part = Part::Check(number);
                return Response::NotWritten { part, refusal };
            }
        }
        let before = self.clone();
        let mut answers = Vec::new();
        for (operation, number) in write.operations.iter().zip(0..) {
            let answer = if let Operation::Put(put) = operation {
                self.put(now, write.tenant.0, put).map(Done::Put)
            } else if let Operation::Delete(delete) = operation {
                self.delete(now, write.tenant.0, delete).map(Done::Deleted)
            } else {
                panic!("{operation:?} is not part of the model")
            };
            match answer {
                Err(refusal) if write.all_or_nothing => {
                    *self = before;
                    let part = Part::Operation(number);
                    return Response::NotWritten { part, refusal };
                }
                answer => answers.push(answer),
            }
        }
        Response::Written { answers }
    }

    fn put(&mut self, now: u64, tenant: u32, put: &Put) -> Result<Written, Refusal> {
        let Put {
            key,
            value,
            ttl,
            condition,
            ..
        } = put;
        let id = (tenant, key.clone());
        let stored = self.rows.get(&id).cloned();
        let live = stored.clone().filter(|row| row.live(now));
        if let Some(refusal) = Model::unmet(*condition, live.as_ref()) {
            return Err(refusal);
        }
        if live.is_none() && self.live(tenant, now).len() as u64 >= KEYS {
            return Err(Refusal::KeyCountExceeded {
                limit: KEYS,
                expired_waiting: false,
            });
        }
        let used = self.bytes(tenant);
        let old = stored.as_ref().map_or(0, |row| (key.len() + row.value.len()) as u64);
        let wanted = used - old + (key.len() + value.len()) as u64;
        if wanted > QUOTA && wanted > used {
            let others = self
                .rows
                .iter()
                .any(|((owner, other), row)| *owner == tenant && other != key && !row.live(now));
            return Err(Refusal::StorageQuotaExceeded {
                limit: QUOTA,
                used,
                wanted,
                expired_waiting: others,
            });
        }
        self.revision += 1;
        let expires = match ttl {
            Ttl::For(length) => Some(now + length),
            _ => None,
        };
        let row = Row {
            value: String::from_utf8(value.to_vec()).unwrap(),
            revision: self.revision,
            expires,
        };
        self.rows.insert(id, row);
        Ok(Written {
            revision: self.revision,
            created: live.is_none(),
            expires_at_ms: expires,
        })
    }

    fn delete(&mut self, now: u64, tenant: u32, delete: &Delete) -> Result<Deletion, Refusal> {
        let id = (tenant, delete.key.clone());
        let live = self.rows.get(&id).cloned().filter(|row| row.live(now));
        if let Some(refusal) = Model::unmet(delete.condition, live.as_ref()) {
            return Err(refusal);
        }
        if live.is_none() {
            return Ok(Deletion { revision: None });
        }
        self.rows.remove(&id);
        self.revision += 1;
        Ok(Deletion {
            revision: Some(self.revision),
        })
    }

    fn unmet(condition: Condition, live: Option<&Row>) -> Option<Refusal> {
        let current = live.map_or(0, |row| row.revision);
        let met = match condition {
            Condition::None => true,
            Condition::Present => live.is_some(),
            Condition::Absent => live.is_none(),
            Condition::Revision(wanted) => current == wanted,
        };
        (!met).then_some(Refusal::PreconditionFailed { current })
    }
}

fn key(random: &mut Random) -> String {
    "k".repeat(1 + random.below(9) as usize)
}

fn condition(random: &mut Random, revision: u64) -> Condition {
    match random.below(8) {
        0 => Condition::Present,
        1 => Condition::Absent,
        2 => Condition::Revision(revision.saturating_sub(random.below(5))),
        _ => Condition::None,
    }
}

fn operation(random: &mut Random, revision: u64) -> Operation {
    let (key, condition) = (key(random), condition(random, revision));
    if random.below(5) == 0 {
        return Operation::Delete(Delete { key, condition });
    }
    Operation::Put(Put {
        key,
        value: Bytes::from("v".repeat(random.below(20) as usize)),
        kind: Kind::String,
        content_type: None,
        metadata: Vec::new(),
        ttl: if random.below(2) == 0 {
            Ttl::For(1_000 + random.below(3) * 500)
        } else {
            Ttl::Never
        },
        condition,
    })
}

/// Half of the writes have one operation, the others up to six, and some checks.
fn command(random: &mut Random, revision: u64) -> Command {
    let tenant = TenantId(1 + random.below(TENANTS.len() as u64) as u32);
    match random.below(10) {
        0 => Command::Sweep {
            limit: Bound::rows(random.below(4) as u32),
        },
        1..=4 => Command::Write(Write {
            tenant,
            checks: (0..random.below(3))
                .map(|_| Check {
                    key: key(random),
                    condition: condition(random, revision),
                })
                .collect(),
            operations: (0..random.below(7)).map(|_| operation(random, revision)).collect(),
            all_or_nothing: random.below(2) == 0,
        }),
        _ => Command::one(tenant, operation(random, revision)),
    }
}

#[test]
fn random_commands_agree_with_the_model() {
    let given = std::env::var("KVFLEET_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = given.map_or_else(|| (1..=6).collect::<Vec<_>>(), |seed| vec![seed]);
    for seed in seeds {
        println!("KVFLEET_SEED={seed}");
        agree(&mut Random(seed));
    }
}

fn agree(random: &mut Random) {
    let limits = TenantLimits {
        quota_storage: QUOTA,
        quota_keys: KEYS,
        ..TenantLimits::default()
    };
    let mut shard = Shard::new();
    for name in TENANTS {
        shard.run(put_tenant(name, limits.clone()));
    }
    let mut model = Model {
        revision: shard.view().revision(),
        clock: START,
        ..Model::default()
    };
    let mut stamp = START;
    for round in 0..150 {
        let mut inputs = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..=random.below(8) {
            stamp += random.below(400);
            // A leader's stamp may lie behind an earlier one.
            let stamped = stamp - random.below(300).min(stamp - START);
            let command = command(random, model.revision);
            expected.push(model.apply(stamped, &command));
            shard.index += 1;
            inputs.push(entry(shard.index, stamped, command));
        }
        assert_eq!(shard.machine.apply(inputs.clone()).unwrap(), expected, "round {round}: {inputs:?}");
        if round % 50 == 49 {
            shard = shard.reopen();
        }
        // A reader's clock may be ahead of the log's.
        let now = model.clock + random.below(800);
        compare(&shard.view(), &model, now);
        early_look(random, &shard.view(), &model, now);
    }
}

fn compare(view: &View, model: &Model, now: u64) {
    assert_eq!((view.revision(), view.stamp_ms()), (model.revision, model.clock));
    let earliest = model.rows.values().filter_map(|row| row.expires).min();
    let horizon = now + 10_000;
    assert!(
        view.next_expiry_ms() <= earliest.unwrap_or(u64::MAX).max(model.clock),
        "a sweep would come late"
    );
    let due = view.sweep_due(0, horizon).unwrap();
    let expected = earliest
        .filter(|earliest| *earliest <= horizon)
        .map(|earliest| earliest.max(model.clock));
    assert_eq!(due, expected, "when a sweep is due");
    for tenant in 1..=TENANTS.len() as u32 {
        let live = model.live(tenant, now);
        let used = view.used(TenantId(tenant), now).unwrap();
        assert_eq!((used.storage, used.keys), (model.bytes(tenant), live.len() as u64));
        let (found, _) = page(view, TenantId(tenant), &ScanRange::default(), items(100), now).unwrap();
        let seen: Vec<_> = found.into_iter().map(|(key, record)| (key, plain(record))).collect();
        assert_eq!(seen, live);
        for (key, row) in live {
            assert_eq!(view.get(TenantId(tenant), &key, now).unwrap().map(plain), Some(row));
        }
    }
}

/// What is seen before a write is proposed is what the state machine would decide.
fn early_look(random: &mut Random, view: &View, model: &Model, now: u64) {
    for (tenant, name) in (1..).zip(TENANTS) {
        let Operation::Put(put) = operation(random, 0) else { continue };
        let put = Put {
            condition: Condition::None,
            ..put
        };
        let tenant_now = view.tenant(name).unwrap();
        let look = put.look_at_quota(view, &tenant_now, now).unwrap();
        let decision = model.clone().put(now, tenant, &put).map(drop);
        assert_eq!(look, decision, "{put:?}");
        if put.glance_at_quota(view, &tenant_now).is_ok() {
            assert_eq!(
                decision,
                Ok(()),
                "a glance may see a refusal that is none, never the other way round"
            );
        }
    }
}

fn plain(record: Record) -> Row {
    Row {
        value: String::from_utf8(record.value.to_vec()).unwrap(),
        revision: record.revision,
        expires: record.expires_at_ms,
    }
}

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

#[derive(Default)]
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
            Command::Put {
                tenant,
                key,
                value,
                ttl,
                condition,
                ..
            } => {
                let id = (tenant.0, key.clone());
                let stored = self.rows.get(&id).cloned();
                let live = stored.clone().filter(|row| row.live(now));
                if let Some(refusal) = Model::unmet(*condition, live.as_ref()) {
                    return refused(refusal);
                }
                if live.is_none() && self.live(tenant.0, now).len() as u64 >= KEYS {
                    return refused(Refusal::KeyCountExceeded {
                        limit: KEYS,
                        expired_waiting: false,
                    });
                }
                let used = self.bytes(tenant.0);
                let old = stored.as_ref().map_or(0, |row| (key.len() + row.value.len()) as u64);
                let wanted = used - old + (key.len() + value.len()) as u64;
                if wanted > QUOTA && wanted > used {
                    let others = self
                        .rows
                        .iter()
                        .any(|((owner, other), row)| *owner == tenant.0 && other != key && !row.live(now));
                    return refused(Refusal::StorageQuotaExceeded {
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
                let value = String::from_utf8(value.to_vec()).unwrap();
                self.rows.insert(
                    id,
                    Row {
                        value,
                        revision: self.revision,
                        expires,
                    },
                );
                Response::Put {
                    revision: self.revision,
                    created: live.is_none(),
                    expires_at_ms: expires,
                }
            }
            Command::Delete { tenant, key, condition } => {
                let id = (tenant.0, key.clone());
                let live = self.rows.get(&id).cloned().filter(|row| row.live(now));
                if let Some(refusal) = Model::unmet(*condition, live.as_ref()) {
                    return refused(refusal);
                }
                if live.is_none() {
                    return Response::Deleted { revision: None };
                }
                self.rows.remove(&id);
                self.revision += 1;
                Response::Deleted {
                    revision: Some(self.revision),
                }
            }
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

fn command(random: &mut Random, revision: u64) -> Command {
    let tenant = TenantId(1 + random.below(TENANTS.len() as u64) as u32);
    let key = "k".repeat(1 + random.below(9) as usize);
    let condition = match random.below(8) {
        0 => Condition::Present,
        1 => Condition::Absent,
        2 => Condition::Revision(revision.saturating_sub(random.below(5))),
        _ => Condition::None,
    };
    match random.below(10) {
        0 => Command::Sweep {
            limit: Bound::rows(random.below(4) as u32),
        },
        1 | 2 => Command::Delete { tenant, key, condition },
        _ => Command::Put {
            tenant,
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
            mode: PutMode::Upsert,
        },
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

fn plain(record: Record) -> Row {
    Row {
        value: String::from_utf8(record.value.to_vec()).unwrap(),
        revision: record.revision,
        expires: record.expires_at_ms,
    }
}

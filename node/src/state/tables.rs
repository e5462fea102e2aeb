//! What the state machine holds in memory: the counters, the settings, the tenants and what they use.
//!
//! All of it follows from the rows, and a restart builds it anew from them. Cloning is cheap: a batch works on a copy, which takes the
//! place of the original when the rows are written, and a view keeps the copy of its own moment.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use kvfleet_api::admin::{Settings, SettingsStatus};

use super::{
    Applied, ChangeCounts, DecodeError, Level, Tenant, TenantId,
    checks::Standing,
    codec::{
        self,
        fields::{self, Message},
    },
    digest::{Checkpoint, Checkpoints, Digest},
    tenant::Tenants,
    usage::{Usage, UsageTable},
};
use crate::storage::{
    self, Direction, KeyRange, Keyspace, Reader, StoreError,
    keys::{self, TenantRow},
};

/// The state in memory.
#[derive(Clone)]
pub(super) struct Tables {
    /// The last revision taken.
    pub(super) revision: u64,
    /// The last stamp.
    pub(super) clock_ms: u64,
    /// The id that the next tenant takes.
    pub(super) next_tenant: u32,
    /// The feature level of the group.
    pub(super) level: Level,
    /// The newest level that this program knows: no part of the state, and never below `level`.
    pub(super) known: Level,
    /// In force.
    pub(super) settings: Arc<SettingsStatus>,
    /// All of them.
    pub(super) tenants: Arc<Tenants>,
    /// What they use.
    pub(super) usage: UsageTable,
    /// No row of keyspace `ttl` lies before this key.
    pub(super) ttl_cursor: Vec<u8>,
    /// How many rows of tenants are expired, counted and not swept.
    pub(super) expired: u64,
    /// All rows of keyspace `ttl` before this key are counted in `expired` and in their tenant's usage, no other one is. It follows the
    /// clock, a bounded number of rows per entry.
    pub(super) ttl_counted: Vec<u8>,
    /// No uncounted record expires before this moment. A bound, not an exact figure: a deletion does not move it. Members may have
    /// different ones, but each has one up to the clock exactly while expired rows are left uncounted.
    pub(super) next_expiry_ms: u64,
    /// Of all records and tenants.
    pub(super) digest: Digest,
    /// Join tokens by number: whom each lets in, and when it ends, Unix milliseconds.
    pub(super) tokens: Arc<BTreeMap<u64, (u64, u64)>>,
    /// How many changes of records this member has applied since it started.
    pub(super) changes: ChangeCounts,
    /// Where members compare. Only in memory: after a restart there are none until the log reaches the next.
    pub(super) checkpoints: Checkpoints,
}

/// What of the tables is copied as a whole: everything but the tenants' counters, which are many.
pub(super) struct Counters {
    revision: u64,
    clock_ms: u64,
    next_tenant: u32,
    settings: Arc<SettingsStatus>,
    tenants: Arc<Tenants>,
    ttl_cursor: Vec<u8>,
    expired: u64,
    ttl_counted: Vec<u8>,
    next_expiry_ms: u64,
    digest: Digest,
    tokens: Arc<BTreeMap<u64, (u64, u64)>>,
}

/// What [`Tables::load`] finds.
pub(super) struct Loaded {
    pub(super) tables: Tables,
    pub(super) applied: Option<Applied>,
    pub(super) membership: Option<(Applied, Bytes)>,
}

impl Tables {
    /// Builds the tables from the rows, unless they are of a newer level than `known`: no row but those that say so is read then.
    pub(super) fn load(reader: &dyn Reader, known: Level) -> Result<Loaded, StoreError> {
        let mut tables = Tables {
            level: load_level(reader, known)?,
            known,
            revision: number(reader, keys::REVISION)?.unwrap_or(0),
            clock_ms: number(reader, keys::CLOCK)?.unwrap_or(0),
            next_tenant: 1,
            settings: Arc::new(SettingsStatus {
                revision: 0,
                settings: Settings::default(),
            }),
            tenants: Arc::default(),
            usage: UsageTable::default(),
            ttl_cursor: reader
                .get(Keyspace::Meta, keys::TTL_CURSOR)?
                .map(|cursor| cursor.to_vec())
                .unwrap_or_default(),
            expired: 0,
            ttl_counted: Vec::new(),
            next_expiry_ms: 0,
            digest: Digest::default(),
            tokens: Arc::default(),
            changes: ChangeCounts::default(),
            checkpoints: Checkpoints::default(),
        };
        if let Some(next) = number(reader, keys::NEXT_TENANT)? {
            tables.next_tenant = u32::try_from(next).map_err(|_| damaged(Keyspace::Meta, "the next tenant's id is too large"))?;
        }
        if let Some(row) = reader.get(Keyspace::Meta, keys::SETTINGS)? {
            tables.settings = Arc::new(decode_settings(&row).map_err(|error| damaged(Keyspace::Meta, error))?);
        }
        if let Some(row) = reader.get(Keyspace::Meta, keys::TOKENS)? {
            tables.tokens = Arc::new(decode_tokens(&row).map_err(|error| damaged(Keyspace::Meta, error))?);
        }
        tables.digest = match reader.get(Keyspace::Meta, keys::DIGEST)? {
            Some(row) => Digest::decode(&row).map_err(|error| damaged(Keyspace::Meta, error))?,
            // Rows from before there was a digest: it follows from them.
            None => Digest::of_rows(reader)?,
        };
        tables.load_tenants(reader)?;
        tables.load_usage(reader)?;
        tables.load_expired(reader)?;
        Ok(Loaded {
            tables,
            applied: load_applied(reader)?,
            membership: load_membership(reader)?,
        })
    }

    /// A copy of everything but the tenants' counters. What is added to the tables is to be added here: the pattern is whole.
    pub(super) fn counters(&self) -> Counters {
        let Tables {
            revision,
            clock_ms,
            next_tenant,
            settings,
            tenants,
            usage: _,
            ttl_cursor,
            expired,
            ttl_counted,
            next_expiry_ms,
            digest,
            tokens,
            // Raised by an entry of its own, which opens no mark.
            level: _,
            known: _,
            // Of batches, not of one that is being made.
            changes: _,
            // Taken between two entries, where no mark is open.
            checkpoints: _,
        } = self;
        Counters {
            revision: *revision,
            clock_ms: *clock_ms,
            next_tenant: *next_tenant,
            settings: Arc::clone(settings),
            tenants: Arc::clone(tenants),
            ttl_cursor: ttl_cursor.clone(),
            expired: *expired,
            ttl_counted: ttl_counted.clone(),
            next_expiry_ms: *next_expiry_ms,
            digest: *digest,
            tokens: Arc::clone(tokens),
        }
    }

    /// Puts such a copy back.
    pub(super) fn restore(&mut self, counters: Counters) {
        let Counters {
            revision,
            clock_ms,
            next_tenant,
            settings,
            tenants,
            ttl_cursor,
            expired,
            ttl_counted,
            next_expiry_ms,
            digest,
            tokens,
        } = counters;
        self.revision = revision;
        self.clock_ms = clock_ms;
        self.next_tenant = next_tenant;
        self.settings = settings;
        self.tenants = tenants;
        self.ttl_cursor = ttl_cursor;
        self.expired = expired;
        self.ttl_counted = ttl_counted;
        self.next_expiry_ms = next_expiry_ms;
        self.digest = digest;
        self.tokens = tokens;
    }

    /// Notes what the state is after this entry, if members compare there.
    pub(super) fn pass(&mut self, index: u64) {
        if index.is_multiple_of(super::digest::CHECKPOINT_ENTRIES) {
            let checkpoint = Checkpoint::of(self, index);
            self.checkpoints.push(checkpoint);
        }
    }

    fn load_tenants(&mut self, reader: &dyn Reader) -> Result<(), StoreError> {
        let mut tenants = Tenants::default();
        for row in reader.range(Keyspace::Tenants, KeyRange::ALL, Direction::Ascending) {
            let (key, value) = row?;
            match keys::parse_tenant(&key).ok_or_else(|| damaged(Keyspace::Tenants, "unknown key"))? {
                TenantRow::Config(id) => tenants.insert(Tenant::decode(id, &value).map_err(|error| damaged(Keyspace::Tenants, error))?),
                TenantRow::Grave(id) => tenants.bury(id, value.to_vec()),
            }
        }
        self.tenants = Arc::new(tenants);
        Ok(())
    }

    fn load_usage(&mut self, reader: &dyn Reader) -> Result<(), StoreError> {
        for row in reader.range(Keyspace::Usage, KeyRange::ALL, Direction::Ascending) {
            let (key, value) = row?;
            let tenant = keys::parse_usage(&key).ok_or_else(|| damaged(Keyspace::Usage, "unknown key"))?;
            let stored = Usage::decode(&value).map_err(|error| damaged(Keyspace::Usage, error))?;
            self.usage.change(tenant, |usage| *usage = stored);
        }
        Ok(())
    }

    /// Counts what the other members have counted, no more and no less: quotas are decided by it.
    fn load_expired(&mut self, reader: &dyn Reader) -> Result<(), StoreError> {
        match reader.get(Keyspace::Meta, keys::TTL_COUNTED)? {
            Some(counted) => (self.ttl_counted, self.next_expiry_ms) = (counted.to_vec(), self.clock_ms),
            None => self.all_counted(),
        }
        let counted = KeyRange {
            start: Bound::Included(self.ttl_cursor.clone()),
            end: Bound::Excluded(self.ttl_counted.clone()),
        };
        for row in reader.range(Keyspace::Ttl, counted, Direction::Ascending) {
            let (_, tenant, _) = parse_ttl(&row?.0)?;
            self.count_expired(tenant);
        }
        Ok(())
    }

    /// Counts a row of keyspace `ttl` as expired.
    pub(super) fn count_expired(&mut self, tenant: TenantId) {
        // Rows of a deleted tenant were taken off its counters when it was deleted.
        if self.tenants.by_id(tenant).is_some() {
            self.usage.change(tenant, |usage| usage.expired += 1);
            self.expired += 1;
        }
    }

    /// Every row is counted that is expired at the clock.
    pub(super) fn all_counted(&mut self) {
        self.ttl_counted = keys::ttl_end(self.clock_ms);
        self.next_expiry_ms = self.next_expiry_ms.max(self.clock_ms + 1);
    }

    /// What a tenant has, for its quotas.
    pub(super) fn standing(&self, tenant: TenantId) -> Standing {
        let usage = self.usage.get(tenant);
        Standing {
            bytes: usage.bytes,
            keys: usage.live(),
            expired: usage.expired,
            counting: self.counting(),
        }
    }

    /// Whether rows that are expired at the clock are left uncounted.
    pub(super) fn counting(&self) -> bool {
        self.next_expiry_ms <= self.clock_ms
    }

    /// The rows that are not counted, up to this moment.
    pub(super) fn uncounted(&self, moment_ms: u64) -> KeyRange {
        keys::ttl_until(self.ttl_counted.clone().max(self.ttl_cursor.clone()), moment_ms)
    }
}

/// Moment, tenant and key of a row of keyspace `ttl`.
pub(super) fn parse_ttl(row: &[u8]) -> Result<(u64, TenantId, &str), StoreError> {
    keys::parse_ttl(row).ok_or_else(|| damaged(Keyspace::Ttl, "unknown key"))
}

fn load_level(reader: &dyn Reader, known: Level) -> Result<Level, StoreError> {
    let Some(row) = number(reader, keys::LEVEL)? else {
        return Ok(Level::FIRST);
    };
    let level = u32::try_from(row).map_err(|_| damaged(Keyspace::Meta, "the level is too large"))?;
    known.admits(Level(level))
}

/// Refuses rows of another format; answers whether the store is new.
pub(super) fn check_format(reader: &dyn Reader) -> Result<bool, StoreError> {
    if storage::check_format(reader.get(Keyspace::Meta, keys::FORMAT)?.as_deref())? {
        return Ok(false);
    }
    let empty = reader
        .range(Keyspace::Meta, KeyRange::ALL, Direction::Ascending)
        .next()
        .transpose()?
        .is_none();
    if empty {
        Ok(true)
    } else {
        Err(damaged(Keyspace::Meta, "the format is missing"))
    }
}

pub(super) fn damaged(keyspace: Keyspace, reason: impl ToString) -> StoreError {
    StoreError::Damaged {
        keyspace: keyspace.name(),
        reason: reason.to_string(),
    }
}

pub(super) fn encode_number(value: u64) -> Bytes {
    fields::encode(codec::FORMAT, &(value,))
}

fn number(reader: &dyn Reader, key: &[u8]) -> Result<Option<u64>, StoreError> {
    let Some(row) = reader.get(Keyspace::Meta, key)? else {
        return Ok(None);
    };
    decode_number(&row).map(Some).map_err(|error| damaged(Keyspace::Meta, error))
}

pub(super) fn decode_number(row: &Bytes) -> Result<u64, DecodeError> {
    fields::decode(codec::FORMAT, "a number", row).map(|(value,)| value)
}

/// One field per token: its number, and the pair of the member and the end.
pub(super) fn encode_tokens(tokens: &BTreeMap<u64, (u64, u64)>) -> Bytes {
    let list: Vec<_> = tokens.iter().map(|(token, held)| (*token, *held)).collect();
    fields::encode(codec::FORMAT, &(list,))
}

fn decode_tokens(row: &Bytes) -> Result<BTreeMap<u64, (u64, u64)>, DecodeError> {
    let (list,): (Vec<_>,) = fields::decode(codec::FORMAT, "the join tokens", row)?;
    Ok(list.into_iter().collect())
}

pub(super) fn encode_settings(status: &SettingsStatus) -> Bytes {
    fields::encode(codec::FORMAT, status)
}

fn decode_settings(row: &Bytes) -> Result<SettingsStatus, DecodeError> {
    fields::decode(codec::FORMAT, "settings", row)
}

pub(super) fn encode_applied(applied: Applied) -> Bytes {
    fields::encode(codec::FORMAT, &applied)
}

pub(super) fn encode_membership(id: Applied, membership: &Bytes) -> Bytes {
    fields::encode(codec::FORMAT, &(id, membership.clone()))
}

fn load_applied(reader: &dyn Reader) -> Result<Option<Applied>, StoreError> {
    load(reader, keys::APPLIED, "a place in the log")
}

fn load_membership(reader: &dyn Reader) -> Result<Option<(Applied, Bytes)>, StoreError> {
    load(reader, keys::MEMBERSHIP, "a membership")
}

fn load<M: Message>(reader: &dyn Reader, key: &[u8], what: &'static str) -> Result<Option<M>, StoreError> {
    let row = reader.get(Keyspace::Meta, key)?;
    row.map(|row| fields::decode(codec::FORMAT, what, &row))
        .transpose()
        .map_err(|error| damaged(Keyspace::Meta, error))
}

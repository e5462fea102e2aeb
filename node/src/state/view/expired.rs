//! What readers see of records that have expired and are still there. In: a view, and a moment. Out: what a tenant uses, its records that wait
//! for a sweep, and when one is due. Absent: the sweeps. Every look is bounded: the expired records of all tenants lie mixed.

use super::View;
use crate::{
    state::{Bound, TenantId, checks::Standing, tables::parse_ttl},
    storage::{Direction, Keyspace, StoreError, keys},
};

/// How many expired records are looked at for one tenant's usage: some 10 ms.
const USAGE_ROWS: usize = 10_000;
/// How many are searched for those of one tenant: some 100 ms.
const SEARCHED_ROWS: usize = 100_000;
/// Keys for one sweep together, about.
const EXPIRED_BYTES: usize = 64 << 10;

/// Records of one tenant that wait for a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Their keys.
    pub keys: Vec<String>,
    /// Whether there are no others.
    pub whole: bool,
}

impl View {
    /// What the tenant has at this moment, for its quotas.
    ///
    /// From memory, unless expired records are left uncounted: then up to 10,000 of them, of all tenants, are read, and it blocks on
    /// the store.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn standing_at(&self, tenant: TenantId, now_ms: u64) -> Result<Standing, StoreError> {
        let mut standing = Standing {
            counting: false,
            ..self.tables.standing(tenant)
        };
        if self.tables.next_expiry_ms > now_ms {
            return Ok(standing);
        }
        let rows = self
            .reader
            .range(Keyspace::Ttl, self.tables.uncounted(now_ms), Direction::Ascending);
        for (looked, row) in rows.enumerate() {
            if looked == USAGE_ROWS {
                standing.counting = true;
                break;
            }
            if parse_ttl(&row?.0)?.1 == tenant {
                standing.keys = standing.keys.saturating_sub(1);
                standing.expired += 1;
            }
        }
        Ok(standing)
    }

    /// The same as far as it has been counted, from memory: records that have expired in the last moments, or together with very many
    /// others, may be among the keys.
    pub(crate) fn standing(&self, tenant: TenantId) -> Standing {
        self.tables.standing(tenant)
    }

    /// Keys of a tenant's records that are expired and not swept, earliest first: as many as one `SweepTenant` takes. Looks at up to
    /// 100,000 expired records of all tenants, which lie mixed. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn expired_of(&self, tenant: TenantId, now_ms: u64) -> Result<Expired, StoreError> {
        let mut expired = Expired {
            keys: Vec::new(),
            whole: true,
        };
        let mut bytes = 0;
        let waiting = keys::ttl_until(self.tables.ttl_cursor.clone(), self.moment(now_ms));
        for (looked, row) in self.reader.range(Keyspace::Ttl, waiting, Direction::Ascending).enumerate() {
            if looked == SEARCHED_ROWS || expired.keys.len() >= Bound::STEP.rows as usize || bytes >= EXPIRED_BYTES {
                expired.whole = false;
                break;
            }
            let (row, _) = row?;
            let (_, owner, key) = parse_ttl(&row)?;
            if owner == tenant {
                bytes += key.len();
                expired.keys.push(key.to_owned());
            }
        }
        Ok(expired)
    }

    /// When a sweep is due, Unix milliseconds: a moment that has passed means now; none when nothing expires until `until_ms`. What expires
    /// up to `looked_ms` is left out, if it is not counted. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn sweep_due(&self, looked_ms: u64, until_ms: u64) -> Result<Option<u64>, StoreError> {
        if self.tables.expired > 0 || self.tables.counting() {
            return Ok(Some(self.tables.clock_ms));
        }
        let from = self.tables.ttl_counted.clone().max(keys::ttl_end(looked_ms));
        let mut rows = self
            .reader
            .range(Keyspace::Ttl, keys::ttl_until(from, until_ms), Direction::Ascending);
        rows.next().map(|row| Ok(parse_ttl(&row?.0)?.0)).transpose()
    }
}

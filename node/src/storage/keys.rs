//! The layout of every key. Integers are big-endian and tenant ids are of fixed width, so nothing needs escaping, and bytewise order is
//! the order that a scan wants.
//!
//! ```text
//! keyspace  key                                             value (its first byte is a format; encoded in `state`)
//! meta      "format"                                        u64, not preceded by a format byte
//!           "applied"                                       term, leader, index of the last applied entry
//!           "membership"                                    log id, then raft's own bytes
//!           "rev"                                           last revision
//!           "clock"                                         last stamp, Unix milliseconds
//!           "next_tenant"                                   the id that the next tenant takes
//!           "ttl_cursor"                                    a key of keyspace ttl: no row lies before it
//!           "ttl_counted"                                   a key of keyspace ttl: the expired rows before it are counted as such; only
//!                                                           while more are expired at the clock
//!           "level"                                         the feature level; absent while it is the first
//!           "settings"                                      settings and the revision that they took
//!           "tokens"                                        join tokens: number, the member that each lets in, end
//!           "digest"                                        the sum of the hashes of all headers and tenants
//! tenants   'c' tenant:u32                                  name, state, configuration
//!           'g' tenant:u32                                  deleted, rows left: a key of keyspace records, no row lies before it
//! usage     tenant:u32                                      bytes and rows, expired ones that no sweep has met included
//! records   tenant:u32 key:UTF-8                            the record's header: everything but a value above 1 KiB
//! ttl       expires_ms:u64 tenant:u32 key:UTF-8             the record's revision
//! values    tenant:u32 key:UTF-8                            a value above 1 KiB, as it was sent, without a format byte
//! ```

use std::ops::Bound;

use super::KeyRange;
use crate::state::TenantId;

/// `meta`: the format version of all rows.
pub const FORMAT: &[u8] = b"format";
/// `meta`: the last applied entry.
pub const APPLIED: &[u8] = b"applied";
/// `meta`: the last applied membership.
pub const MEMBERSHIP: &[u8] = b"membership";
/// `meta`: the last revision.
pub const REVISION: &[u8] = b"rev";
/// `meta`: the last stamp.
pub const CLOCK: &[u8] = b"clock";
/// `meta`: the next tenant id.
pub const NEXT_TENANT: &[u8] = b"next_tenant";
/// `meta`: where the sweep goes on. Without it each sweep would walk the tombstones of all earlier ones.
pub const TTL_CURSOR: &[u8] = b"ttl_cursor";
/// `meta`: how far the expired rows are counted; absent when all are that have expired at the clock.
pub const TTL_COUNTED: &[u8] = b"ttl_counted";
/// `meta`: the feature level of the group.
pub const LEVEL: &[u8] = b"level";
/// `meta`: the shard's settings.
pub const SETTINGS: &[u8] = b"settings";
/// `meta`: whom join tokens have let in.
pub const TOKENS: &[u8] = b"tokens";
/// `meta`: the digest of records and tenants.
pub const DIGEST: &[u8] = b"digest";

const TENANT_CONFIG: u8 = b'c';
const TENANT_GRAVE: u8 = b'g';

/// `tenants`: a tenant's configuration.
pub fn tenant_config(tenant: TenantId) -> Vec<u8> {
    tagged(TENANT_CONFIG, tenant)
}

/// `tenants`: a deleted tenant whose rows are not all gone.
pub fn tenant_grave(tenant: TenantId) -> Vec<u8> {
    tagged(TENANT_GRAVE, tenant)
}

fn tagged(tag: u8, tenant: TenantId) -> Vec<u8> {
    [&[tag], tenant.0.to_be_bytes().as_slice()].concat()
}

/// `tenants`: what a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantRow {
    /// A configuration.
    Config(TenantId),
    /// A deleted tenant.
    Grave(TenantId),
}

/// `tenants`: the reverse of [`tenant_config`] and [`tenant_grave`].
pub fn parse_tenant(key: &[u8]) -> Option<TenantRow> {
    let (tag, id) = key.split_first()?;
    let id = TenantId(u32::from_be_bytes(id.try_into().ok()?));
    match *tag {
        TENANT_CONFIG => Some(TenantRow::Config(id)),
        TENANT_GRAVE => Some(TenantRow::Grave(id)),
        _ => None,
    }
}

/// `usage`: a tenant's counters.
pub fn usage(tenant: TenantId) -> Vec<u8> {
    tenant.0.to_be_bytes().to_vec()
}

/// `usage`: the reverse of [`usage`].
pub fn parse_usage(key: &[u8]) -> Option<TenantId> {
    Some(TenantId(u32::from_be_bytes(key.try_into().ok()?)))
}

/// `records`: a record.
pub fn record(tenant: TenantId, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + key.len());
    bytes.extend_from_slice(&tenant.0.to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// `records`: the reverse of [`record`].
pub fn parse_record(key: &[u8]) -> Option<(TenantId, &str)> {
    let (id, key) = key.split_first_chunk::<4>()?;
    Some((TenantId(u32::from_be_bytes(*id)), std::str::from_utf8(key).ok()?))
}

/// `records`: everything of a tenant that lies at or after `from` (a whole key of this keyspace).
pub fn records_of(tenant: TenantId, from: Vec<u8>) -> KeyRange {
    KeyRange {
        start: Bound::Included(from),
        end: tenant_end(tenant),
    }
}

/// `records`: the end of a tenant's rows.
pub fn tenant_end(tenant: TenantId) -> Bound<Vec<u8>> {
    tenant
        .0
        .checked_add(1)
        .map_or(Bound::Unbounded, |next| Bound::Excluded(next.to_be_bytes().to_vec()))
}

/// `ttl`: when a record expires.
pub fn ttl(expires_at_ms: u64, tenant: TenantId, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + key.len());
    bytes.extend_from_slice(&expires_at_ms.to_be_bytes());
    bytes.extend_from_slice(&tenant.0.to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// `ttl`: the reverse of [`ttl`].
pub fn parse_ttl(key: &[u8]) -> Option<(u64, TenantId, &str)> {
    let (expires, rest) = key.split_first_chunk::<8>()?;
    let (tenant, key) = parse_record(rest)?;
    Some((u64::from_be_bytes(*expires), tenant, key))
}

/// `ttl`: where the rows begin that expire after `moment_ms`.
pub fn ttl_end(moment_ms: u64) -> Vec<u8> {
    moment_ms.saturating_add(1).to_be_bytes().to_vec()
}

/// `ttl`: the rows from `from` on that expire at `moment_ms` or before. It ends there, and not at the next row: between the two may lie
/// the tombstones of every record that was refreshed or deleted before it expired.
pub fn ttl_until(from: Vec<u8>, moment_ms: u64) -> KeyRange {
    KeyRange {
        start: Bound::Included(from),
        end: Bound::Excluded(ttl_end(moment_ms)),
    }
}

/// The first key that does not begin with `prefix`, for the end of a range; none when every later key begins with it.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let (kept, _) = prefix.split_at(last + 1);
    let mut end = kept.to_vec();
    let byte = end.last_mut()?;
    *byte += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_keep_their_order() {
        let (a, b) = (TenantId(7), TenantId(0x0100_0000));
        assert_eq!(parse_record(&record(a, "x/y")), Some((a, "x/y")));
        assert_eq!(parse_ttl(&ttl(9, b, "k")), Some((9, b, "k")));
        assert_eq!(parse_usage(&usage(b)), Some(b));
        assert_eq!(parse_tenant(&tenant_config(a)), Some(TenantRow::Config(a)));
        assert_eq!(parse_tenant(&tenant_grave(b)), Some(TenantRow::Grave(b)));
        assert_eq!(parse_tenant(b"x1234"), None);
        assert!(record(a, "zzz") < record(b, "a"), "a tenant is one interval");
        assert!(
            ttl(255, b, "z") < ttl(256, a, "a"),
            "the earliest expiry comes first, whoever's it is"
        );
        assert!(ttl(255, b, "z") < ttl_end(255) && ttl_end(255) < ttl(256, TenantId(0), "a"));
    }

    #[test]
    fn a_prefix_ends_where_it_should() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(after_prefix(&[0xff, 0xff]), None);
        assert_eq!(tenant_end(TenantId(u32::MAX)), Bound::Unbounded);
    }
}

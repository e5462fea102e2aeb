//! Gives a record another end, without its value.

use super::{Refusal, Stop, Tenant, checks};
use crate::state::{Condition, Header, Ttl, codec::numbered::message, draft::Draft};

/// Gives a record another end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which.
    pub key: String,
    /// How long it lives, from now on.
    pub ttl: Ttl,
    /// What must hold before.
    pub condition: Condition,
}

message!(Touch {
    1 = key,
    2 = ttl,
    3 = condition,
});

/// A record that has another end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Its new revision.
    pub revision: u64,
    /// When it expires, Unix milliseconds.
    pub expires_at_ms: Option<u64>,
}

message!(Touched {
    1 = revision,
    2 = expires_at_ms,
});

impl Touch {
    /// A record that is absent or expired has no end to move.
    pub(super) fn apply(self, draft: &mut Draft, now_ms: u64, tenant: &Tenant) -> Result<Touched, Stop> {
        let Touch { key, ttl, condition } = self;
        let expires_at_ms = checks::expiry(ttl, now_ms, &tenant.config.limits)?;
        let record = draft.record(tenant.id, &key)?.filter(|record| !record.is_expired(now_ms));
        checks::condition(condition, record.as_ref().map(|record| record.revision))?;
        let Some(record) = record else {
            return Err(Refusal::PreconditionFailed { current: 0 }.into());
        };
        let revision = draft.take_revision();
        let header = Header {
            revision,
            updated_at_ms: now_ms,
            expires_at_ms,
            ..Header::clone(&record)
        };
        draft.put_header(tenant.id, &key, &record, header);
        Ok(Touched { revision, expires_at_ms })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kvfleet_api::tenant::TenantLimits;

    use crate::state::{
        Command, Condition, Done, INLINE_BYTES, Operation, Proposal, Refusal, Response, Touch, Touched, Ttl,
        tests::{ACME, START, Shard, put_with, refused},
    };

    fn touch(key: &str, ttl: Ttl, condition: Condition) -> Command {
        let key = key.to_owned();
        Command::one(ACME, Operation::Touch(Touch { key, ttl, condition }))
    }

    fn touched(revision: u64, expires_at_ms: Option<u64>) -> Response {
        Response::Written {
            answers: vec![Ok(Done::Touched(Touched { revision, expires_at_ms }))],
        }
    }

    #[test]
    fn a_record_gets_another_end_and_keeps_its_value() {
        let mut shard = Shard::with(TenantLimits::default());
        for value in ["small".to_owned(), "large".repeat(INLINE_BYTES)] {
            shard.run(put_with("k", &value, Ttl::For(5_000), Condition::None));
            let used = shard.used();
            let before = shard.view().get(ACME, "k", shard.now_ms).unwrap().unwrap();
            shard.pass(1_000);
            let end = shard.now_ms + 60_000;
            let answer = shard.run(touch("k", Ttl::For(60_000), Condition::Revision(before.revision)));
            assert_eq!(answer, touched(before.revision + 1, Some(end)));
            let after = shard.view().get(ACME, "k", shard.now_ms).unwrap().unwrap();
            assert_eq!((after.value, after.create_revision), (before.value, before.create_revision));
            assert_eq!((after.updated_at_ms, after.expires_at_ms), (shard.now_ms, Some(end)));
            assert_eq!(shard.used(), used);
            shard.pass(30_000);
            assert_eq!(shard.value("k"), Some(value), "its first end is forgotten");
            assert_eq!(
                shard.run(touch("k", Ttl::Never, Condition::None)),
                touched(before.revision + 2, None)
            );
            assert_eq!(shard.due(), None);
            shard.view().scrub().unwrap();
            shard = shard.reopen();
        }
    }

    #[test]
    fn what_is_not_there_has_no_end() {
        let mut shard = Shard::with(TenantLimits::default());
        let absent = refused(Refusal::PreconditionFailed { current: 0 });
        assert_eq!(shard.run(touch("k", Ttl::Never, Condition::None)), absent);
        shard.run(put_with("k", "v", Ttl::For(1_000), Condition::None));
        assert_eq!(shard.run(touch("k", Ttl::For(1), Condition::None)), refused(Refusal::TtlTooShort));
        shard.pass(1_000);
        assert_eq!(shard.run(touch("k", Ttl::Never, Condition::None)), absent);
        assert_eq!(shard.view().revision(), 2, "a refusal takes no revision");
    }

    #[test]
    fn the_bytes_stay() {
        let proposal = Proposal {
            stamp_ms: START,
            command: touch("k", Ttl::Never, Condition::Present),
        };
        let golden = b"\x02\x08\x80\xd0\x95\xff\xbc\x31\x12\x13\x0a\x11\x08\x01\x22\x0d\x1a\x0b\x0a\x01k\x12\x02\x0a\0\x1a\x02\x0a\0";
        assert_eq!(proposal.encode(), Bytes::from_static(golden));
        assert_eq!(Proposal::decode(&Bytes::from_static(golden)).unwrap(), proposal);
        let answer = touched(7, Some(9));
        assert_eq!(Response::decode(&answer.encode()).unwrap(), answer);
    }
}

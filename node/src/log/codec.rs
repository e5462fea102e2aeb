//! Fixed little-endian fields: how numbers, log ids and votes are laid out in headers, marks and records. In: values or bytes. Out:
//! the other. Absent: framing and checksums (`record`, `segment`).

use super::entry::{LogId, Vote};

const VOTED: u8 = 1;
const VOTE_COMMITTED: u8 = 2;

/// Takes fields off the front of a slice; `None` as soon as one is short or holds an impossible value.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn log_id(&mut self) -> Option<LogId> {
        Some(LogId {
            term: self.u64()?,
            leader: self.u64()?,
            index: self.u64()?,
        })
    }

    /// A presence byte and always 24 more, so that every field after it stands at a fixed place.
    pub(super) fn optional_log_id(&mut self) -> Option<Option<LogId>> {
        let present = self.u8()?;
        let id = self.log_id()?;
        match present {
            0 => Some(None),
            1 => Some(Some(id)),
            _ => None,
        }
    }

    pub(super) fn vote(&mut self) -> Option<Vote> {
        let term = self.u64()?;
        let flags = self.u8()?;
        let candidate = self.u64()?;
        if flags & !(VOTED | VOTE_COMMITTED) != 0 {
            return None;
        }
        Some(Vote {
            term,
            voted_for: (flags & VOTED != 0).then_some(candidate),
            committed: flags & VOTE_COMMITTED != 0,
        })
    }

    /// Everything that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

pub(super) fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    out.extend_from_slice(&id.term.to_le_bytes());
    out.extend_from_slice(&id.leader.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
}

pub(super) fn put_optional_log_id(out: &mut Vec<u8>, id: Option<LogId>) {
    out.push(u8::from(id.is_some()));
    put_log_id(
        out,
        id.unwrap_or(LogId {
            term: 0,
            leader: 0,
            index: 0,
        }),
    );
}

pub(super) fn put_vote(out: &mut Vec<u8>, vote: Vote) {
    out.extend_from_slice(&vote.term.to_le_bytes());
    let voted = if vote.voted_for.is_some() { VOTED } else { 0 };
    let committed = if vote.committed { VOTE_COMMITTED } else { 0 };
    out.push(voted | committed);
    out.extend_from_slice(&vote.voted_for.unwrap_or(0).to_le_bytes());
}

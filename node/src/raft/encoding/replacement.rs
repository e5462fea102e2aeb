//! The bodies of `Release` (may a member put its data aside?) and `Join` (take this member into the place of another). Numbers are
//! big-endian, texts have their length (u16) in front.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvfleet_api::admin::MemberAddress;

use super::{
    Read, Unreadable, end, get_flag,
    membership::{get_text, put_text},
};
use crate::{
    peer::PeerAddress,
    raft::replacement::{Admission, JoinAnswer, JoinRequest, ReleaseAnswer, ReleaseRequest},
};

impl ReleaseRequest {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let ReleaseRequest { old, name, only_ask } = self;
        let mut bytes = BytesMut::with_capacity(16 + name.len());
        bytes.put_u8(u8::from(*only_ask));
        // No member has the id 0.
        bytes.put_u64(old.unwrap_or(0));
        put_text(&mut bytes, name);
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let only_ask = get_flag(&mut bytes, "only ask")?;
        let old = bytes.try_get_u64()?;
        let name = get_text(&mut bytes)?;
        end(&bytes)?;
        Ok(ReleaseRequest {
            old: (old != 0).then_some(old),
            name,
            only_ask,
        })
    }
}

impl ReleaseAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        match self {
            ReleaseAnswer::Granted { replaces } => {
                bytes.put_u8(0);
                bytes.put_u64(*replaces);
            }
            ReleaseAnswer::Left => bytes.put_u8(1),
            ReleaseAnswer::Member => bytes.put_u8(2),
            ReleaseAnswer::Elsewhere(leader) => {
                bytes.put_u8(3);
                bytes.put_u8(u8::from(leader.is_some()));
                if let Some(PeerAddress { id, address }) = leader {
                    bytes.put_u64(*id);
                    put_text(&mut bytes, address);
                }
            }
            ReleaseAnswer::Refused(reason) => {
                bytes.put_u8(4);
                put_text(&mut bytes, reason);
            }
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let answer = match bytes.try_get_u8()? {
            0 => ReleaseAnswer::Granted {
                replaces: bytes.try_get_u64()?,
            },
            1 => ReleaseAnswer::Left,
            2 => ReleaseAnswer::Member,
            3 => ReleaseAnswer::Elsewhere(if get_flag(&mut bytes, "leader")? {
                Some(PeerAddress {
                    id: bytes.try_get_u64()?,
                    address: get_text(&mut bytes)?,
                })
            } else {
                None
            }),
            4 => ReleaseAnswer::Refused(get_text(&mut bytes)?),
            value => {
                return Err(Unreadable::Unknown {
                    field: "release answer",
                    value: u64::from(value),
                });
            }
        };
        end(&bytes)?;
        Ok(answer)
    }
}

/// A wish to join. Answered by [`JoinAnswer`].
pub(in crate::raft) struct JoinCall {
    /// How long the asker still waits.
    pub(in crate::raft) patience_ms: u32,
    pub(in crate::raft) request: JoinRequest,
}

impl JoinCall {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let JoinCall {
            patience_ms,
            request: JoinRequest { by, itself },
        } = self;
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32(*patience_ms);
        bytes.put_u64(match by {
            Admission::Replaces(replaces) => *replaces,
            // No member has this id; the token follows.
            Admission::Token(_) => 0,
        });
        bytes.put_u64(itself.id);
        put_text(&mut bytes, &itself.name);
        put_text(&mut bytes, &itself.peer);
        if let Admission::Token(token) = by {
            put_text(&mut bytes, token);
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let patience_ms = bytes.try_get_u32()?;
        let replaces = bytes.try_get_u64()?;
        let itself = MemberAddress {
            id: bytes.try_get_u64()?,
            name: get_text(&mut bytes)?,
            peer: get_text(&mut bytes)?,
            voter: true,
        };
        let by = match replaces {
            0 => Admission::Token(get_text(&mut bytes)?),
            replaces => Admission::Replaces(replaces),
        };
        end(&bytes)?;
        Ok(JoinCall {
            patience_ms,
            request: JoinRequest { by, itself },
        })
    }
}

impl JoinAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        match self {
            JoinAnswer::Done => bytes.put_u8(0),
            JoinAnswer::NoPlace => bytes.put_u8(1),
            JoinAnswer::Elsewhere => bytes.put_u8(2),
            JoinAnswer::Refused(reason) => {
                bytes.put_u8(3);
                put_text(&mut bytes, reason);
            }
            JoinAnswer::Never(reason) => {
                bytes.put_u8(4);
                put_text(&mut bytes, reason);
            }
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let answer = match bytes.try_get_u8()? {
            0 => JoinAnswer::Done,
            1 => JoinAnswer::NoPlace,
            2 => JoinAnswer::Elsewhere,
            3 => JoinAnswer::Refused(get_text(&mut bytes)?),
            4 => JoinAnswer::Never(get_text(&mut bytes)?),
            value => {
                return Err(Unreadable::Unknown {
                    field: "join answer",
                    value: u64::from(value),
                });
            }
        };
        end(&bytes)?;
        Ok(answer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// Golden bytes: members of two versions speak them to each other.
    #[test]
    fn the_bytes_stay() {
        let request = ReleaseRequest {
            old: Some(7),
            name: "a".to_owned(),
            only_ask: true,
        };
        let golden = Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, b'a']);
        assert_eq!(request.encode(), golden);
        assert_eq!(ReleaseRequest::decode(golden).unwrap(), request);
        let call = JoinCall {
            patience_ms: 1,
            request: JoinRequest {
                by: Admission::Replaces(7),
                itself: MemberAddress {
                    id: 9,
                    name: "a".to_owned(),
                    peer: "a:1".to_owned(),
                    voter: true,
                },
            },
        };
        let mut golden = vec![0, 0, 0, 1];
        golden.extend(7_u64.to_be_bytes());
        golden.extend(9_u64.to_be_bytes());
        golden.extend([0, 1, b'a', 0, 3, b'a', b':', b'1']);
        assert_eq!(call.encode(), golden);
        let read = JoinCall::decode(Bytes::from(golden)).unwrap();
        assert_eq!((read.patience_ms, &read.request), (1, &call.request));
        let mut call = call;
        call.request.by = Admission::Token("t".to_owned());
        let mut golden = vec![0, 0, 0, 1];
        golden.extend(0_u64.to_be_bytes());
        golden.extend(9_u64.to_be_bytes());
        golden.extend([0, 1, b'a', 0, 3, b'a', b':', b'1', 0, 1, b't']);
        assert_eq!(call.encode(), golden);
        assert_eq!(JoinCall::decode(Bytes::from(golden)).unwrap().request, call.request);
        for (answer, golden) in [
            (JoinAnswer::Done, &[0][..]),
            (JoinAnswer::NoPlace, &[1]),
            (JoinAnswer::Elsewhere, &[2]),
            (JoinAnswer::Refused("no".to_owned()), &[3, 0, 2, b'n', b'o']),
            (JoinAnswer::Never("no".to_owned()), &[4, 0, 2, b'n', b'o']),
        ] {
            assert_eq!(answer.encode(), golden);
            assert_eq!(JoinAnswer::decode(Bytes::copy_from_slice(golden)).unwrap(), answer);
        }
        let leader = PeerAddress {
            id: 2,
            address: "b:1".to_owned(),
        };
        let answers: [(ReleaseAnswer, &[u8]); 6] = [
            (ReleaseAnswer::Granted { replaces: 7 }, &[0, 0, 0, 0, 0, 0, 0, 0, 7]),
            (ReleaseAnswer::Left, &[1]),
            (ReleaseAnswer::Member, &[2]),
            (
                ReleaseAnswer::Elsewhere(Some(leader)),
                &[3, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, b'b', b':', b'1'],
            ),
            (ReleaseAnswer::Elsewhere(None), &[3, 0]),
            (ReleaseAnswer::Refused("no".to_owned()), &[4, 0, 2, b'n', b'o']),
        ];
        for (answer, golden) in answers {
            assert_eq!(answer.encode(), golden);
            assert_eq!(ReleaseAnswer::decode(Bytes::copy_from_slice(golden)).unwrap(), answer);
            for length in 0..golden.len() {
                assert!(
                    ReleaseAnswer::decode(Bytes::copy_from_slice(&golden[..length])).is_err(),
                    "{length}"
                );
            }
        }
    }
}

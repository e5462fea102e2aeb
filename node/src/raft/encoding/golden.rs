//! The bytes of every call and answer, kept in a file: members of two versions speak them to each other.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use kvfleet_api::{admin::MemberAddress, error::Outcome};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse};

use super::*;
use crate::{
    peer::{PeerAddress, golden},
    raft::{
        Admission, Barrier, Change, JoinAnswer, JoinRequest, MembershipError, MembershipRefusal, ProposeError, ReleaseAnswer,
        ReleaseRequest,
        freshness::Told,
        types::{Entry, Member, Membership, log_id, vote},
    },
    state::Level,
};

/// Reads bytes and writes what was read; none when they cannot be read.
type Again = fn(Bytes) -> Option<Bytes>;
type Sample = (String, Bytes, Again);

macro_rules! again {
    ($type:ty) => {
        |bytes| <$type>::decode(bytes).ok().map(|value| value.encode())
    };
}

fn membership() -> Membership {
    let member = |id: u64, name: &str| {
        let (name, peer) = (name.to_owned(), format!("{name}:7400"));
        (id, Member { name, peer })
    };
    let members = BTreeMap::from([member(1, "a"), member(2, "b"), member(3, "c")]);
    Membership::new(vec![BTreeSet::from([1, 2])], members).unwrap()
}

fn address(voter: bool) -> MemberAddress {
    MemberAddress {
        id: 7,
        name: "m".to_owned(),
        peer: "m:7400".to_owned(),
        voter,
    }
}

fn append(stream: Option<u64>, told: Option<Told>, entries: Vec<Entry>) -> AppendCall {
    AppendCall {
        stream,
        told,
        unneeded: 8,
        request: AppendEntriesRequest {
            vote: vote(4, 5, true),
            prev_log_id: stream.map(|_| log_id(4, 5)),
            entries,
            leader_commit: Some(log_id(4, 6)),
        },
    }
}

fn appends(list: &mut Vec<Sample>) {
    let told = Told {
        tick: 1,
        index: 2,
        age_us: 3,
    };
    let payloads = [
        Payload::Blank,
        Payload::Normal(Data(Bytes::from_static(b"\x01proposal"))),
        Payload::Membership(membership()),
    ];
    let entry = |(index, payload)| Entry {
        log_id: log_id(4, index),
        payload,
    };
    let entries = (6..).zip(payloads).map(entry).collect();
    list.push((
        "append heartbeat".into(),
        append(None, Some(told), vec![]).encode(),
        again!(AppendCall),
    ));
    list.push(("append entries".into(), append(Some(9), None, entries).encode(), again!(AppendCall)));
    let results = [
        ("stored", Ok(Some(log_id(4, 6)))),
        ("conflict", Err(StreamAppendError::Conflict(log_id(4, 6)))),
        ("higher vote", Err(StreamAppendError::HigherVote(vote(9, 1, false)))),
    ];
    for (name, result) in results {
        list.push((format!("appended {name}"), Answered { tick: 7, result }.encode(), again!(Answered)));
    }
}

fn votes(list: &mut Vec<Sample>) {
    let mut request = VoteRequest::new(vote(3, 9, false), Some(log_id(2, 8)));
    request.leadership_transfer = true;
    list.push(("vote".into(), encode_vote_call(&request), |bytes| {
        decode_vote_call(bytes).ok().map(|call| encode_vote_call(&call))
    }));
    let answer = VoteResponse::new(vote(3, 9, false), None, true);
    list.push(("vote answer".into(), encode_vote_answer(&answer), |bytes| {
        decode_vote_answer(bytes).ok().map(|answer| encode_vote_answer(&answer))
    }));
    let transfer = TransferLeaderRequest::new(vote(3, 9, true), 5, Some(log_id(3, 8)));
    list.push(("transfer".into(), TransferAnswer::encode_call(&transfer), |bytes| {
        TransferAnswer::decode_call(bytes)
            .ok()
            .map(|call| TransferAnswer::encode_call(&call))
    }));
    let changed = TransferLeaderError::VoteChanged {
        expected: vote(3, 9, true),
        actual: vote(4, 1, false),
    };
    let behind = TransferLeaderError::LogNotFlushed {
        expected: Some(log_id(3, 8)),
        actual: None,
    };
    for (name, answer) in [("done", Ok(())), ("vote changed", Err(changed)), ("log not flushed", Err(behind))] {
        list.push((
            format!("transfer answer {name}"),
            TransferAnswer(answer).encode(),
            again!(TransferAnswer),
        ));
    }
}

fn commands(list: &mut Vec<Sample>) {
    let forward = ForwardCall {
        patience_ms: 900,
        proposal: Bytes::from_static(b"\x01proposal"),
        cost: 300,
    };
    list.push(("forward".into(), forward.encode(), again!(ForwardCall)));
    let outcome = Outcome::Unknown;
    let not_yet_supported = ProposeError::NotYetSupported {
        needs: Level(3),
        level: Level(2),
    };
    let answers = [
        ("again", ForwardAnswer::Again),
        ("no leader", ForwardAnswer::Done(Err(ProposeError::NoLeader { outcome }))),
        ("deadline", ForwardAnswer::Done(Err(ProposeError::Deadline { outcome }))),
        ("too large", ForwardAnswer::Done(Err(ProposeError::TooLarge))),
        ("failed", ForwardAnswer::Done(Err(ProposeError::Failed("no".to_owned())))),
        ("no room", ForwardAnswer::Done(Err(ProposeError::NoRoom))),
        ("overloaded", ForwardAnswer::Done(Err(ProposeError::Overloaded))),
        ("not yet supported", ForwardAnswer::Done(Err(not_yet_supported))),
    ];
    for (name, answer) in answers {
        list.push((format!("forward answer {name}"), answer.encode(), again!(ForwardAnswer)));
    }
}

fn reads(list: &mut Vec<Sample>) {
    for barrier in [Barrier::Quorum, Barrier::Lease] {
        let read = ReadCall {
            patience_ms: 900,
            barrier: barrier.into(),
        };
        list.push((format!("read {barrier:?}"), read.encode(), again!(ReadCall)));
    }
    let at = ReadAnswer::At { index: 3, stamp_ms: 5 };
    list.push(("read answer".into(), at.encode(), again!(ReadAnswer)));
    list.push(("read answer again".into(), ReadAnswer::Again.encode(), again!(ReadAnswer)));
    let wait = WaitCall {
        patience_ms: 5_000,
        revision: 77,
    };
    list.push(("wait".into(), wait.encode(), again!(WaitCall)));
    list.push(("wait answer".into(), WaitAnswer { applied: true }.encode(), again!(WaitAnswer)));
}

fn members(list: &mut Vec<Sample>) {
    list.push(("membership".into(), encode_membership(&membership()), |bytes| {
        decode_membership(bytes).ok().map(|membership| encode_membership(&membership))
    }));
    let known = KnownMembership {
        at: Some(log_id(2, 3)),
        membership: membership(),
    };
    list.push(("members ask".into(), MembershipCall::Ask.encode(), again!(MembershipCall)));
    list.push(("members known".into(), known.encode(), again!(KnownMembership)));
    let changes = [
        ("add", Change::AddLearner(address(false))),
        ("promote", Change::Promote { id: 7 }),
        ("remove", Change::Remove { id: 7 }),
        (
            "replace",
            Change::Replace {
                old: 9,
                new: address(false),
            },
        ),
    ];
    for (name, change) in changes {
        let call = MembershipCall::Change { patience_ms: 5, change };
        list.push((format!("members {name}"), call.encode(), again!(MembershipCall)));
    }
    let refused = MembershipRefusal::ALL.map(|refusal| {
        let detail = "why".to_owned();
        (format!("refused {refusal:?}"), Err(MembershipError::Refused { refusal, detail }))
    });
    let others = [
        ("done".to_owned(), Ok(())),
        ("running".to_owned(), Err(MembershipError::StillRunning("far".to_owned()))),
        ("failed".to_owned(), Err(MembershipError::Failed("broken".to_owned()))),
    ];
    for (name, answer) in others.into_iter().chain(refused) {
        list.push((format!("members {name}"), ChangeAnswer::Done(answer).encode(), again!(ChangeAnswer)));
    }
    list.push(("members again".into(), ChangeAnswer::Again.encode(), again!(ChangeAnswer)));
}

fn places(list: &mut Vec<Sample>) {
    let request = ReleaseRequest {
        old: Some(7),
        name: "a".to_owned(),
        only_ask: true,
    };
    list.push(("release".into(), request.encode(), again!(ReleaseRequest)));
    let (id, address_of) = (2, "b:1".to_owned());
    let leader = PeerAddress { id, address: address_of };
    let no = || "no".to_owned();
    let answers = [
        ("granted", ReleaseAnswer::Granted { replaces: 7 }),
        ("left", ReleaseAnswer::Left),
        ("member", ReleaseAnswer::Member),
        ("elsewhere", ReleaseAnswer::Elsewhere(Some(leader))),
        ("unknown leader", ReleaseAnswer::Elsewhere(None)),
        ("refused", ReleaseAnswer::Refused(no())),
    ];
    for (name, answer) in answers {
        list.push((format!("release answer {name}"), answer.encode(), again!(ReleaseAnswer)));
    }
    for (name, by) in [("replaces", Admission::Replaces(7)), ("token", Admission::Token("t".to_owned()))] {
        let call = JoinCall {
            patience_ms: 1,
            request: JoinRequest { by, itself: address(true) },
        };
        list.push((format!("join {name}"), call.encode(), again!(JoinCall)));
    }
    let answers = [
        ("done", JoinAnswer::Done),
        ("no place", JoinAnswer::NoPlace),
        ("elsewhere", JoinAnswer::Elsewhere),
        ("refused", JoinAnswer::Refused(no())),
        ("never", JoinAnswer::Never(no())),
    ];
    for (name, answer) in answers {
        list.push((format!("join answer {name}"), answer.encode(), again!(JoinAnswer)));
    }
}

fn copies(list: &mut Vec<Sample>) {
    for (name, step) in [
        ("frame", SnapshotStep::Frame(Bytes::from_static(b"frame"))),
        ("install", SnapshotStep::Install),
    ] {
        let call = SnapshotCall {
            vote: vote(3, 9, true),
            transfer: 7,
            number: 2,
            step,
        };
        list.push((format!("snapshot {name}"), call.encode(), again!(SnapshotCall)));
    }
    let answers = [
        ("taken", SnapshotAnswer::Taken),
        ("higher vote", SnapshotAnswer::HigherVote(vote(4, 1, false))),
        ("refused", SnapshotAnswer::Refused("no".to_owned())),
        ("installed", SnapshotAnswer::Installed(vote(4, 1, true))),
    ];
    for (name, answer) in answers {
        list.push((format!("snapshot answer {name}"), answer.encode(), again!(SnapshotAnswer)));
    }
    let checkpoints = CheckpointsAnswer::of([(1, 2, 3)].into_iter());
    list.push(("checkpoints answer".into(), checkpoints.encode(), again!(CheckpointsAnswer)));
}

fn all() -> Vec<Sample> {
    let mut list = Vec::new();
    for part in [appends, votes, commands, reads, members, places, copies] {
        part(&mut list);
    }
    list
}

#[test]
fn golden_calls_stay_as_they_are_and_come_out_as_they_went_in() {
    golden::check("calls", all().iter().map(|(name, bytes, _)| (name.as_str(), bytes.as_ref())));
    for (name, bytes, again) in all() {
        assert_eq!(again(bytes.clone()), Some(bytes), "{name}");
    }
}

/// A later program adds fields at the end, and a head grows in its middle.
#[test]
fn what_a_later_program_adds_is_skipped() {
    for (name, bytes, again) in all() {
        if name == "snapshot frame" {
            // Its end is the frame, which `state` reads.
            continue;
        }
        let mut longer = BytesMut::from(bytes.as_ref());
        if !name.starts_with("append ") {
            // Field 1000, a text.
            longer.put_slice(b"\xc2\x3e");
            longer.put_u8(4);
        }
        longer.put_slice(b"more");
        assert_eq!(again(longer.freeze()), Some(bytes), "{name}");
    }
    for (name, at) in [("append entries", 1), ("snapshot frame", 0)] {
        let (_, bytes, again) = all().into_iter().find(|(found, ..)| found == name).unwrap();
        let head = usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        let grown = u16::try_from(head + 3).unwrap().to_be_bytes();
        let longer = [&bytes[..at], &grown, &bytes[at + 2..at + 2 + head], b"new", &bytes[at + 2 + head..]].concat();
        assert_eq!(again(longer.into()), Some(bytes), "{name}");
    }
}

/// A cut in the middle of a field or of a head is found. One between two fields cannot be: there TLS and the frame's length are the check.
#[test]
fn no_cut_is_taken_for_the_whole() {
    for (name, bytes, again) in all() {
        for length in 0..bytes.len() {
            let cut = again(bytes.slice(..length));
            assert!(cut.as_ref() != Some(&bytes), "{name} of {length} bytes");
            if name.starts_with("append ") {
                assert_eq!(cut, None, "{name} of {length} bytes");
            }
        }
    }
}

#[test]
fn bodies_that_say_nothing_are_no_answers() {
    let unread = |name: &str| name.contains(" answer") || name.starts_with("appended") || name == "vote" || name == "members ask";
    let listed = all();
    let asked: Vec<_> = listed
        .iter()
        .filter(|(name, ..)| unread(name) && !name.starts_with("wait") && !name.starts_with("checkpoints"))
        .collect();
    assert!(asked.len() > 20);
    for (name, _, again) in asked {
        assert_eq!(again(Bytes::new()), None, "{name}");
    }
}

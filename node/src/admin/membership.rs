//! `POST /admin/members`, `POST /admin/members/{id}/promote`, `POST /admin/members/{id}/replace`, `DELETE /admin/members/{id}`: who belongs
//! to the group. Any member takes them; the leader carries them out. All may be sent again: what already holds is answered as done.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use kvfleet_api::{
    Code, Problem,
    admin::{MemberAddress, MembersChanged, NewMember},
};

use super::{Member, body, failure};
use crate::{
    problem::{Failure, trace_id},
    raft::{Change, MembershipError, MembershipRefusal},
};

/// The longest name or address: a DNS name has 253 characters, a port six more.
const TEXT: usize = 260;

type Answer = Result<(StatusCode, Json<MembersChanged>), Failure>;

/// 202: it is a learner now, and catches up.
pub(super) async fn add(State(member): State<Member>, body: Bytes) -> Answer {
    let new = new_member(&body)?;
    let (_, Json(mut changed)) = change(&member, Change::AddLearner(new)).await?;
    if changed.done {
        changed.note = Some("it is a learner and catches up: GET /admin/members of the leader tells its lag; promote it then".to_owned());
    }
    Ok((StatusCode::ACCEPTED, Json(changed)))
}

pub(super) async fn promote(State(member): State<Member>, Path(id): Path<String>) -> Answer {
    let id = parse(&id)?;
    change(&member, Change::Promote { id }).await
}

pub(super) async fn remove(State(member): State<Member>, Path(id): Path<String>) -> Answer {
    let id = parse(&id)?;
    change(&member, Change::Remove { id }).await
}

/// 202 while the new member catches up.
pub(super) async fn replace(State(member): State<Member>, Path(old): Path<String>, body: Bytes) -> Answer {
    let old = parse(&old)?;
    let new = new_member(&body)?;
    change(&member, Change::Replace { old, new }).await
}

async fn change(member: &Member, change: Change) -> Answer {
    let running = match member.group.change_members(change, member.deadline()).await {
        Ok(()) => None,
        Err(MembershipError::StillRunning(progress)) => Some(progress),
        Err(error) => return Err(problem(error).into()),
    };
    let voters = member.group.status().members.iter().filter(|member| member.voter).count();
    let done = running.is_none();
    let changed = MembersChanged {
        done,
        voters: u32::try_from(voters).unwrap_or(u32::MAX),
        note: running.or_else(|| even(voters)),
    };
    Ok((if done { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(changed)))
}

/// An even number is a step on the way, not a place to stay.
fn even(voters: usize) -> Option<String> {
    (voters > 0 && voters.is_multiple_of(2)).then(|| {
        format!(
            "{voters} voters bear the loss of {}, as {} do: add or remove one more",
            (voters - 1) / 2,
            voters - 1
        )
    })
}

fn parse(id: &str) -> Result<u64, Failure> {
    id.parse().map_err(|_| {
        let mut problem = Problem::new(
            Code::InvalidParameter,
            format!("`{id}` is not a member id (a decimal number up to 2^64-1)"),
            trace_id(),
        );
        problem.pointer = Some("id".to_owned());
        problem.into()
    })
}

fn new_member(body: &Bytes) -> Result<MemberAddress, Failure> {
    let NewMember { id, name, peer } = body::parse(body)?;
    let refuse = |pointer: &str, detail: &str| {
        let mut problem = Problem::new(Code::InvalidBody, detail, trace_id());
        problem.pointer = Some(pointer.to_owned());
        Err(problem.into())
    };
    if id == 0 {
        return refuse("/id", "no member has the id 0; GET /admin/members of the new member tells its own");
    }
    if name.is_empty() || name.len() > TEXT {
        return refuse("/name", "the name must have between 1 and 260 characters");
    }
    let port = peer
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .map(|(_, port)| port.parse::<u16>());
    if peer.len() > TEXT || !matches!(port, Some(Ok(_))) {
        return refuse("/peer", "the address of its peer port must be host:port");
    }
    Ok(MemberAddress {
        id,
        name,
        peer,
        voter: false,
    })
}

fn problem(error: MembershipError) -> Problem {
    match error {
        MembershipError::Refused { refusal, detail } => {
            let mut problem = failure::conflict(detail);
            // What time or a member that comes back can change.
            problem.retryable = matches!(
                refusal,
                MembershipRefusal::QuorumAtRisk
                    | MembershipRefusal::NotCaughtUp
                    | MembershipRefusal::OtherChange
                    | MembershipRefusal::Unreachable
            );
            problem
        }
        MembershipError::StillRunning(detail) => Problem::new(Code::DeadlineExceeded, detail, trace_id()),
        MembershipError::NoLeader => Problem::new(
            Code::NoLeader,
            "the shard has no leader that can change its members; try again",
            trace_id(),
        ),
        MembershipError::Draining => Problem::new(Code::Draining, "this member is shutting down; ask another", trace_id()),
        MembershipError::Failed(reason) => failure::internal(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_number_of_voters_is_remarked_on() {
        assert_eq!(even(3), None);
        assert_eq!(
            even(4).as_deref(),
            Some("4 voters bear the loss of 1, as 3 do: add or remove one more")
        );
        assert!(even(2).is_some_and(|note| note.contains("loss of 0, as 1 do")));
    }

    #[test]
    fn a_new_member_needs_an_id_a_name_and_an_address() {
        let parsed = |text: &'static str| new_member(&Bytes::from_static(text.as_bytes()));
        let member = parsed(r#"{"id": "18446744073709551615", "name": "m", "peer": "[::1]:7400"}"#).expect("a whole one");
        assert_eq!((member.id, member.voter), (u64::MAX, false));
        for (text, pointer) in [
            (r#"{"id": 5, "name": "m", "peer": "m:1"}"#, "/id"),
            (r#"{"id": "0", "name": "m", "peer": "m:1"}"#, "/id"),
            (r#"{"id": "5", "name": "", "peer": "m:1"}"#, "/name"),
            (r#"{"id": "5", "name": "m", "peer": "m"}"#, "/peer"),
            (r#"{"id": "5", "name": "m", "peer": ":1"}"#, "/peer"),
            (r#"{"id": "5", "name": "m", "peer": "m:70000"}"#, "/peer"),
            (r#"{"id": "5", "name": "m", "peer": "m:1", "voter": true}"#, "/voter"),
        ] {
            let Failure(problem) = parsed(text).expect_err(text);
            assert_eq!(problem.pointer.as_deref(), Some(pointer), "{text}");
        }
        assert!(parse("x").is_err());
    }

    /// Every refusal is a conflict; those that pass with time may be tried again.
    #[test]
    fn refusals_are_conflicts() {
        let of = |refusal| {
            let detail = "why".to_owned();
            problem(MembershipError::Refused { refusal, detail })
        };
        assert_eq!(
            (
                of(MembershipRefusal::NotCaughtUp).status,
                of(MembershipRefusal::NotCaughtUp).retryable
            ),
            (409, true)
        );
        assert_eq!(
            (of(MembershipRefusal::LastVoter).status, of(MembershipRefusal::LastVoter).retryable),
            (409, false)
        );
    }
}

//! `POST /admin/membership/initialize` and `POST /admin/leadership/transfer`.

use axum::{body::Bytes, extract::State, http::StatusCode};
use kvfleet_api::{Code, Problem, admin::Initialize};

use super::{Member, body, failure};
use crate::{problem::Failure, problem::trace_id, raft::InitializeError};

/// Forms the group, on the bootstrap member and while it is blank; the same formation again is done already.
pub(super) async fn initialize(State(member): State<Member>, body: Bytes) -> Result<StatusCode, Failure> {
    let Initialize {
        cluster_id,
        bootstrap,
        members,
    } = body::parse(&body)?;
    let invalid = |pointer: &str, detail: String| {
        let mut problem = Problem::new(Code::InvalidBody, detail, trace_id());
        problem.pointer = Some(pointer.to_owned());
        problem
    };
    if cluster_id.parse() != Ok(member.identity.cluster) {
        return Err(failure::conflict(format!(
            "this member belongs to cluster {}, not {cluster_id}",
            member.identity.cluster
        ))
        .into());
    }
    if bootstrap != member.identity.member {
        return Err(failure::conflict(format!(
            "this member is {}, not {bootstrap}: call the member with that id",
            member.identity.member
        ))
        .into());
    }
    if !members.iter().any(|listed| listed.id == bootstrap) {
        return Err(invalid("/members", "the bootstrap member is not among the members".to_owned()).into());
    }
    if let Some(position) = members.iter().position(|listed| !listed.voter) {
        return Err(invalid(&format!("/members/{position}/voter"), "a group is formed of voters only".to_owned()).into());
    }
    let repeated = members
        .iter()
        .enumerate()
        .find(|(position, one)| members.iter().take(*position).any(|other| other.id == one.id));
    if let Some((position, _)) = repeated {
        return Err(invalid(&format!("/members/{position}/id"), "each member has its own id".to_owned()).into());
    }
    match member.group.initialize(members).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error @ InitializeError::Failed(_)) => Err(failure::internal(error.to_string()).into()),
        Err(error) => Err(failure::conflict(error.to_string()).into()),
    }
}

/// Hands leadership to a voter that has everything; answers when another leader is known. On a follower there is nothing to do.
pub(super) async fn transfer(State(member): State<Member>) -> Result<StatusCode, Failure> {
    match member.group.transfer_leadership(member.deadline()).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(failure::conflict(error.to_string()).into()),
    }
}

//! Asking a group from outside, as a member that takes no part in it. In: addresses that members may have. Out: the leader's word. Absent:
//! the decision (`replacement`, `membership`), and what follows from it.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    encoding::JoinCall,
    replacement::{JoinAnswer, JoinRequest, ReleaseAnswer, ReleaseRequest},
};
use crate::peer::{CallError, Lane, Method, PeerAddress, Transport};

/// How long one member may take to say who it is.
const IDENTIFY: Duration = Duration::from_secs(2);
/// How long the leader may take to answer, in times of an election: it asks and waits for the others first.
const ANSWER: u32 = 5;

/// Why there is no word of a leader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PetitionError {
    /// Nobody to ask.
    #[error("no other member is known; name some with --members")]
    Nobody,
    /// Nobody who answered knows a leader.
    #[error("no leader answers ({last})")]
    NoLeader {
        /// What the last one that was asked said.
        last: String,
    },
}

/// Asks the members at these addresses for their leader's word, one after the other.
///
/// # Errors
/// [`PetitionError`].
pub async fn release(
    transport: &Transport,
    addresses: &[String],
    request: &ReleaseRequest,
    election_timeout: Duration,
) -> Result<ReleaseAnswer, PetitionError> {
    let body = request.encode();
    let patience = ANSWER * election_timeout;
    let mut last = None;
    for address in addresses {
        match ask(transport, address, &body, patience).await {
            Ok(ReleaseAnswer::Elsewhere(_)) => last = Some(format!("the member at {address} knows none")),
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error.to_string()),
        }
    }
    Err(last.map_or(PetitionError::Nobody, |last| PetitionError::NoLeader { last }))
}

/// Asks the members at these addresses to take a member in, one after the other until one has the leader's word.
///
/// # Errors
/// [`PetitionError`].
pub async fn join(
    transport: &Transport,
    addresses: &[String],
    request: &JoinRequest,
    deadline: Instant,
) -> Result<JoinAnswer, PetitionError> {
    let mut last = None;
    for address in addresses {
        match ask_to_join(transport, address, request, deadline).await {
            Ok(JoinAnswer::Elsewhere) => last = Some(format!("the member at {address} finds none")),
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error.to_string()),
        }
    }
    Err(last.map_or(PetitionError::Nobody, |last| PetitionError::NoLeader { last }))
}

async fn ask_to_join(transport: &Transport, address: &str, request: &JoinRequest, deadline: Instant) -> Result<JoinAnswer, CallError> {
    let found = transport.identify(address, deadline.min(Instant::now() + IDENTIFY)).await?;
    let peer = PeerAddress {
        id: found.id,
        address: address.to_owned(),
    };
    // Who is asked shall say how far it is before we stop listening.
    let patience = deadline.saturating_duration_since(Instant::now()) * 9 / 10;
    let call = JoinCall {
        patience_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
        request: request.clone(),
    };
    let answer = transport.call(&peer, Lane::Calls, Method::Join, call.encode(), deadline).await?;
    JoinAnswer::decode(answer).map_err(|_| CallError::Refused {
        target: peer.id,
        refusal: crate::peer::Refusal::Malformed,
    })
}

/// Asks one member, and then the one that it takes for the leader.
async fn ask(transport: &Transport, address: &str, body: &Bytes, patience: Duration) -> Result<ReleaseAnswer, CallError> {
    let found = transport.identify(address, Instant::now() + IDENTIFY).await?;
    let peer = PeerAddress {
        id: found.id,
        address: address.to_owned(),
    };
    match call(transport, &peer, body, patience).await? {
        ReleaseAnswer::Elsewhere(Some(leader)) => call(transport, &leader, body, patience).await,
        answer => Ok(answer),
    }
}

async fn call(transport: &Transport, peer: &PeerAddress, body: &Bytes, patience: Duration) -> Result<ReleaseAnswer, CallError> {
    let answer = transport
        .call(peer, Lane::Control, Method::Release, body.clone(), Instant::now() + patience)
        .await?;
    ReleaseAnswer::decode(answer).map_err(|_| CallError::Refused {
        target: peer.id,
        refusal: crate::peer::Refusal::Malformed,
    })
}

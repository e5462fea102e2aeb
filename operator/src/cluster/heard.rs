//! What a member says of itself, or why it says nothing: "it does not answer" and "it could not be asked" are two findings.
//!
//! In: the way to the members and a pod's address. Out: a report, or [`Unheard`]. Absent: any conclusion from silence.

use std::{net::SocketAddr, time::Duration};

use kvfleet_api::admin::MemberReport;
use kvfleet_client::admin::{self, AdminClient};

use crate::error::chain;

/// A member that is alive answers within this; one that is not must not hold up the role label.
const ANSWER: Duration = Duration::from_millis(1_500);

/// Why nothing is known of a member from itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// It was asked and did not answer, or there is nothing that could.
    Silent(String),
    /// The operator has no way to ask it.
    NotAsked(String),
}

/// What is known of a member from itself.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// Its answer.
    Report(&'a MemberReport),
    /// It was asked and did not answer, or there is nothing that could.
    Silent(&'a str),
    /// The operator has no way to ask it.
    NotAsked(&'a str),
}

/// Asks one member.
///
/// # Errors
/// Why there is no answer.
pub async fn ask(way: Result<&AdminClient, &str>, pod: &str, address: Option<SocketAddr>) -> Result<MemberReport, Unheard> {
    let Some(address) = address else {
        return Err(Unheard::Silent("its pod is not there or has no address".to_owned()));
    };
    let admin = way.map_err(|why| Unheard::NotAsked(why.to_owned()))?;
    let unheard = match tokio::time::timeout(ANSWER, admin.members(address)).await {
        // The address may have passed to another pod of the same cluster since.
        Ok(Ok(report)) if report.name == pod => return Ok(report),
        Ok(Ok(report)) => Unheard::Silent(format!("{} answers at its address", report.name)),
        Ok(Err(error @ admin::Error::Tls(_))) => Unheard::NotAsked(chain(&error)),
        Ok(Err(error)) => Unheard::Silent(chain(&error)),
        Err(_) => Unheard::Silent(format!("no answer within {} ms", ANSWER.as_millis())),
    };
    tracing::debug!(pod, %address, ?unheard, "the member is not heard");
    Err(unheard)
}

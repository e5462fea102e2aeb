//! Changes of a fleet's members, over the admin port as an operator makes them.
//!
//! A change is asked for again and again, of whoever leads, until it holds: that is how it may be asked for.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use kvfleet_api::admin::{MemberState, MembersChanged, NewMember};
use kvfleet_client::admin::{AdminClient, AdminTls, Error};

use super::{Fleet, PATIENCE, member_name};

impl Fleet {
    /// A client of the admin ports.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn admin(&self) -> Result<AdminClient> {
        let read = |name: &str| std::fs::read(self.certificates.join(name)).with_context(|| name.to_owned());
        let material = AdminTls {
            ca_pem: read("ca.crt")?,
            cert_pem: read("operator.crt")?,
            key_pem: read("operator.key")?,
        };
        Ok(AdminClient::new(&material, &self.cluster_id)?)
    }

    /// The address of a member's admin port.
    pub fn admin_port(&self, number: usize) -> SocketAddr {
        (self.network.address(number), 9443).into()
    }

    /// The id of a member that runs.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn id(&self, number: usize) -> Result<u64> {
        let admin = self.admin()?;
        let report = eventually("a member's id", || admin.members(self.admin_port(number))).await?;
        Ok(report.id)
    }

    /// Hands leadership to another member, if any leads.
    ///
    /// # Errors
    /// When the leader refuses.
    pub async fn move_leadership(&self) -> Result<()> {
        let leader = self.leader().await?;
        let moved = self.admin()?.transfer_leadership(self.admin_port(leader)).await;
        // It may have lost leadership in between, or have no follower that is close enough: neither is a fault of the fleet's.
        moved.or_else(|error| {
            if error.is_retryable() || error.code().is_some() {
                Ok(())
            } else {
                Err(error.into())
            }
        })
    }

    /// Takes a member out of the group, starts it anew and takes it in again: it has another id then.
    ///
    /// # Errors
    /// When a change does not come to hold.
    pub async fn remove_and_add(&mut self, number: usize) -> Result<()> {
        let old = self.id(number).await?;
        self.change("the removal", async |admin, leader| admin.remove_member(leader, old).await)
            .await?;
        self.member(number).kill()?;
        self.start_member(number)?;
        let new = self.blank(number, old).await?;
        self.change("the addition", async |admin, leader| admin.add_member(leader, &new).await)
            .await?;
        self.change("the promotion", async |admin, leader| admin.promote(leader, new.id).await)
            .await
    }

    /// Takes a member's data away for good and lets it take its old self's place.
    ///
    /// # Errors
    /// When the change does not come to hold.
    pub async fn lose_volume(&mut self, number: usize) -> Result<()> {
        let old = self.id(number).await?;
        let member = self.member(number);
        member.kill()?;
        std::fs::remove_dir_all(&member.data)?;
        self.start_member(number)?;
        let new = self.blank(number, old).await?;
        self.change("the replacement", async |admin, leader| {
            admin.replace_member(leader, old, &new).await
        })
        .await
    }

    /// Waits until a member says that it is blank, under another id than before.
    async fn blank(&self, number: usize, old: u64) -> Result<NewMember> {
        let admin = self.admin()?;
        let begun = Instant::now();
        loop {
            let report = eventually("a blank member", || admin.members(self.admin_port(number))).await?;
            if report.state == MemberState::Blank && report.id != old {
                return Ok(NewMember {
                    id: report.id,
                    name: member_name(number),
                    peer: format!("{}:7400", self.network.address(number)),
                });
            }
            anyhow::ensure!(
                begun.elapsed() < PATIENCE,
                "member {number} does not become blank: {:?}",
                report.state
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn change(&self, what: &str, ask: impl AsyncFn(&AdminClient, SocketAddr) -> Result<MembersChanged, Error>) -> Result<()> {
        let admin = self.admin()?;
        let begun = Instant::now();
        loop {
            let leader = self.leader().await?;
            let note = match ask(&admin, self.admin_port(leader)).await {
                Ok(changed) if changed.done => return Ok(()),
                Ok(changed) => changed.note.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            anyhow::ensure!(begun.elapsed() < PATIENCE, "{what} does not hold within {PATIENCE:?}: {note}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(super) async fn eventually<T, F: Future<Output = Result<T, Error>>>(what: &str, mut ask: impl FnMut() -> F) -> Result<T> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error).context(what.to_owned()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

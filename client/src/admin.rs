//! The admin port of a member: what the operator sees of a group and does to it.
//!
//! In: the operator's certificate and the address of a member. Out: the answers of [`kvfleet_api::admin`]. A member is believed because of
//! the identity in its certificate, never because of its address: pods move, and another cluster's pod may have taken the address over.
//! A call is never repeated behind the caller's back.

use std::{net::SocketAddr, time::Duration};

use kvfleet_api::{
    Code, Problem,
    admin::{Initialize, MemberReport, MembersChanged, NewMember, Released, Settings, SettingsStatus},
    tenant::{DeleteMode, TenantConfig, TenantStatus},
};
use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use crate::tls::{self, TlsError};

/// A member that is alive answers within a heartbeat or an election; one that is not must not hold up the others.
const TIMEOUT: Duration = Duration::from_secs(6);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The operator's side of the connection, PEM.
#[derive(Clone)]
pub struct AdminTls {
    /// `ca.crt`: the certificates that members' certificates may end at.
    pub ca_pem: Vec<u8>,
    /// `tls.crt`: the operator's own chain.
    pub cert_pem: Vec<u8>,
    /// `tls.key`.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for AdminTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AdminTls(..)")
    }
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The member refused.
    #[error("{} ({})", .0.detail, .0.code.as_str())]
    Refused(Box<Problem>),
    /// The member could not be reached, or the connection broke: whether a write took effect is not known.
    #[error("the member at {address} cannot be reached")]
    Transport {
        /// Its admin port.
        address: SocketAddr,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An answer that is none of the contract's.
    #[error("the member at {address} gave an unexpected answer {status}: {body}")]
    Unexpected {
        /// Its admin port.
        address: SocketAddr,
        /// The status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
}

impl Error {
    /// The code of a refusal.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused(problem) => Some(problem.code),
            Error::Transport { .. } | Error::Tls(_) | Error::Unexpected { .. } => None,
        }
    }

    /// Whether the same call may succeed later, here or at another member. Every call of this client may be repeated: each names what it
    /// is about by uid or generation.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Refused(problem) => problem.retryable,
            Error::Transport { .. } => true,
            Error::Tls(_) => false,
            Error::Unexpected { status, .. } => *status >= 500,
        }
    }
}

/// A client for all members of one cluster. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct AdminClient {
    http: reqwest::Client,
}

impl AdminClient {
    /// A client that believes only members of `cluster_id`.
    ///
    /// # Errors
    /// [`Error::Tls`] when the certificates or the key cannot be used.
    pub fn new(material: &AdminTls, cluster_id: &str) -> Result<Self, Error> {
        let config = tls::client_config(
            &material.ca_pem,
            &material.cert_pem,
            &material.key_pem,
            &format!("kvfleet://{cluster_id}/member"),
        )?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(1)
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .map_err(TlsError::Client)?;
        Ok(AdminClient { http })
    }

    /// What the member knows of itself and its group.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn members(&self, address: SocketAddr) -> Result<MemberReport, Error> {
        self.read(address, "members").await
    }

    /// Forms the group; repeated for the same formation it changes nothing.
    ///
    /// # Errors
    /// [`Code::Conflict`] when the member is part of another formation.
    pub async fn initialize(&self, address: SocketAddr, formation: &Initialize) -> Result<(), Error> {
        self.send(address, Method::POST, "membership/initialize", Some(formation))
            .await
            .map(drop)
    }

    /// Makes a blank member a learner. It votes once it is [promoted](AdminClient::promote).
    ///
    /// # Errors
    /// [`Code::Conflict`] with the rule that the change would break; retryable where time can help.
    pub async fn add_member(&self, address: SocketAddr, new: &NewMember) -> Result<MembersChanged, Error> {
        let response = self.send(address, Method::POST, "members", Some(new)).await?;
        parse(address, response).await
    }

    /// Lets a learner vote.
    ///
    /// # Errors
    /// As [`AdminClient::add_member`].
    pub async fn promote(&self, address: SocketAddr, id: u64) -> Result<MembersChanged, Error> {
        let response = self
            .send::<()>(address, Method::POST, &format!("members/{id}/promote"), None)
            .await?;
        parse(address, response).await
    }

    /// Takes a member out for good; one that is not there is out already.
    ///
    /// # Errors
    /// As [`AdminClient::add_member`].
    pub async fn remove_member(&self, address: SocketAddr, id: u64) -> Result<MembersChanged, Error> {
        let response = self.send::<()>(address, Method::DELETE, &format!("members/{id}"), None).await?;
        parse(address, response).await
    }

    /// Lets a blank member take the place of a voter. While it catches up the answer is that it is not done; send it again, or follow it
    /// with [`AdminClient::members`] of the leader.
    ///
    /// # Errors
    /// As [`AdminClient::add_member`].
    pub async fn replace_member(&self, address: SocketAddr, old: u64, new: &NewMember) -> Result<MembersChanged, Error> {
        let response = self
            .send(address, Method::POST, &format!("members/{old}/replace"), Some(new))
            .await?;
        parse(address, response).await
    }

    /// Lets a quarantined member put its data aside and start as a new one, if its leader allows it.
    ///
    /// # Errors
    /// [`Code::Conflict`] with the reason why not (yet).
    pub async fn release(&self, address: SocketAddr) -> Result<Released, Error> {
        let response = self.send::<()>(address, Method::POST, "release", None).await?;
        parse(address, response).await
    }

    /// Hands leadership to another voter; nothing to do on a follower.
    ///
    /// # Errors
    /// [`Code::Conflict`] when no other voter can take it.
    pub async fn transfer_leadership(&self, address: SocketAddr) -> Result<(), Error> {
        self.send::<()>(address, Method::POST, "leadership/transfer", None).await.map(drop)
    }

    /// All tenants, released ones too.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn tenants(&self, address: SocketAddr) -> Result<Vec<TenantStatus>, Error> {
        self.read(address, "tenants").await
    }

    /// One tenant; none when the name is free.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn tenant(&self, address: SocketAddr, name: &str) -> Result<Option<TenantStatus>, Error> {
        match self.read(address, &format!("tenants/{name}")).await {
            Err(Error::Refused(problem)) if problem.status == StatusCode::NOT_FOUND.as_u16() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Creates a tenant or replaces its configuration.
    ///
    /// # Errors
    /// [`Code::TenantNameTaken`]; [`Code::Conflict`] when a generation is below the stored one.
    pub async fn put_tenant(&self, address: SocketAddr, name: &str, config: &TenantConfig) -> Result<TenantStatus, Error> {
        let response = self.send(address, Method::PUT, &format!("tenants/{name}"), Some(config)).await?;
        parse(address, response).await
    }

    /// Releases a tenant or destroys its data; a tenant that is not there is no error.
    ///
    /// # Errors
    /// [`Code::Conflict`] when the stored uid is another.
    pub async fn delete_tenant(&self, address: SocketAddr, name: &str, uid: &str, mode: DeleteMode) -> Result<(), Error> {
        let mode = match mode {
            DeleteMode::Release => "release",
            DeleteMode::Delete => "delete",
        };
        self.send::<()>(address, Method::DELETE, &format!("tenants/{name}?mode={mode}&uid={uid}"), None)
            .await
            .map(drop)
    }

    /// The settings in force.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn settings(&self, address: SocketAddr) -> Result<SettingsStatus, Error> {
        self.read(address, "settings").await
    }

    /// Replaces the settings of the shard.
    ///
    /// # Errors
    /// [`Code::Conflict`] when the generation is below the stored one.
    pub async fn put_settings(&self, address: SocketAddr, settings: &Settings) -> Result<SettingsStatus, Error> {
        let response = self.send(address, Method::PUT, "settings", Some(settings)).await?;
        parse(address, response).await
    }

    async fn read<T: DeserializeOwned>(&self, address: SocketAddr, path: &str) -> Result<T, Error> {
        let response = self.send::<()>(address, Method::GET, path, None).await?;
        parse(address, response).await
    }

    async fn send<B: Serialize>(
        &self,
        address: SocketAddr,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<reqwest::Response, Error> {
        let mut request = self.http.request(method, format!("https://{address}/admin/{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|source| Error::Transport { address, source })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|source| Error::Transport { address, source })?;
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Error::Refused(Box::new(problem)),
            Err(_) => unexpected(address, status, &body),
        })
    }
}

async fn parse<T: DeserializeOwned>(address: SocketAddr, response: reqwest::Response) -> Result<T, Error> {
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(|source| Error::Transport { address, source })?;
    serde_json::from_slice(&body).map_err(|_| unexpected(address, status, &body))
}

fn unexpected(address: SocketAddr, status: u16, body: &[u8]) -> Error {
    Error::Unexpected {
        address,
        status,
        body: String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}

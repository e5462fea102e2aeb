//! A tenant's keys over REST.
//!
//! In: the `endpoint` and `token` of a credentials Secret. Out: typed answers, and the server's problem document when it refuses.
//! A request is never repeated behind the caller's back: whether a write may be sent again is the caller's to decide, and
//! [`Error::is_retryable`] says when it helps.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kvfleet_api::{Problem, error::Outcome, header, usage::Usage};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode, Url};

use crate::tls::{self, TlsError};

/// Everything but RFC 3986's unreserved characters and `/`, which the server takes as part of the key.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is not a URL of a tenant.
    #[error("endpoint `{0}` is not a URL like http://prod.storage.svc:8080/api/v1/tenants/acme")]
    Endpoint(String),
    /// The server refused.
    #[error("{} ({})", .0.detail, .0.code.as_str())]
    Refused(Box<Problem>),
    /// An answer that is no kvfleet answer: a proxy's, perhaps.
    #[error("unexpected answer {status}: {body}")]
    Unexpected {
        /// The status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection failed; a write may or may not have taken effect, unless the connection was never made.
    #[error("the request to the server failed")]
    Transport(#[from] reqwest::Error),
}

impl Error {
    /// Whether the same call may succeed when it is made again. A write may then have taken effect twice, unless [`Error::outcome`] is
    /// [`Outcome::NotApplied`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Endpoint(_) | Error::Tls(_) => false,
            Error::Refused(problem) => problem.retryable,
            Error::Unexpected { status, .. } => *status >= 500,
            Error::Transport(_) => true,
        }
    }

    /// Whether a write that failed in this way took effect.
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::Endpoint(_) | Error::Tls(_) => Outcome::NotApplied,
            Error::Refused(problem) if problem.status < 500 => Outcome::NotApplied,
            Error::Refused(problem) => problem.outcome.unwrap_or(Outcome::Unknown),
            Error::Unexpected { status, .. } if *status < 500 => Outcome::NotApplied,
            Error::Unexpected { .. } => Outcome::Unknown,
            Error::Transport(error) if error.is_connect() || error.is_builder() => Outcome::NotApplied,
            Error::Transport(_) => Outcome::Unknown,
        }
    }
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// When a majority of the members has it on disk.
    #[default]
    Quorum,
    /// When, besides, every voting member has applied it.
    All,
}

impl Ack {
    fn query(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Ack::Quorum => &[],
            Ack::All => &[("ack", "all")],
        }
    }
}

/// How a record is written; the default writes with the tenant's TTL, whatever is there.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// How long the record lives; none = the tenant's default. Zero = for ever.
    pub ttl: Option<Duration>,
    /// The media type; none = `application/octet-stream`.
    pub content_type: Option<String>,
    /// Write only if the record has this revision; 0 = only if it is absent.
    pub if_revision: Option<u64>,
    /// When it is acknowledged.
    pub ack: Ack,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It sees every write that was acknowledged before it began.
    #[default]
    Linearizable,
    /// The same, by the leader's lease: unless the members' monotonic clocks run at very different speeds.
    Leader,
    /// It sees every write that was acknowledged longer ago than this (none = the server's default, 5 s), or is refused as `too-stale`.
    Bounded(Option<Duration>),
    /// It sees what the answering member has.
    Any,
}

/// How a record is read; the default sees everything acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// How fresh.
    pub consistency: Consistency,
    /// And not before this revision: that of a write of one's own, say.
    pub min_revision: Option<u64>,
}

impl GetOptions {
    fn query(&self) -> Vec<(&'static str, String)> {
        let (name, bound) = match self.consistency {
            Consistency::Linearizable => (None, None),
            Consistency::Leader => (Some("leader"), None),
            Consistency::Bounded(bound) => (Some("bounded"), bound),
            Consistency::Any => (Some("any"), None),
        };
        let name = name.map(|name| ("consistency", name.to_owned()));
        let bound = bound.map(|bound| ("max_staleness", format!("{}ms", bound.as_millis())));
        let revision = self.min_revision.map(|revision| ("min_revision", revision.to_string()));
        [name, bound, revision].into_iter().flatten().collect()
    }
}

/// A record that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its revision.
    pub revision: u64,
    /// Whether it was absent before.
    pub created: bool,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value, as it was sent.
    pub value: Bytes,
    /// Its media type, as it was sent.
    pub content_type: Option<String>,
    /// Its revision.
    pub revision: u64,
    /// With [`Consistency::Bounded`] and [`Consistency::Any`]: how old what the member has may be at most, as far as it knows.
    pub staleness: Option<Duration>,
}

/// A client for one tenant. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Arc<str>,
    token: Arc<str>,
}

impl Client {
    /// A client for the tenant at `endpoint` (`…/api/v1/tenants/<name>`).
    ///
    /// # Errors
    /// [`Error::Endpoint`] when it is no such URL; [`Error::Tls`] and [`Error::Transport`] when the HTTP client cannot be made.
    pub fn new(endpoint: &str, token: &str) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(65))
            .tcp_nodelay(true)
            // The data port speaks plain HTTP in this release. Without this line a system that has no certificates, such as an image made
            // from scratch, and a program that has not chosen a cryptography provider, could not even do that.
            .tls_backend_preconfigured(tls::trusting_nobody()?)
            .build()?;
        Self::with_http(endpoint, token, http)
    }

    /// The same on an HTTP client of the caller's: for its own timeouts, proxies or name lookups.
    ///
    /// # Errors
    /// [`Error::Endpoint`] when `endpoint` is no URL of a tenant.
    pub fn with_http(endpoint: &str, token: &str, http: reqwest::Client) -> Result<Self, Error> {
        let endpoint = endpoint.trim_end_matches('/');
        let url = Url::parse(endpoint).map_err(|_| Error::Endpoint(endpoint.to_owned()))?;
        if !url.path().starts_with("/api/v1/tenants/") || url.query().is_some() {
            return Err(Error::Endpoint(endpoint.to_owned()));
        }
        Ok(Client {
            http,
            endpoint: endpoint.into(),
            token: token.trim().into(),
        })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's problem: a limit, the quota, a condition.
    pub async fn put(&self, key: &str, value: impl Into<Bytes>, options: &PutOptions) -> Result<Written, Error> {
        let mut request = self.key(Method::PUT, key).body(value.into());
        if let Some(ttl) = options.ttl {
            request = request.query(&[("ttl", format!("{}ms", ttl.as_millis()))]);
        }
        request = request.query(options.ack.query());
        let content_type = options.content_type.as_deref().unwrap_or("application/octet-stream");
        request = request.header("content-type", content_type);
        if let Some(revision) = options.if_revision {
            request = request.header(header::IF_REVISION, revision);
        }
        let response = accepted(request.send().await?).await?;
        Ok(Written {
            revision: revision(&response),
            created: response.status() == StatusCode::CREATED,
        })
    }

    /// Reads a record; none when it is absent or expired.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's problem.
    pub async fn get(&self, key: &str) -> Result<Option<Item>, Error> {
        self.get_with(key, &GetOptions::default()).await
    }

    /// The same as fresh as the options say.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's problem: `too-stale` where the member has nothing so fresh.
    pub async fn get_with(&self, key: &str, options: &GetOptions) -> Result<Option<Item>, Error> {
        let response = self.key(Method::GET, key).query(&options.query()).send().await?;
        if response.status() == StatusCode::NOT_FOUND {
            return match refused(response).await {
                Error::Refused(problem) if problem.code == kvfleet_api::Code::KeyNotFound => Ok(None),
                other => Err(other),
            };
        }
        let response = accepted(response).await?;
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let revision = revision(&response);
        let staleness = response.headers().get(header::STALENESS_MS);
        let staleness = staleness
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_millis);
        Ok(Some(Item {
            value: response.bytes().await?,
            content_type,
            revision,
            staleness,
        }))
    }

    /// Deletes a record; says whether it was there.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's problem.
    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.delete_with(key, Ack::Quorum).await
    }

    /// The same, acknowledged when `ack` says.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's problem.
    pub async fn delete_with(&self, key: &str, ack: Ack) -> Result<bool, Error> {
        let response = accepted(self.key(Method::DELETE, key).query(ack.query()).send().await?).await?;
        Ok(response.headers().get(header::EXISTED).is_some_and(|value| value == "true"))
    }

    /// What the tenant uses, and its limits.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's problem.
    pub async fn usage(&self) -> Result<Usage, Error> {
        let request = self.http.get(format!("{}/usage", self.endpoint)).bearer_auth(&self.token);
        Ok(accepted(request.send().await?).await?.json().await?)
    }

    fn key(&self, method: Method, key: &str) -> reqwest::RequestBuilder {
        // A URL library resolves dot segments before it sends them; in the query they stay what they are.
        let mangled = key.split('/').any(|segment| matches!(segment, "." | ".."));
        let request = if mangled {
            self.http.request(method, format!("{}/keys", self.endpoint)).query(&[("key", key)])
        } else {
            self.http
                .request(method, format!("{}/keys/{}", self.endpoint, utf8_percent_encode(key, KEY)))
        };
        request.bearer_auth(&self.token)
    }
}

/// The record's revision. A local read also has `KV-Revision`, which is that of the state.
fn revision(response: &reqwest::Response) -> u64 {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    text("etag")
        .or_else(|| text(header::REVISION))
        .and_then(|value| value.trim_matches('"').parse().ok())
        .unwrap_or(0)
}

async fn accepted(response: reqwest::Response) -> Result<reqwest::Response, Error> {
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(refused(response).await)
    }
}

async fn refused(response: reqwest::Response) -> Error {
    let status = response.status().as_u16();
    match response.bytes().await {
        Ok(body) => match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Error::Refused(Box::new(problem)),
            Err(_) => Error::Unexpected {
                status,
                body: String::from_utf8_lossy(&body).chars().take(200).collect(),
            },
        },
        Err(error) => Error::Transport(error),
    }
}

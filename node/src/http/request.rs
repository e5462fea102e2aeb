//! What every handler does with a request before its own work: who calls, which parameters, how long.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, header, request::Parts},
    response::Response,
};
use kvfleet_api::{Code, Problem, header as kv, token::Claims};
use tokio::time::Instant;

use super::{Port, body::Upload, expiry, query::Query, refuse, trace::Trace};
use crate::{
    app::{Ack, Consistency, Principal, Reading, Seen},
    auth::Rejection,
    problem::Failure,
};

/// A request under way.
pub(super) struct Call {
    pub(super) port: Arc<Port>,
    pub(super) head: Parts,
    pub(super) upload: Upload,
    pub(super) trace: Trace,
    /// What a read speaks of, once it is known: the state's revision.
    pub(super) revision: Option<u64>,
    /// Whether the answer came from this member alone, and how old what it saw may have been, if that is known.
    pub(super) local: Option<Option<Duration>>,
}

/// Conditional and framing headers whose meaning this version does not honour: ignoring one would do something else than was asked.
const REFUSED: &[(HeaderName, &str)] = &[
    (header::IF_MODIFIED_SINCE, "records have no such time; use If-None-Match"),
    (header::IF_UNMODIFIED_SINCE, "records have no such time; use If-Match"),
    (header::IF_RANGE, "ranges are not served"),
    (header::CONTENT_RANGE, "a value is written whole"),
];

/// The bound of `consistency=bounded` where the caller gives none: above the time that the election of a leader takes.
const MAX_STALENESS: Duration = Duration::from_secs(5);

impl Call {
    pub(super) fn new(port: Arc<Port>, head: Parts, body: Body, trace: Trace) -> Self {
        let upload = Upload::new(body, &head.headers);
        Call {
            port,
            head,
            upload,
            trace,
            revision: None,
            local: None,
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The parameters; before anything else is looked at, so that a misspelled one is told from a refused one.
    pub(super) fn query(&self) -> Result<Query, Failure> {
        Query::parse(self.head.uri.query())
    }

    /// Whether the query has a member of this name.
    pub(super) fn query_names(&self, name: &str) -> bool {
        let pairs = self.head.uri.query().unwrap_or_default().split('&');
        pairs.into_iter().any(|pair| pair.split('=').next() == Some(name))
    }

    /// Refuses every header that asks for something this call does not do. `known` are the `KV-` headers that it obeys.
    pub(super) fn check_headers(&self, known: &[&str], conditions: &[HeaderName]) -> Result<(), Failure> {
        for (name, detail) in REFUSED {
            if self.headers().contains_key(name) {
                return Err(refuse::parameter(name.as_str(), detail));
            }
        }
        for name in [&header::IF_MATCH, &header::IF_NONE_MATCH] {
            if self.headers().contains_key(name) && !conditions.contains(name) {
                return Err(refuse::parameter(name.as_str(), "this call takes no such condition"));
            }
        }
        if self.headers().contains_key("idempotency-key") {
            return Err(refuse::parameter("Idempotency-Key", "PUT and DELETE can be repeated without it"));
        }
        for name in self.headers().keys().map(HeaderName::as_str).filter(|name| name.starts_with("kv-")) {
            let obeyed = name == kv::TIMEOUT
                || known
                    .iter()
                    .any(|known| *known == name || (*known == kv::META_PREFIX && name.starts_with(kv::META_PREFIX)));
            if !obeyed {
                return Err(refuse::parameter(name, "this call knows no such header"));
            }
        }
        Ok(())
    }

    /// The text of a header that may come once.
    pub(super) fn header(&self, name: &HeaderName) -> Result<Option<&str>, Failure> {
        header_text(self.headers(), name)
    }

    /// Who calls; the token is genuine.
    pub(super) fn principal(&self) -> Result<Principal, Failure> {
        self.claims().map(Principal::Bearer)
    }

    pub(super) fn claims(&self) -> Result<Arc<Claims>, Failure> {
        self.port.auth.authenticate(self.headers()).map_err(|rejection| {
            let code = match rejection {
                Rejection::Missing => Code::TokenMissing,
                Rejection::Invalid(_) => Code::TokenInvalid,
                Rejection::Expired => Code::TokenExpired,
            };
            Problem::new(code, rejection.to_string(), "").into()
        })
    }

    /// How long the caller waits: `KV-Timeout`, else the cluster's default.
    pub(super) fn deadline(&self) -> Result<Instant, Failure> {
        let wanted = match self.header(&HeaderName::from_static(kv::TIMEOUT))? {
            None => None,
            Some(text) => {
                let milliseconds = expiry::duration_ms(text)
                    .filter(|milliseconds| *milliseconds > 0)
                    .ok_or_else(|| refuse::parameter("KV-Timeout", "write a duration such as 500ms or 2s"))?;
                Some(Duration::from_millis(milliseconds))
            }
        };
        self.port.app.deadline(wanted)
    }

    /// `consistency=`, `max_staleness=` and `min_revision=`; reads only.
    pub(super) fn reading(&mut self, query: &mut Query) -> Result<Reading, Failure> {
        let bound = query.take("max_staleness")?;
        let consistency = match (query.take("consistency")?.as_deref(), bound) {
            (Some("bounded"), None) => Consistency::Bounded(MAX_STALENESS),
            (Some("bounded"), Some(bound)) => {
                let milliseconds = expiry::duration_ms(&bound)
                    .filter(|milliseconds| *milliseconds > 0)
                    .ok_or_else(|| refuse::parameter("max_staleness", "write a duration such as 500ms or 5s"))?;
                Consistency::Bounded(Duration::from_millis(milliseconds))
            }
            (None | Some("linearizable"), None) => Consistency::Linearizable,
            (Some("leader"), None) => Consistency::Leader,
            (Some("any"), None) => Consistency::Any,
            (None | Some("linearizable" | "leader" | "any"), Some(_)) => {
                return Err(refuse::parameter("max_staleness", "it goes with consistency=bounded only"));
            }
            (Some(_), _) => return Err(refuse::parameter("consistency", "it is linearizable, leader, bounded or any")),
        };
        if matches!(consistency, Consistency::Bounded(_) | Consistency::Any) {
            self.local = Some(None);
        }
        Ok(Reading {
            consistency,
            min_revision: query.number("min_revision")?,
        })
    }

    /// `ack=`; writes only.
    pub(super) fn ack(&self, query: &mut Query) -> Result<Ack, Failure> {
        match query.take("ack")?.as_deref() {
            None | Some("quorum") => Ok(Ack::Quorum),
            Some("all") => Ok(Ack::All),
            Some(_) => Err(refuse::parameter("ack", "it is quorum or all")),
        }
    }

    /// Keeps what a read saw, for the headers.
    pub(super) fn saw(&mut self, seen: &Seen) {
        self.revision = Some(seen.revision);
        if let Some(age) = &mut self.local {
            *age = seen.age;
        }
    }

    /// Adds what the caller asked to be told about the answer.
    pub(super) fn details(&self, response: &mut Response) {
        let failed = response.status().as_u16() >= 400;
        if !(failed || self.local.is_some() || self.prefers_details()) {
            return;
        }
        let headers = response.headers_mut();
        if let Some(name) = &self.port.name {
            headers.insert(const { HeaderName::from_static(kv::NODE) }, name.clone());
        }
        headers.insert(const { HeaderName::from_static("traceparent") }, self.trace.parent());
        if let Some(revision) = self.revision {
            headers
                .entry(const { HeaderName::from_static(kv::REVISION) })
                .or_insert_with(|| revision.into());
        }
        if let Some(Some(age)) = self.local {
            // Rounded up: it is a bound.
            let age = u64::try_from(age.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
            headers.insert(const { HeaderName::from_static(kv::STALENESS_MS) }, age.into());
        }
    }

    /// `Prefer: kv-details` (RFC 7240: preferences that are not known are ignored).
    fn prefers_details(&self) -> bool {
        let values = self.headers().get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|preference| preference.trim().eq_ignore_ascii_case("kv-details"))
    }
}

pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refuse::parameter(name.as_str(), "the header may be sent once"));
    }
    let text = value
        .to_str()
        .map_err(|_| refuse::parameter(name.as_str(), "the header must be printable ASCII"))?;
    Ok(Some(text.trim()))
}

//! From a raw path to a resource. In: the path as sent. Out: which resource of which tenant; the key's part still encoded. Absent:
//! methods, queries.

use kvfleet_api::{Code, Problem};

use super::key;
use crate::problem::Failure;

const ROOT: &str = "/api/v1/";

/// The longest name of a tenant.
const LONGEST_NAME: usize = 63;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// `/keys/{key}`: what follows the slash, as sent.
    Key(String),
    /// `/keys`.
    Keys,
    /// `/usage`.
    Usage,
    /// `/api/v1/whoami`.
    Whoami,
    /// `/api/v1/docs/errors/{code}`.
    Page(String),
}

/// A resource, and the tenant in the path (empty where the path has none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) resource: Resource,
    pub(super) tenant: String,
}

impl Resource {
    /// The value of `Allow`.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Resource::Key(_) | Resource::Keys => "GET, HEAD, PUT, DELETE",
            Resource::Usage | Resource::Whoami | Resource::Page(_) => "GET, HEAD",
        }
    }
}

impl Route {
    pub(super) fn parse(path: &str) -> Result<Self, Failure> {
        let route = |resource| {
            Ok(Route {
                resource,
                tenant: String::new(),
            })
        };
        let rest = path.strip_prefix(ROOT).ok_or_else(not_found)?;
        if rest == "whoami" {
            return route(Resource::Whoami);
        }
        if let Some(code) = rest.strip_prefix("docs/errors/") {
            return route(Resource::Page(code.to_owned()));
        }
        let (tenant, rest) = rest
            .strip_prefix("tenants/")
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(not_found)?;
        let resource = match rest {
            "keys" => Resource::Keys,
            "usage" => Resource::Usage,
            _ => Resource::Key(rest.strip_prefix("keys/").ok_or_else(not_found)?.to_owned()),
        };
        // A name that cannot be decoded, or is longer than a DNS label, is no tenant's; it looks like any other that is not the caller's,
        // and is not worth a place in the log.
        let tenant = key::decode(tenant)
            .ok()
            .filter(|name| name.len() <= LONGEST_NAME)
            .unwrap_or_default();
        Ok(Route { resource, tenant })
    }

    /// The path as a template, for counting.
    pub(super) fn label(&self) -> &'static str {
        match &self.resource {
            Resource::Key(_) => "/api/v1/tenants/{tenant}/keys/{key}",
            Resource::Keys => "/api/v1/tenants/{tenant}/keys",
            Resource::Usage => "/api/v1/tenants/{tenant}/usage",
            Resource::Whoami => "/api/v1/whoami",
            Resource::Page(_) => "/api/v1/docs/errors/{code}",
        }
    }

    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }
}

fn not_found() -> Failure {
    let detail = "there is nothing at this path; records are at /api/v1/tenants/<tenant>/keys/<key>";
    Problem::new(Code::RouteNotFound, detail, "").into()
}

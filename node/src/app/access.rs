//! Whether a genuine token opens a tenant now. In: the token's claims, the tenant named in the path, and a view. Out: the tenant.
//!
//! A member may be a moment behind the group. So a *no* from its latest view is asked again of a view that is certainly up to date: a
//! tenant that was just made, or given another credential, is never refused by a slow member. Only tokens with a good signature come
//! this far, so strangers cannot make the group work.

use std::sync::Arc;

use kvfleet_api::{
    Code,
    tenant::{Access, TenantState},
    token::Claims,
};
use tokio::time::Instant;

use super::{App, failure};
use crate::{
    problem::Failure,
    state::{Tenant, View},
};

/// What stands for the token's own tenant in a path.
const OWN: &str = "@me";

/// Who calls, and which tenant the path names.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the token says.
    pub claims: Arc<Claims>,
    /// The name in the path, or `@me`.
    pub named: String,
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Scope `read`, and a tenant that is not suspended.
    Read,
    /// Scope `write`, and a tenant that takes writes.
    Write,
}

impl Need {
    fn scope(self) -> &'static str {
        match self {
            Need::Read => "read",
            Need::Write => "write",
        }
    }
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// The token's own tenant does not accept it.
    Token,
    /// The path names another tenant, or none.
    Tenant,
    /// The token lacks the scope.
    Scope(Need),
    /// The tenant is suspended.
    Suspended,
    /// The tenant takes no writes.
    ReadOnly,
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Token => failure::problem(
                Code::TokenInvalid,
                "the token is no longer accepted: its tenant has gone or has newer credentials; read the token from the Secret again",
            ),
            // One sentence for a tenant of somebody else and for one that does not exist.
            Denial::Tenant => failure::problem(
                Code::TenantForbidden,
                "the token gives no access to the tenant in the path; `@me` stands for the token's own",
            ),
            Denial::Scope(need) => {
                let scope = need.scope();
                failure::problem(Code::ScopeMissing, format!("the call needs a token with the scope `{scope}`"))
            }
            Denial::Suspended => failure::suspended(),
            Denial::ReadOnly => failure::read_only(),
        }
    }
}

impl App {
    /// The tenant, if the caller may do this now.
    ///
    /// # Errors
    /// `token-invalid`, `tenant-forbidden`, `scope-missing`, `tenant-suspended`, `tenant-read-only`; or that of a read which was needed to
    /// be sure.
    pub async fn admit(&self, caller: &Caller, need: Need, deadline: Instant) -> Result<Arc<Tenant>, Failure> {
        if let Ok(tenant) = check(&self.views.latest(), caller, need) {
            return Ok(tenant);
        }
        let point = self.group.read_barrier(deadline).await.map_err(failure::read)?;
        Ok(check(&point.view, caller, need)?)
    }
}

/// The tenant, if in this view the caller may do this.
pub(super) fn check(view: &View, caller: &Caller, need: Need) -> Result<Arc<Tenant>, Denial> {
    let Caller { claims, named } = caller;
    let tenant = view.tenant(&claims.sub).ok_or(Denial::Token)?;
    // The id, because a later tenant of the same name is another; the time of issue, because a released tenant that is taken over by
    // a new object keeps its id and may begin its generations anew.
    let accepted = tenant.state == TenantState::Active
        && tenant.id.0 == claims.tid
        && tenant.config.credential_generation == claims.r#gen
        && claims.iat >= tenant.credential_issued_at;
    if !accepted {
        return Err(Denial::Token);
    }
    if named != OWN && *named != claims.sub {
        return Err(Denial::Tenant);
    }
    if !claims.scope.split(' ').any(|scope| scope == need.scope()) {
        return Err(Denial::Scope(need));
    }
    match (tenant.config.limits.access, need) {
        (Access::Suspended, _) => Err(Denial::Suspended),
        (Access::ReadOnly, Need::Write) => Err(Denial::ReadOnly),
        (Access::ReadOnly, Need::Read) | (Access::ReadWrite, _) => Ok(tenant),
    }
}

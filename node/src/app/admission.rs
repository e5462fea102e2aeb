//! Whether a call may be made now, and what it may cost. In: who calls, what for, and a view. Out: an admission, which every call of the data
//! port needs before it touches a tenant's records or spends its share of the member.
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
    state::{ScanRange, Tenant, TenantId, View},
};

/// What stands for the token's own tenant in a path.
const OWN: &str = "@me";

/// Rows that one page looks at. Expired records count, which a sweep has not met yet: they are skipped, and there may be millions.
const ROWS: usize = 10_000;

/// Who calls.
#[derive(Clone, Debug)]
pub enum Principal {
    /// The bearer of a tenant's token, whose signature is good. It may do to the whole tenant what the token's scopes name.
    Bearer(Arc<Claims>),
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read one record.
    Get,
    /// Read many.
    List,
    /// Read what the tenant uses.
    Usage,
    /// Read what the token is good for.
    Whoami,
    /// Write one record.
    Put,
    /// Delete one record.
    Delete,
}

/// Which records it is done to.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'a> {
    /// None.
    None,
    /// This one.
    One(&'a str),
    /// Those of a range, a page of them.
    Range(&'a ScanRange),
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// The tenant in the path, or `@me`.
    pub tenant: &'a str,
    /// What.
    pub verb: Verb,
    /// To which records.
    pub keys: Keys<'a>,
    /// What it brings or takes away at most, as far as that is known before: the body's announced length, a page's memory.
    pub bytes: u64,
}

/// What a call costs the member at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes that come in.
    pub bytes_in: u64,
    /// Bytes that go out.
    pub bytes_out: u64,
    /// Rows that are looked at.
    pub rows: usize,
}

/// A call that may be made, in the tenant that it may be made in.
#[derive(Clone, Debug)]
pub struct Admission {
    tenant: Arc<Tenant>,
    cost: Cost,
}

impl Verb {
    fn writes(self) -> bool {
        matches!(self, Verb::Put | Verb::Delete)
    }

    fn scope(self) -> &'static str {
        if self.writes() { "write" } else { "read" }
    }
}

impl Principal {
    /// The tenant that the caller's credential is for, whether or not it still opens it.
    pub fn claimed(&self) -> TenantId {
        let Principal::Bearer(claims) = self;
        TenantId(claims.tid)
    }

    /// Its name.
    pub fn claimed_name(&self) -> &str {
        let Principal::Bearer(claims) = self;
        &claims.sub
    }

    fn has(&self, wanted: &str) -> bool {
        let Principal::Bearer(claims) = self;
        claims.scope.split(' ').any(|scope| scope == wanted)
    }

    /// The tenant, if the credential is in force in this view.
    fn tenant(&self, view: &View) -> Option<Arc<Tenant>> {
        let Principal::Bearer(claims) = self;
        let tenant = view.tenant(&claims.sub)?;
        // The id, because a later tenant of the same name is another; the time of issue, because a released tenant that is taken over by
        // a new object keeps its id and may begin its generations again.
        let accepted = tenant.state == TenantState::Active
            && tenant.id.0 == claims.tid
            && tenant.config.credential_generation == claims.r#gen
            && claims.iat >= tenant.credential_issued_at;
        accepted.then_some(tenant)
    }
}

impl<'a> Action<'a> {
    /// What touches no record: a look at the token, or at the tenant's usage.
    pub fn look(tenant: &'a str, verb: Verb) -> Self {
        Action {
            tenant,
            verb,
            keys: Keys::None,
            bytes: 0,
        }
    }

    /// What is done to one record.
    pub fn one(tenant: &'a str, verb: Verb, key: &'a str, bytes: u64) -> Self {
        Action {
            tenant,
            verb,
            keys: Keys::One(key),
            bytes,
        }
    }

    /// A page of records.
    pub fn page(tenant: &'a str, range: &'a ScanRange, bytes: u64) -> Self {
        Action {
            tenant,
            verb: Verb::List,
            keys: Keys::Range(range),
            bytes,
        }
    }

    fn cost(&self) -> Cost {
        let (bytes_in, bytes_out) = if self.verb.writes() { (self.bytes, 0) } else { (0, self.bytes) };
        let rows = match self.keys {
            Keys::None => 0,
            Keys::One(_) => 1,
            Keys::Range(_) => ROWS,
        };
        Cost { bytes_in, bytes_out, rows }
    }
}

impl Admission {
    /// Where the call may be made.
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// What it costs at most.
    pub fn cost(&self) -> Cost {
        self.cost
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
    Scope(&'static str),
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
            // One sentence for another's tenant and for one that does not exist.
            Denial::Tenant => failure::problem(
                Code::TenantForbidden,
                "the token gives no access to the tenant in the path; `@me` stands for the token's own",
            ),
            Denial::Scope(scope) => failure::problem(Code::ScopeMissing, format!("the call needs a token with the scope `{scope}`")),
            Denial::Suspended => failure::suspended(),
            Denial::ReadOnly => failure::read_only(),
        }
    }
}

impl App {
    /// Lets a call in, if the caller may make it now. Reads are let in where they read (`read`), by the same `admit`.
    ///
    /// # Errors
    /// `token-invalid`, `tenant-forbidden`, `scope-missing`, `tenant-suspended`, `tenant-read-only`; or that of a read which was needed to
    /// be sure.
    pub async fn admit(&self, principal: &Principal, action: Action<'_>, deadline: Instant) -> Result<Admission, Failure> {
        if let Ok(admission) = admit(&self.views.latest(), principal, &action) {
            return Ok(admission);
        }
        let point = self.group.read_barrier(deadline).await.map_err(failure::read)?;
        Ok(admit(&point.view, principal, &action)?)
    }
}

/// The one decision: whether in this view the caller may do this.
pub(super) fn admit(view: &View, principal: &Principal, action: &Action<'_>) -> Result<Admission, Denial> {
    let tenant = principal.tenant(view).ok_or(Denial::Token)?;
    if action.tenant != OWN && action.tenant != principal.claimed_name() {
        return Err(Denial::Tenant);
    }
    let scope = action.verb.scope();
    if !principal.has(scope) {
        return Err(Denial::Scope(scope));
    }
    match tenant.config.limits.access {
        Access::Suspended => Err(Denial::Suspended),
        Access::ReadOnly if action.verb.writes() => Err(Denial::ReadOnly),
        Access::ReadOnly | Access::ReadWrite => Ok(Admission {
            tenant,
            cost: action.cost(),
        }),
    }
}

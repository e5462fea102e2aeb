//! What a token says. It is a JWT (RFC 7519) signed with Ed25519 (`alg: EdDSA`, RFC 8037); the operator signs, every member verifies
//! with the public keys of a JWK set (RFC 7517).

use serde::{Deserialize, Serialize};

/// The header of a token, in this order of members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always `EdDSA`.
    pub alg: String,
    /// Always `JWT`.
    pub typ: String,
    /// Names the signing key.
    pub kid: String,
}

/// The claims of a tenant's token, in this order of members: equal inputs give equal bytes. There is no `exp`: an operator that is down
/// expires nobody; a token dies with its credential generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The cluster id.
    pub iss: String,
    /// The tenant's name.
    pub sub: String,
    /// The tenant's id: a later tenant of the same name has another.
    pub tid: u32,
    /// Space-separated: `read`, `write`.
    pub scope: String,
    /// The credential generation.
    pub r#gen: u64,
    /// Unix seconds, from the replicated configuration.
    pub iat: u64,
    /// Unix seconds; none for a tenant's own token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exp: Option<u64>,
}

/// The claims of a join token, in this order of members: it lets one new member into a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinClaims {
    /// The cluster id.
    pub iss: String,
    /// Always [`JOIN_AUDIENCE`]: a tenant's token lets nobody in, and a join token opens no tenant.
    pub aud: String,
    /// The token's number, made at random. A group remembers whom it has let in by it, so the token works once.
    #[serde(with = "crate::admin::id_string")]
    pub jti: u64,
    /// Unix seconds.
    pub iat: u64,
    /// Unix seconds.
    pub exp: u64,
}

/// What [`JoinClaims::aud`] says.
pub const JOIN_AUDIENCE: &str = "kvfleet-join";

/// A set of public keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwkSet {
    /// The keys; a member accepts any of them, by `kid`.
    pub keys: Vec<Jwk>,
}

/// One Ed25519 public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// The key's name.
    pub kid: String,
    /// The public key, base64url without padding.
    pub x: String,
}

//! One token (RFC 7519, signed as RFC 8037 says). In: its text and the trusted keys. Out: its claims, or why it is none of ours.
//! Absent: other algorithms than EdDSA, which is what makes `alg` confusion impossible; encryption; and any use of a claim but `iss`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kvfleet_api::token::{Claims, JOIN_AUDIENCE, JoinClaims};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::keys::KeySet;

/// The members of the header that decide. Others (`typ`) say nothing that matters; `crit` names extensions that must be understood
/// (RFC 7515, 4.1.11), and we know none.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: String,
    crit: Option<IgnoredAny>,
}

/// A tenant's token.
pub(super) fn verify(token: &str, keys: &KeySet, cluster: &str) -> Result<Claims, &'static str> {
    let claims: Claims = signed_claims(token, keys)?;
    if claims.iss != cluster {
        return Err("it is of another cluster");
    }
    Ok(claims)
}

/// A join token. Whether its time is over is not looked at.
pub(super) fn verify_join(token: &str, keys: &KeySet, cluster: &str) -> Result<JoinClaims, &'static str> {
    let claims: JoinClaims = signed_claims(token, keys)?;
    if claims.aud != JOIN_AUDIENCE {
        return Err("it is no join token");
    }
    if claims.iss != cluster {
        return Err("it is of another cluster");
    }
    Ok(claims)
}

/// The signature first: nothing of what a stranger wrote into the claims is looked at.
fn signed_claims<T: DeserializeOwned>(token: &str, keys: &KeySet) -> Result<T, &'static str> {
    const SHAPE: &str = "it is no signed JWT";
    let (signed, signature) = token.rsplit_once('.').ok_or(SHAPE)?;
    let (head, claims) = signed.split_once('.').ok_or(SHAPE)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| SHAPE);

    let head: Head = serde_json::from_slice(&decode(head)?).map_err(|_| "its header lacks alg or kid")?;
    if head.alg != "EdDSA" {
        return Err("it must be signed with EdDSA");
    }
    if head.crit.is_some() {
        return Err("it demands extensions that are not known here");
    }
    let key = keys
        .get(&head.kid)
        .ok_or("it is signed with a key that this cluster does not know")?;
    key.verify(signed.as_bytes(), &decode(signature)?)
        .map_err(|_| "its signature is wrong")?;

    serde_json::from_slice(&decode(claims)?).map_err(|_| "it lacks claims that every token of ours has")
}

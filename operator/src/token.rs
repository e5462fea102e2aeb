//! Tokens of tenants: the key that signs them, and JWTs (RFC 7519) under Ed25519 (RFC 8037).
//!
//! In: a key as PEM, the claims. Out: a token; equal inputs give equal bytes, so that a Secret changes only when something did.
//! Absent: checking a token, which is the members' part, and the making and keeping of the key.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use kvfleet_api::token::{Claims, Header, Jwk};
use ring::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};

use crate::error::Error;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A key that signs tokens.
pub struct Signer {
    pair: Ed25519KeyPair,
    /// The key's name: its thumbprint, by which members find the public key in `jwks.json`.
    kid: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Signer {
    /// The key that a PEM text holds.
    ///
    /// # Errors
    /// [`Error::Certificate`] when it holds no Ed25519 key as PKCS #8.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let body = text
            .split_once(BEGIN)
            .and_then(|(_, after)| after.split_once(END))
            .map(|(body, _)| body.split_whitespace().collect::<String>())
            .ok_or_else(|| unusable("it is no PEM text with a PRIVATE KEY"))?;
        let document = STANDARD.decode(body).map_err(|_| unusable("its base64 is damaged"))?;
        // Other tools leave the public key out of PKCS #8; both forms are good.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document).map_err(|_| unusable("it is no Ed25519 key"))?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        // The thumbprint of RFC 7638: the required members only, in the order of their names, without white space.
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        Ok(Signer { pair, kid })
    }

    /// The public key, as members find it in `jwks.json`.
    #[must_use]
    pub fn published(&self) -> Jwk {
        Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            kid: self.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref()),
        }
    }

    /// The token that makes these claims.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        let header = Header {
            alg: "EdDSA".to_owned(),
            typ: "JWT".to_owned(),
            kid: self.kid.clone(),
        };
        let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).expect("three texts serialise"));
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).expect("texts and numbers serialise"));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

fn unusable(reason: &str) -> Error {
    Error::Certificate {
        what: "use of the key that signs tokens",
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::certificates::signing_key;

    /// The key of RFC 8037, appendix A.
    const KEY: &str =
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    fn claims() -> Claims {
        Claims {
            iss: "7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f11".to_owned(),
            sub: "acme".to_owned(),
            tid: 7,
            scope: "read write".to_owned(),
            r#gen: 1,
            iat: 1_790_000_000,
            exp: None,
        }
    }

    #[test]
    fn the_key_has_the_thumbprint_of_the_rfc() {
        assert_eq!(Signer::from_pem(KEY).unwrap().kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    /// A credentials Secret must not change by itself, in no release: these bytes are for ever.
    #[test]
    fn equal_inputs_give_equal_bytes() {
        let golden = concat!(
            "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImtQcktfcW14VldhWVZBOXd3QkY2SXVvM3ZWeno3VHhIQ1R3WEJ5Z3JTNGsifQ",
            ".eyJpc3MiOiI3YjBjM2YwZS01MmE1LTRkNmUtOWIxYy0wZDlhNGMyZThmMTEiLCJzdWIiOiJhY21lIiwidGlkIjo3LCJzY29wZSI6InJlYWQgd3JpdGUi",
            "LCJnZW4iOjEsImlhdCI6MTc5MDAwMDAwMH0",
            ".-0n5OYJtQkD4nQOIKXpvP6uz0aHKXFqip-Gx5rUA2s7DstMta4t3JwAn5KHDpiKBOYzAoFYEFuXkhwSPXTzHBA",
        );
        assert_eq!(Signer::from_pem(KEY).unwrap().sign(&claims()), golden);
    }

    #[test]
    fn what_is_signed_verifies_with_the_published_key_and_with_no_other() {
        let (pem, published) = signing_key().unwrap();
        let (_, other) = signing_key().unwrap();
        let signer = Signer::from_pem(&pem).unwrap();
        let token = signer.sign(&claims());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let verify = |key: &Jwk| {
            let public = URL_SAFE_NO_PAD.decode(&key.x).unwrap();
            UnparsedPublicKey::new(&ED25519, public)
                .verify(signed.as_bytes(), &signature)
                .is_ok()
        };
        assert_eq!(published.keys, [signer.published()], "members find the key by this name");
        assert!(verify(&published.keys[0]));
        assert!(!verify(&other.keys[0]));
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "no PEM"),
            ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "base64"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no Ed25519"),
        ] {
            let error = Signer::from_pem(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}

//! The key that signs tokens where there is no operator: made, read, shown as a JWK, used.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use kvfleet_api::token::{Claims, Header, JoinClaims, Jwk, JwkSet};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};

const LABEL: &str = "PRIVATE KEY";

/// Why a signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// The text is no PEM of a private key.
    #[error(
        "is no PEM text with a `-----BEGIN PRIVATE KEY-----` block; `kvnode certs` makes one, so does `openssl genpkey -algorithm ed25519`"
    )]
    NotPem,
    /// The key is none that we sign with.
    #[error("holds no Ed25519 key (PKCS #8): {0}; `kvnode certs` makes one, so does `openssl genpkey -algorithm ed25519`")]
    NotEd25519(ring::error::KeyRejected),
    /// The system gave no random number.
    #[error("cannot be made: the operating system gave no randomness")]
    NoRandomness,
}

/// An Ed25519 private key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A new key, as PKCS #8 in PEM.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<String, SigningKeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SigningKeyError::NoRandomness)?;
        let encoded = STANDARD.encode(document.as_ref());
        let mut pem = format!("-----BEGIN {LABEL}-----\n");
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, next) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = next;
        }
        pem.push_str(&format!("-----END {LABEL}-----\n"));
        Ok(pem)
    }

    /// The key in a PEM text.
    ///
    /// # Errors
    /// When the text holds none that we can sign with.
    pub fn from_pem(text: &str) -> Result<SigningKey, SigningKeyError> {
        let begin = format!("-----BEGIN {LABEL}-----");
        let end = format!("-----END {LABEL}-----");
        let (_, after) = text.split_once(&begin).ok_or(SigningKeyError::NotPem)?;
        let (body, _) = after.split_once(&end).ok_or(SigningKeyError::NotPem)?;
        let body: String = body.split_whitespace().collect();
        let document = STANDARD.decode(body).map_err(|_| SigningKeyError::NotPem)?;
        // Other tools write PKCS #8 without the public key; both forms are good.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document).map_err(SigningKeyError::NotEd25519)?;
        Ok(SigningKey { pair })
    }

    /// The public key; `kid` is its thumbprint (RFC 7638).
    pub fn jwk(&self) -> Jwk {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            kid,
            x,
        }
    }

    /// The public key alone in a set.
    pub fn jwk_set(&self) -> JwkSet {
        JwkSet { keys: vec![self.jwk()] }
    }

    /// A token that makes these claims; equal claims give equal bytes.
    pub fn token(&self, claims: &Claims) -> String {
        self.sign(claims)
    }

    /// A token that lets one member into a group.
    pub fn join_token(&self, claims: &JoinClaims) -> String {
        self.sign(claims)
    }

    fn sign(&self, claims: &impl serde::Serialize) -> String {
        let header = Header {
            alg: "EdDSA".to_owned(),
            typ: "JWT".to_owned(),
            kid: self.jwk().kid,
        };
        let encode = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
        let header = encode(serde_json::to_vec(&header).expect("text serialises"));
        let claims = encode(serde_json::to_vec(claims).expect("text and numbers serialise"));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    fn claims() -> Claims {
        Claims {
            iss: "c".into(),
            sub: "acme".into(),
            tid: 7,
            scope: "read write".into(),
            r#gen: 1,
            iat: 1_700_000_000,
            exp: None,
        }
    }

    #[test]
    fn a_token_verifies_with_the_published_key() {
        let key = SigningKey::from_pem(&SigningKey::generate().expect("randomness")).expect("our own PEM");
        let token = key.token(&claims());
        assert_eq!(token, key.token(&claims()), "equal claims give equal bytes");
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let x = URL_SAFE_NO_PAD.decode(key.jwk().x).expect("base64url");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        UnparsedPublicKey::new(&ED25519, x)
            .verify(signed.as_bytes(), &signature)
            .expect("the signature of this key");
        let body = URL_SAFE_NO_PAD
            .decode(signed.split_once('.').expect("two parts").1)
            .expect("base64url");
        assert_eq!(
            String::from_utf8_lossy(&body),
            r#"{"iss":"c","sub":"acme","tid":7,"scope":"read write","gen":1,"iat":1700000000}"#
        );
    }

    /// The key of RFC 8032, 7.1, test 1, as `openssl` writes it: without the public half. Its thumbprint is the one of RFC 8037, A.3.
    #[test]
    fn a_key_of_another_tool_is_read() {
        let pem =
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let jwk = SigningKey::from_pem(pem).expect("PKCS #8 version 1").jwk();
        assert_eq!(jwk.x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(jwk.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(matches!(SigningKey::from_pem("hello"), Err(SigningKeyError::NotPem)));
        let certificate = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        assert!(matches!(SigningKey::from_pem(certificate), Err(SigningKeyError::NotEd25519(_))));
    }
}

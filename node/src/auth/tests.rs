//! Tokens that must be taken, and every way in which one must not. No network, no group: keys in a temporary directory.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kvfleet_api::token::{Header, Jwk, JwkSet};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};

use super::*;

pub(crate) const CLUSTER: ClusterId = ClusterId::from_bytes([0x7b; 16]);

/// A signing key with a name.
pub(crate) struct Signer {
    kid: String,
    pair: Ed25519KeyPair,
}

impl Signer {
    pub(crate) fn new(kid: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Signer {
            kid: kid.to_owned(),
            pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap(),
        }
    }

    pub(crate) fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            kid: self.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref()),
        }
    }

    pub(crate) fn token(&self, claims: &Claims) -> String {
        let header = Header {
            alg: "EdDSA".into(),
            typ: "JWT".into(),
            kid: self.kid.clone(),
        };
        self.sign(&serde_json::to_string(&header).unwrap(), &serde_json::to_string(claims).unwrap())
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes())))
    }
}

pub(crate) fn write_keys(path: &Path, signers: &[&Signer]) {
    let set = JwkSet {
        keys: signers.iter().map(|signer| signer.jwk()).collect(),
    };
    std::fs::write(path, serde_json::to_vec(&set).unwrap()).unwrap();
}

fn claims() -> Claims {
    Claims {
        iss: CLUSTER.to_string(),
        sub: "acme".into(),
        tid: 1,
        scope: "read write".into(),
        r#gen: 1,
        iat: 1_700_000_000,
        exp: None,
    }
}

fn with(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, value.parse().unwrap());
    headers
}

struct Fixture {
    directory: tempfile::TempDir,
    signer: Signer,
    auth: Authenticator,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer::new("one");
        let path = directory.path().join("jwks.json");
        write_keys(&path, &[&signer]);
        let auth = Authenticator::open(&path, CLUSTER).unwrap();
        Fixture { directory, signer, auth }
    }

    fn check(&self, token: &str) -> Result<Arc<Claims>, Rejection> {
        self.auth.authenticate(&with(&format!("Bearer {token}")))
    }
}

/// RFC 8037, A.4: its key and its signature, with our own checks of the header around it.
#[test]
fn the_rfcs_own_signature_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"rfc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    std::fs::write(&path, set).unwrap();
    let keys = KeySet::read(&path).unwrap();
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let key = keys.get("rfc").unwrap();
    key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    // It names no key, so as a token it is refused.
    assert!(jwt::verify(&format!("{signed}.{signature}"), &keys, "c").is_err());
}

/// covers row 48
#[tokio::test]
async fn a_good_token_is_taken_and_nothing_else() {
    let fixture = Fixture::new();
    let good = fixture.signer.token(&claims());
    for _ in 0..2 {
        assert_eq!(*fixture.check(&good).unwrap(), claims(), "the second time from the cache");
    }
    assert_eq!(
        fixture.auth.authenticate(&with(&format!("bearer  {good} "))).as_deref(),
        Ok(&claims()),
        "the scheme's case does not matter"
    );

    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let claims_text = serde_json::to_string(&claims()).unwrap();
    let mut other_cluster = claims();
    other_cluster.iss = "another".into();
    let mut richer = claims();
    richer.tid = 2;
    let richer = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&richer).unwrap());
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let sign = |header: &str| fixture.signer.sign(header, &claims_text);
    let bad = [
        ("nothing like it", "nonsense".to_owned()),
        ("no signature", format!("{signed}.")),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{good}.x")),
        ("another signature", format!("{signed}.{flipped}{}", &signature[1..])),
        ("other claims", format!("{header}.{richer}.{signature}")),
        (
            "alg none",
            format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#)),
        ),
        ("alg none, signed", sign(r#"{"alg":"none","typ":"JWT","kid":"one"}"#)),
        ("alg HS256", sign(r#"{"alg":"HS256","typ":"JWT","kid":"one"}"#)),
        (
            "critical extensions",
            sign(r#"{"alg":"EdDSA","typ":"JWT","kid":"one","crit":["exp"]}"#),
        ),
        ("an unknown key", sign(r#"{"alg":"EdDSA","typ":"JWT","kid":"two"}"#)),
        ("no key", sign(r#"{"alg":"EdDSA","typ":"JWT"}"#)),
        ("a stranger's key of that name", Signer::new("one").token(&claims())),
        ("another cluster", fixture.signer.token(&other_cluster)),
        ("claims that are none", fixture.signer.sign(r#"{"alg":"EdDSA","kid":"one"}"#, "[]")),
        ("padding", format!("{signed}.{signature}==")),
        ("too long", format!("{good}{}", "A".repeat(LONGEST))),
    ];
    for (what, token) in bad {
        assert!(matches!(fixture.check(&token), Err(Rejection::Invalid(_))), "{what}");
    }
    assert_eq!(fixture.auth.authenticate(&HeaderMap::new()), Err(Rejection::Missing));
    assert_eq!(fixture.auth.authenticate(&with("Bearer ")), Err(Rejection::Missing));
    assert!(matches!(fixture.auth.authenticate(&with("Basic YTpi")), Err(Rejection::Invalid(_))));
    let mut twice = with(&format!("Bearer {good}"));
    twice.append(header::AUTHORIZATION, format!("Bearer {good}").parse().unwrap());
    assert!(matches!(fixture.auth.authenticate(&twice), Err(Rejection::Invalid(_))));
}

/// covers row 48
#[tokio::test]
async fn a_token_ends_even_when_it_was_good_before() {
    let fixture = Fixture::new();
    let ending = |exp| {
        let claims = Claims {
            exp: Some(exp),
            ..claims()
        };
        fixture.check(&fixture.signer.token(&claims)).map(|claims| claims.exp)
    };
    assert_eq!(ending(unix_seconds() - 1), Err(Rejection::Expired));
    let later = unix_seconds() + 3_600;
    assert_eq!(ending(later), Ok(Some(later)));
}

#[tokio::test]
async fn keys_change_under_a_running_member() {
    let fixture = Fixture::new();
    let old = fixture.signer.token(&claims());
    assert!(fixture.check(&old).is_ok());
    let path = fixture.directory.path().join("jwks.json");

    // What cannot be used is not used.
    std::fs::write(&path, "{}").unwrap();
    let next = Signer::new("two-with-a-longer-name");
    let new = next.token(&claims());
    tokio::time::timeout(Duration::from_secs(30), async {
        // Written again until it is seen: the file system's clock may be coarser than the test.
        loop {
            assert!(
                fixture.check(&old).is_ok() || fixture.check(&new).is_ok(),
                "one of the two is always trusted"
            );
            write_keys(&path, &[&next]);
            if fixture.check(&new).is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert!(fixture.check(&old).is_err(), "a token in the cache goes with its key");
}

#[test]
fn a_set_that_cannot_be_used_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        KeySet::read(&path).err().unwrap().to_string()
    };
    assert!(refused("[]").contains("no JWK set"));
    assert!(refused(r#"{"keys":[]}"#).contains("holds no key"));
    assert!(refused(r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"AAAA"}]}"#).contains("key `k`"));
    assert!(refused(r#"{"keys":[{"kty":"RSA","crv":"Ed25519","kid":"k","x":"AAAA"}]}"#).contains("key `k`"));
    std::fs::remove_file(&path).unwrap();
    assert!(KeySet::read(&path).err().unwrap().to_string().contains("cannot read"));
}

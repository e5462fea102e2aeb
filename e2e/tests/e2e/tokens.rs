//! Who gets in.

use anyhow::Result;
use kvfleet_e2e::{
    manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
};

/// (j) No token, a forged one, one of another tenant and one of another namespace's cluster: refused. A tenant that does not exist looks
/// the same as one that is another's.
/// covers rows 14, 48, 104
#[test]
fn only_the_tenants_own_token_opens_it() -> Result<()> {
    let (here, there) = (Namespace::new("tokens")?, Namespace::new("strangers")?);
    let probe = Probe::start(&here)?;
    here.apply(&format!(
        "{}---\n{}---\n{}",
        manifest::cluster("tokens", 1),
        manifest::tenant("acme", "tokens", ""),
        manifest::tenant("other", "tokens", "")
    ))?;
    there.apply(&format!(
        "{}---\n{}",
        manifest::cluster("tokens", 1),
        manifest::tenant("acme", "tokens", "")
    ))?;
    for (namespace, tenant) in [(&here, "acme"), (&here, "other"), (&there, "acme")] {
        namespace.ready(&format!("tenant/{tenant}"))?;
    }
    let acme = Credentials::of(&here, "acme")?;
    assert_eq!(probe.key(&acme, "PUT", "k", &["--body", "mine"])?.status, 201);
    assert_eq!(
        probe
            .http(
                "GET",
                &format!("{}/keys/k", acme.endpoint.replace("/acme", "/@me")),
                &["-H", &format!("Authorization: Bearer {}", acme.token)]
            )?
            .body,
        "mine"
    );

    let none = probe.http("GET", &format!("{}/keys/k", acme.endpoint), &[])?;
    assert_eq!((none.status, none.code().as_deref()), (401, Some("token-missing")));
    assert!(none.headers.contains_key("www-authenticate"));
    let with = |token: &str| {
        probe.key(
            &Credentials {
                endpoint: acme.endpoint.clone(),
                token: token.to_owned(),
            },
            "GET",
            "k",
            &[],
        )
    };

    let (signed, signature) = acme.token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{first}{}", &signature[1..]);
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", acme.token.split('.').nth(1).unwrap());
    let foreign = Credentials::of(&there, "acme")?.token;
    for token in [forged.as_str(), unsigned.as_str(), foreign.as_str(), "nonsense"] {
        let answer = with(token)?;
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (401, Some("token-invalid")),
            "{answer:?}"
        );
    }

    let strangers = with(&Credentials::of(&here, "other")?.token)?;
    assert_eq!((strangers.status, strangers.code().as_deref()), (403, Some("tenant-forbidden")));
    let missing = probe.http(
        "GET",
        &format!("{}/keys/k", acme.endpoint.replace("/acme", "/nobody")),
        &["-H", &format!("Authorization: Bearer {}", acme.token)],
    )?;
    assert_eq!(
        (missing.status, missing.code()),
        (strangers.status, strangers.code()),
        "a wrong and a missing tenant look the same"
    );
    assert_eq!(probe.key(&acme, "GET", "k", &[])?.body, "mine");
    Ok(())
}

//! What a Tenant says when something is in its way, and what it puts right.

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{
    manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};

/// A Tenant may come before its cluster; two Tenants cannot have one name; a value above a ceiling is named; a foreign Secret is untouched;
/// a deleted or edited credentials Secret is put back.
/// covers row 14
#[test]
fn obstacles_are_named_and_credentials_put_back() -> Result<()> {
    let namespace = Namespace::new("tenants")?;
    namespace.apply(&manifest::tenant("acme", "late", ""))?;
    wait::until("ClusterNotFound", Duration::from_secs(20), || {
        Ok((namespace.reason("tenant/acme", "Accepted")?.as_deref() == Some("ClusterNotFound")).then_some(()))
    })?;
    assert!(!namespace.condition("tenant/acme", "Ready", "True")?);
    namespace.apply(&manifest::cluster_with("late", 1, "  tenancy: {ceilings: {quota: {storage: 1Gi}}}"))?;
    namespace.ready("tenant/acme")?;

    namespace.apply(&manifest::tenant("second", "late", "  tenantName: acme"))?;
    wait::until("TenantNameTaken", Duration::from_secs(20), || {
        Ok((namespace.reason("tenant/second", "Accepted")?.as_deref() == Some("TenantNameTaken")).then_some(()))
    })?;
    namespace.apply(&manifest::tenant("greedy", "late", "  quota: {storage: 2Gi}"))?;
    wait::until("ExceedsCeiling", Duration::from_secs(20), || {
        Ok((namespace.reason("tenant/greedy", "Accepted")?.as_deref() == Some("ExceedsCeiling")).then_some(()))
    })?;

    namespace.kubectl(&["create", "secret", "generic", "precious", "--from-literal=mine=yes"])?;
    namespace.apply(&manifest::tenant("clumsy", "late", "  credentials: {secretName: precious}"))?;
    wait::until("SecretNotOwned", Duration::from_secs(20), || {
        Ok((namespace.reason("tenant/clumsy", "CredentialsReady")?.as_deref() == Some("SecretNotOwned")).then_some(()))
    })?;
    let precious = namespace.secret("precious")?;
    assert_eq!(
        (precious.len(), precious["mine"].as_str()),
        (1, "yes"),
        "another's Secret is untouched"
    );

    let token = Credentials::of(&namespace, "acme")?.token;
    namespace.kubectl(&["delete", "secret", "acme-kv-credentials"])?;
    let (again, _) = wait::until("the Secret is back", Duration::from_secs(20), || {
        Ok(Some(Credentials::of(&namespace, "acme")?))
    })?;
    assert_eq!(again.token, token, "equal inputs give an equal token");
    namespace.kubectl(&[
        "patch",
        "secret",
        "acme-kv-credentials",
        "--type=merge",
        "-p",
        r#"{"stringData":{"token":"spoilt"}}"#,
    ])?;
    wait::until("the token is put back", Duration::from_secs(20), || {
        Ok((Credentials::of(&namespace, "acme")?.token == token).then_some(()))
    })?;
    Ok(())
}

/// A Tenant that goes keeps its data for a Tenant of the same name, and gives it up when its deletion policy says so.
#[test]
fn a_deleted_tenant_keeps_or_gives_up_its_data() -> Result<()> {
    let namespace = Namespace::new("retain")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("retain", 1),
        manifest::tenant("acme", "retain", "")
    ))?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "PUT", "kept", &["--body", "x"])?.status, 201);

    namespace.kubectl(&["delete", "tenant", "acme", "--timeout=30s"])?;
    wait::until("access is refused", Duration::from_secs(30), || {
        Ok((probe.key(&acme, "GET", "kept", &[])?.status == 403 || probe.key(&acme, "GET", "kept", &[])?.status == 401).then_some(()))
    })?;
    wait::until("its Secret is gone", Duration::from_secs(30), || {
        Ok(namespace.kubectl(&["get", "secret", "acme-kv-credentials"]).is_err().then_some(()))
    })?;
    namespace.apply(&manifest::tenant("acme", "retain", "  deletionPolicy: Delete"))?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "GET", "kept", &[])?.body, "x", "adopted again");

    namespace.kubectl(&["delete", "tenant", "acme", "--timeout=60s"])?;
    namespace.apply(&manifest::tenant("acme", "retain", ""))?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(
        probe.key(&acme, "GET", "kept", &[])?.status,
        404,
        "a tenant of the same name begins empty"
    );
    Ok(())
}

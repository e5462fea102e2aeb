//! Whose a tenant's name is when Tenants come and go.

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{
    manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};

/// x is deleted and its data kept; another wants its name; x is made again a second later: it takes its data up, and the other is told.
#[test]
fn a_tenant_that_is_made_again_takes_its_data_up_before_another_that_waits() -> Result<()> {
    let namespace = Namespace::new("names")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("names", 1),
        manifest::tenant("x", "names", "")
    ))?;
    namespace.ready("tenant/x")?;
    let x = Credentials::of(&namespace, "x")?;
    assert_eq!(probe.key(&x, "PUT", "kept", &["--body", "x"])?.status, 201);

    namespace.kubectl(&["delete", "tenant", "x", "--timeout=30s"])?;
    namespace.apply(&manifest::tenant("other", "names", "  tenantName: x"))?;
    wait::until("the other is told", Duration::from_secs(20), || {
        Ok((namespace.reason("tenant/other", "Accepted")?.as_deref() == Some("TenantNameTaken")).then_some(()))
    })?;
    namespace.apply(&manifest::tenant("x", "names", ""))?;
    namespace.ready("tenant/x")?;
    let x = Credentials::of(&namespace, "x")?;
    assert_eq!(probe.key(&x, "GET", "kept", &[])?.body, "x");
    assert_eq!(namespace.reason("tenant/other", "Accepted")?.as_deref(), Some("TenantNameTaken"));
    Ok(())
}

//! (h) Bad manifests are refused by the API server itself, with a message that says what to do.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use kvfleet_e2e::{kubectl, manifest, namespace::Namespace};

/// Every manifest of `fixtures/invalid` is refused with the text that its first line names. Those about a change, of several documents, need
/// objects of their own: `make integration` walks all of them, and `impossible_edits_are_refused` has some here.
/// covers rows 19, 44
#[test]
fn bad_manifests_are_refused() -> Result<()> {
    let namespace = Namespace::new("refusals")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/invalid");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let expected = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# expect: "))
            .with_context(|| format!("{}: no `# expect:`", path.display()))?;
        if text.contains("\n---") {
            continue;
        }
        let output = kubectl::attempt(&["--namespace", &namespace.name, "apply", "--dry-run=server", "-f", "-"], &text)?;
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{} was accepted", path.display());
        assert!(
            message.contains(expected),
            "{}: expected `{expected}`, got: {message}",
            path.display()
        );
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} fixtures in {}", folder.display());
    Ok(())
}

/// An edit that cannot be carried out is refused, not ignored.
#[test]
fn impossible_edits_are_refused() -> Result<()> {
    let namespace = Namespace::new("edits")?;
    namespace.apply(&manifest::cluster("edits", 1))?;
    namespace.apply(&manifest::tenant("acme", "edits", ""))?;
    let cases = [
        ("kvcluster", "edits", r#"{"spec":{"replicas":2}}"#, "spec.replicas"),
        ("kvcluster", "edits", r#"{"spec":{"storage":{"size":"128Mi"}}}"#, "spec.storage"),
        (
            "kvcluster",
            "edits",
            r#"{"spec":{"storage":{"storageClassName":"other"}}}"#,
            "storageClassName",
        ),
        ("tenant", "acme", r#"{"spec":{"clusterRef":{"name":"other"}}}"#, "spec.clusterRef"),
        ("tenant", "acme", r#"{"spec":{"tenantName":"other"}}"#, "tenantName"),
        ("tenant", "acme", r#"{"spec":{"ttl":{"default":"2h","max":"1h"}}}"#, "spec.ttl"),
    ];
    for (kind, name, patch, field) in cases {
        let output = kubectl::attempt(
            &["--namespace", &namespace.name, "patch", kind, name, "--type=merge", "-p", patch],
            "",
        )?;
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(field), "{patch}: {message}");
    }
    Ok(())
}

//! The system's own tools: `ip`, `nft`, `mount`, `losetup`.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a tool and gives its output.
///
/// # Errors
/// When it is missing or fails: with its message.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} is missing: install it (CONTRIBUTING.md, Fault tests)"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same for what must not stop a clean-up: prints why it failed.
pub(super) fn attempt(program: &str, arguments: &[&str]) {
    if let Err(error) = run(program, arguments) {
        eprintln!("left over: {error:#}");
    }
}

//! `kubectl`, always with the kubeconfig that `KVFLEET_E2E_KUBECONFIG` names: never the user's current context.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The kubeconfig of the test cluster.
///
/// # Errors
/// When the variable is not set: the tests then fail, they are never skipped.
pub fn kubeconfig() -> Result<String> {
    std::env::var("KVFLEET_E2E_KUBECONFIG")
        .context("KVFLEET_E2E_KUBECONFIG is not set: run `make e2e`, or name the kubeconfig of a test cluster")
}

/// A `kubectl` with these arguments, not started yet.
///
/// # Errors
/// When the kubeconfig is not named.
pub fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(kubeconfig()?).args(arguments);
    Ok(command)
}

/// Runs `kubectl` and gives its standard output.
///
/// # Errors
/// When it fails: with its arguments and its standard error.
pub fn run(arguments: &[&str]) -> Result<String> {
    run_with_input(arguments, "")
}

/// Runs `kubectl` with text on its standard input.
///
/// # Errors
/// When it fails: with its arguments and its standard error.
pub fn run_with_input(arguments: &[&str], input: &str) -> Result<String> {
    let output = attempt(arguments, input)?;
    if !output.status.success() {
        bail!(
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `kubectl` and gives what came out, success or not.
///
/// # Errors
/// When it cannot be started.
pub fn attempt(arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = command(arguments)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("kubectl cannot be started")?;
    let mut stdin = child.stdin.take().context("kubectl has no standard input")?;
    // A kubectl that ends early closes its end; what it says on standard error is the better message.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().context("kubectl cannot be awaited")
}

/// Runs `kubectl … -o json` and parses the answer.
///
/// # Errors
/// When it fails or prints no JSON.
pub fn json(arguments: &[&str]) -> Result<Value> {
    let mut all = arguments.to_vec();
    all.extend(["-o", "json"]);
    serde_json::from_str(&run(&all)?).with_context(|| format!("kubectl {} printed no JSON", all.join(" ")))
}

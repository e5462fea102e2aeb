//! The ceiling: an axum handler that answers every GET with 256 bytes, in a process of its own.

use std::{
    env,
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use axum::{Router, body::Bytes, routing};

use super::{
    cluster::{Cluster, Directory, System, ask, await_answer},
    ports,
    process::Process,
    request::{Numbers, Operation, Template, VALUE},
};

/// The hidden command of `kvbench` that serves it.
pub const COMMAND: &str = "serve-bare";

/// Serves for ever.
///
/// # Errors
/// When the port is taken.
pub fn serve(port: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let value = Bytes::from_static(&[b'v'; VALUE]);
        let router = Router::new().route("/api/v1/tenants/{tenant}/keys/{*key}", routing::get(move || async move { value }));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        axum::serve(listener, router).await?;
        Ok(())
    })
}

/// Starts it beside this process.
///
/// # Errors
/// When it does not come up.
pub fn start(parent: &Path) -> Result<Cluster> {
    let directory = Directory::new(parent, "bare")?;
    let port = ports::free(1, 18_000)?;
    let log = File::create(directory.path().join("bare.log"))?;
    let child = Command::new(env::current_exe()?)
        .args([COMMAND, &port.to_string()])
        .stdout(log.try_clone()?)
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start this program once more")?;
    let mut members = vec![Process::new("bare", child)];
    await_answer("the bare handler answers", &mut members, directory.path(), || {
        ask(port, Template::kvfleet(Operation::Gets, "", 1).fill(0, &mut Numbers::new())).ok()
    })?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Cluster {
        system: System::Bare,
        members,
        leader: 0,
        address,
        locate: Box::new(move || Some((0, address))),
        token: String::new(),
        directory,
    })
}

//! The operator's process: parses what it was told and calls the library.

use anyhow::Context as _;
use clap::Parser;
use kvfleet_operator::{
    config::{Arguments, Command, Config},
    lift_finalizers, logging, run,
};
use tokio::signal::unix::{SignalKind, signal};

// One thread does: the operator waits for the network, and threads cost memory.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Arguments {
        common,
        run: arguments,
        command,
    } = Arguments::parse();
    logging::start(common.log_level, common.log_format);
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let kubernetes = kube::Config::infer()
        .await
        .context("there is no way to an API server: run in a pod, or set KUBECONFIG")?;
    match command.unwrap_or(Command::Run) {
        Command::Run => run(Config::new(common, arguments)?, kubernetes, shutdown).await?,
        Command::LiftFinalizers => {
            let client = kube::Client::try_from(kubernetes)?;
            let lifted = tokio::select! {
                lifted = lift_finalizers::run(&client, &common.watch_namespaces) => lifted?,
                () = shutdown => anyhow::bail!("stopped before every Tenant was looked at"),
            };
            tracing::info!(lifted, "no Tenant carries the finalizer any more; data stays where it is");
        }
    }
    Ok(())
}

//! `kvprobe`: the tests' hands inside the cluster. It waits in a pod, and `kubectl exec` runs its other commands there.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use kvfleet_e2e::load;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Waits for SIGTERM: the pod's main process.
    Idle,
    /// Makes one HTTP request, as soon as there is somebody to connect to, and prints {status, headers, body} as JSON.
    Http {
        /// The method.
        method: String,
        /// The whole URL.
        url: String,
        /// A header, `name: value`.
        #[arg(short = 'H', long = "header")]
        headers: Vec<String>,
        /// The body.
        #[arg(long)]
        body: Option<String>,
        /// A body of this many bytes instead.
        #[arg(long, conflicts_with = "body")]
        body_size: Option<usize>,
    },
    /// Writes under load, reads everything back, and prints the report as JSON. Prints `started` at the first acknowledgement.
    Load {
        /// The tenant's URL.
        #[arg(long)]
        endpoint: String,
        /// The tenant's token.
        #[arg(long, env = "KVPROBE_TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// A file that holds the token.
        #[arg(long)]
        token_file: Option<PathBuf>,
        /// Keys begin with this.
        #[arg(long, default_value = "load")]
        prefix: String,
        /// Writers side by side.
        #[arg(long, default_value_t = 8)]
        workers: u32,
        /// Seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    // The data port speaks plain HTTP here; the client library still wants a TLS provider to be named.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().command {
        Command::Idle => {
            signal(SignalKind::terminate())?.recv().await;
        }
        Command::Http {
            method,
            url,
            headers,
            body,
            body_size,
        } => http(&method, &url, &headers, body, body_size).await?,
        Command::Load {
            endpoint,
            token,
            token_file,
            prefix,
            workers,
            seconds,
        } => {
            let token = match (token, token_file) {
                (Some(token), _) => token,
                (None, Some(file)) => std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?,
                (None, None) => anyhow::bail!("--token, KVPROBE_TOKEN or --token-file is required"),
            };
            let shape = load::Shape {
                workers,
                duration: Duration::from_secs(seconds),
            };
            let report = load::run(&endpoint, &token, &prefix, shape, || println!("started")).await?;
            println!("{}", serde_json::to_string(&report)?);
        }
    }
    Ok(())
}

async fn http(method: &str, url: &str, headers: &[String], body: Option<String>, body_size: Option<usize>) -> Result<()> {
    let client = reqwest::Client::builder()
        // Before the node's proxy knows a Service, its packets go nowhere: that is noticed soon, and the next attempt may find it.
        .connect_timeout(Duration::from_secs(1))
        .timeout(Duration::from_secs(30))
        .tls_certs_only([])
        .build()?;
    let mut request = client.request(method.parse()?, url);
    for header in headers {
        let (name, value) = header.split_once(':').context("a header is `name: value`")?;
        request = request.header(name.trim(), value.trim());
    }
    let body = body_size.map(|size| vec![b'x'; size]).or(body.map(String::into_bytes));
    let request = request.body(body.unwrap_or_default()).build()?;
    // A Service takes a second or two to reach the node's proxy. What was never connected was never asked, so it may be asked again.
    let patience = Instant::now() + Duration::from_secs(20);
    let response = loop {
        let again = request.try_clone().context("the request cannot be repeated")?;
        match client.execute(again).await {
            Err(error) if error.is_connect() && Instant::now() < patience => tokio::time::sleep(Duration::from_millis(100)).await,
            answered => break answered?,
        }
    };
    let status = response.status().as_u16();
    let headers: BTreeMap<String, String> = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = String::from_utf8_lossy(&response.bytes().await?).into_owned();
    println!("{}", json!({"status": status, "headers": headers, "body": body}));
    Ok(())
}

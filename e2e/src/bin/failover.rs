//! `make bench-failover`: how long writes stop when the primary's pod is deleted, and when its process is killed.
//!
//! Each run writes from a pod through the Service on several connections, takes the primary away, and notes the largest gap between two
//! acknowledged writes. Afterwards every acknowledged write is read back: a figure that costs data is none.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use kvfleet_e2e::{
    manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};

#[derive(Parser)]
struct Arguments {
    /// Runs of each kind.
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Connections that write side by side.
    #[arg(long, default_value_t = 16)]
    workers: u32,
    /// Seconds of load per run.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let namespace = Namespace::new("bench")?;
    let probe = Probe::start(&namespace)?;
    let tenant = manifest::tenant("acme", "bench", "  quota: {keys: 100000000, storage: 100Gi}");
    namespace.apply(&format!("{}---\n{tenant}", manifest::cluster("bench", 3)))?;
    let ready = namespace.ready("kvcluster/bench")?;
    println!("KvCluster of 3 Ready after {:.1} s", ready.as_secs_f64());
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;

    println!(
        "| the primary's … | runs | largest gap between acknowledged writes: median | worst | acknowledged writes lost |\n|---|---|---|---|---|"
    );
    for (what, killed) in [("pod is deleted", false), ("process is killed", true)] {
        let mut gaps = Vec::new();
        let mut lost = 0;
        for run in 0..arguments.runs {
            let old = namespace.primary("bench")?;
            let uid = namespace.pod_field(&old, ".metadata.uid")?;
            let load = probe.load(&acme, &format!("{killed}/{run}"), arguments.workers, arguments.seconds)?;
            if killed {
                namespace.kill(&old)?;
            } else {
                namespace.kubectl(&["delete", "pod", &old, "--wait=false"])?;
            }
            let report = load.report()?;
            gaps.push(report.largest_gap_ms);
            lost += report.lost.len();
            eprintln!("{what} {run}: {report:?}");
            // The next run begins with three members that are ready.
            wait::until("the member is back", Duration::from_secs(120), || {
                let back = killed || namespace.pod_field(&old, ".metadata.uid")? != uid;
                let ready = namespace.pod_field(&old, ".status.containerStatuses[0].ready")? == "true";
                Ok((back && ready && namespace.condition("kvcluster/bench", "Ready", "True")?).then_some(()))
            })?;
        }
        gaps.sort_by(f64::total_cmp);
        let median = gaps.get(gaps.len() / 2).context("no runs")?;
        let worst = gaps.last().context("no runs")?;
        println!("| {what} | {} | {median:.0} ms | {worst:.0} ms | {lost} |", gaps.len());
    }
    Ok(())
}

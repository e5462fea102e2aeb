//! How long nobody's write is acknowledged when the leader goes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kvfleet_e2e::{
    dice::{self, Dice},
    fleet::{Disks, Fleet, Shape},
    history::{Keys, Load, Mix, Plan, Recorder, Seen},
};

use crate::verdict;

/// How the leader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// SIGKILL.
    Killed,
    /// SIGTERM: it hands over first.
    Terminated,
    /// Its disk stops answering, for good.
    DiskFrozen,
}

/// What the writers met in one run.
struct Gap {
    /// The longest time without an acknowledgement.
    silence: Duration,
    /// The longest time that one request took that was answered or refused.
    slowest: Duration,
}

#[test]
fn a_killed_leader_costs_at_most_a_second_and_a_half() {
    measure(Way::Killed, Duration::from_millis(1_500));
}

#[test]
fn a_leader_that_is_told_to_go_costs_a_tenth_of_a_second() {
    measure(Way::Terminated, Duration::from_millis(100));
}

#[test]
fn a_leader_whose_disk_freezes_costs_at_most_five_seconds_and_ends() {
    measure(Way::DiskFrozen, Duration::from_secs(5));
}

/// The bar is for the 99th percentile, and for a run of its own on an idle machine: with `KVFLEET_GAPS` it is judged, without it the figures are
/// printed and twice the bar (and at least a second more) is allowed.
fn measure(way: Way, bar: Duration) {
    let runs = dice::count("KVFLEET_GAPS", 3);
    let judged = std::env::var_os("KVFLEET_GAPS").is_some();
    let seed = dice::seed();
    println!("{way:?}: KVFLEET_SEED={seed}");
    verdict::run(async {
        let disks = if way == Way::DiskFrozen { Disks::Volumes } else { Disks::Shared };
        let mut fleet = Fleet::start(Shape::three(disks)).await?;
        let dice = Dice::new(seed);
        let recorder = Recorder::new();
        let mut gaps = Vec::new();
        for number in 0..runs as u64 {
            gaps.push(one(&mut fleet, way, &dice.fork(number), &recorder).await?);
        }
        let at = |mut values: Vec<Duration>, percent: usize| {
            values.sort_unstable();
            values[(values.len() * percent).div_ceil(100).clamp(1, values.len()) - 1]
        };
        let shown = |values: &[Duration], percent| format!("{} ms", at(values.to_vec(), percent).as_millis());
        let silences: Vec<Duration> = gaps.iter().map(|gap| gap.silence).collect();
        let slowest: Vec<Duration> = gaps.iter().map(|gap| gap.slowest).collect();
        println!(
            "{way:?}, {runs} runs: largest gap between acknowledged writes p50 {} p99 {} max {} (bar {bar:?}); slowest answer p50 {} max {}",
            shown(&silences, 50),
            shown(&silences, 99),
            shown(&silences, 100),
            shown(&slowest, 50),
            shown(&slowest, 100),
        );
        verdict::judge(&mut fleet, "gap-", &recorder, &format!("{way:?}")).await;
        let allowed = if judged { bar } else { bar * 2 + Duration::from_secs(1) };
        if at(silences, 99) > allowed {
            bail!("{way:?}: the largest gap is above {allowed:?}");
        }
        fleet.finish();
        Ok(())
    });
}

async fn one(fleet: &mut Fleet, way: Way, dice: &Dice, recorder: &Recorder) -> Result<Gap> {
    let leader = fleet.leader().await?;
    let begun = recorder.now();
    let prefix = format!("gap-{begun}");
    // Every member has writers, the leader's too: its clients are the ones whose requests are in flight when it goes. Nothing is ever left to this
    // timeout.
    let plan = Plan {
        members: &[0, 1, 2],
        clients: 4,
        mix: Mix::WRITES,
        keys: Keys::Shared,
        timeout: Duration::from_secs(20),
        prefix: &prefix,
    };
    let mut load = Load::start(fleet, &plan, dice, recorder)?;
    load.more(300).await?;
    // It may have led, and frozen, in an earlier run.
    let said = fleet.member(leader).said().len();
    let struck = recorder.now();
    match way {
        Way::Killed => fleet.member(leader).kill()?,
        Way::Terminated => fleet.member(leader).process()?.signal("TERM")?,
        Way::DiskFrozen => fleet.member(leader).volume.as_ref().context("a volume")?.freeze()?,
    }
    // Until another leads and the load goes on, through the two that are left.
    let others: Vec<usize> = (0..fleet.size()).filter(|number| *number != leader).collect();
    let since = Instant::now();
    loop {
        let acknowledged = recorder.written_since(struck + 50_000_000, &others);
        if acknowledged > 200 && fleet.leader_now().await.is_some_and(|now| now != leader) {
            break;
        }
        anyhow::ensure!(
            since.elapsed() < Duration::from_secs(30),
            "{way:?}: no other leader took writes within 30 s"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ended = recorder.now();
    match way {
        Way::Killed => {}
        Way::Terminated => drop(fleet.member(leader).take()?.wait()?),
        Way::DiskFrozen => {
            // The kernel lets go of its threads only when the disk answers again; what they were told stays.
            let hung = Instant::now();
            while !fleet.member(leader).said().split_off(said).contains("the disk hangs") {
                ensure!(hung.elapsed() < Duration::from_secs(30), "a process whose disk hangs goes on");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            fleet.member(leader).volume.as_ref().context("a volume")?.thaw()?;
            let status = fleet.member(leader).take()?.wait()?;
            ensure!(!status.success(), "a process whose disk hung ended with {status}");
        }
    }
    load.stop().await?;
    fleet.start_member(leader)?;
    fleet.all_ready().await?;

    let history = recorder.history();
    let run = history
        .records
        .iter()
        .filter(|record| record.called >= begun && record.called <= ended);
    let mut acknowledged: Vec<u64> = run
        .clone()
        .filter(|record| matches!(record.seen, Seen::Written { .. }) && record.answered <= ended)
        .map(|record| record.answered)
        .collect();
    acknowledged.sort_unstable();
    let silence = acknowledged.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX);
    let slowest = run.map(|record| record.answered - record.called).max().unwrap_or(0);
    Ok(Gap {
        silence: Duration::from_nanos(silence),
        slowest: Duration::from_nanos(slowest),
    })
}

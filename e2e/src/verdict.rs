//! What every run ends with.

use std::time::{Duration, Instant};

use crate::{
    fleet::Fleet,
    history::{Judgement, Recorder, Seen},
    linearizability::Call,
};

/// Members must agree this soon after the last fault is healed.
const CONVERGENCE: Duration = Duration::from_secs(10);
/// A history must be judged within this time.
const JUDGING: Duration = Duration::from_secs(60);

/// Runs a test on a runtime of its own. The test's own thread starts the processes, so that they live as long as it does.
///
/// # Panics
/// When the test fails.
pub fn run<T>(test: impl Future<Output = anyhow::Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        match test.await {
            Ok(value) => value,
            Err(error) => panic!("{error:#}"),
        }
    })
}

/// A test's fleet and everything in it is healed: its members must agree on what is under the prefix, every key is read once more through
/// every member as part of the history (a write that was lost, however late, has a reader), and the history must be explained. Says what was seen.
///
/// # Panics
/// When any of this does not hold.
pub async fn judge(fleet: &mut Fleet, prefix: &str, recorder: &Recorder, what: &str) {
    fleet.all_ready().await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    let converged = fleet
        .converge(prefix, CONVERGENCE)
        .await
        .unwrap_or_else(|error| panic!("{what}: {error:#}"));
    for member in 0..fleet.size() {
        crate::history::read_all(fleet, member, prefix, recorder)
            .await
            .unwrap_or_else(|error| panic!("{what}: reading everything through member {member}: {error:#}"));
    }
    let history = recorder.history();
    let begun = Instant::now();
    let judgement = history.judge();
    let took = begun.elapsed();
    let count = |wanted: fn(&Seen) -> bool| history.records.iter().filter(|record| wanted(&record.seen)).count();
    println!(
        "{what}: {} operations, {} of unknown outcome, {} without effect; members agreed after {converged:.2?}; judged in {took:.2?}",
        history.records.len(),
        count(|seen| *seen == Seen::Unknown),
        count(|seen| *seen == Seen::Nothing),
    );
    let lost = history.lost();
    assert!(
        lost.is_empty(),
        "{what}: {} acknowledged writes to keys that nobody wrote again are lost, the first: {:?}",
        lost.len(),
        lost.first()
    );
    if let Judgement::Unsound(why) = judgement {
        panic!("{what}: not linearizable\n{why}");
    }
    assert!(took < JUDGING, "{what}: the checker took {took:?}");
}

/// Operations of a kind that were answered in time.
pub fn answered(recorder: &Recorder, wanted: impl Fn(&Call) -> bool) -> usize {
    let history = recorder.history();
    let answered = history
        .records
        .iter()
        .filter(|record| !matches!(record.seen, Seen::Nothing | Seen::Unknown));
    answered.filter(|record| wanted(&record.call)).count()
}

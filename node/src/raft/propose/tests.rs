//! What waits, what goes together, and who is told what.

use std::time::Duration;

use bytes::Bytes;
use kvfleet_api::error::Outcome;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Attempt,
    flying::Flying,
    prepared::Prepared,
    queue::{ENTRY_BYTES, ENTRY_WRITES, Queue, Waiting},
};
use crate::{
    raft::{ProposeError, status::Leadership},
    state::{Bound, Command, Condition, Delete, Kind, Operation, Put, TenantId, Ttl, Write},
};

fn put(key: &str, bytes: usize) -> Prepared {
    let put = Operation::Put(Put {
        key: key.to_owned(),
        value: Bytes::from(vec![b'v'; bytes]),
        kind: Kind::Bytes,
        content_type: None,
        metadata: Vec::new(),
        ttl: Ttl::Never,
        condition: Condition::None,
    });
    Prepared::new(Command::one(TenantId(1), put)).0
}

fn sweep() -> Prepared {
    Prepared::new(Command::Sweep { limit: Bound::STEP }).0
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

async fn push(queue: &Queue, prepared: Prepared) -> oneshot::Receiver<Attempt> {
    queue.push(prepared, soon()).await.unwrap()
}

/// The lengths of the proposals of a group.
fn lengths(group: &[Waiting]) -> Vec<usize> {
    group.iter().map(|waiting| waiting.prepared.bytes().len()).collect()
}

fn is_late(attempt: &Attempt) -> bool {
    let outcome = Outcome::NotApplied;
    matches!(attempt, Attempt::Over(Err(error)) if *error == ProposeError::Deadline { outcome })
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_together_in_order_and_within_bounds() {
    let queue = Queue::new();
    let mut answers = Vec::new();
    for length in 0..ENTRY_WRITES + 10 {
        answers.push(push(&queue, put("k", length)).await);
    }
    let first = queue.take(Instant::now(), true);
    assert!(lengths(&first).is_sorted());
    assert_eq!(first.len(), ENTRY_WRITES);
    assert_eq!(queue.take(Instant::now(), true).len(), 10);
    assert!(queue.take(Instant::now(), true).is_empty());

    for _ in 0..40 {
        answers.push(push(&queue, put("k", 60 << 10)).await);
    }
    let group = queue.take(Instant::now(), true);
    let bytes: usize = lengths(&group).iter().sum();
    assert!(group.len() > 10 && bytes <= ENTRY_BYTES, "{} writes of {bytes} bytes", group.len());
}

#[tokio::test(start_paused = true)]
async fn below_the_level_a_write_is_alone() {
    let queue = Queue::new();
    let _answers = (push(&queue, put("a", 1)).await, push(&queue, put("b", 1)).await);
    assert_eq!(queue.take(Instant::now(), false).len(), 1);
    assert_eq!(queue.take(Instant::now(), false).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn background_work_has_an_entry_of_its_own() {
    let queue = Queue::new();
    let mut answers = Vec::new();
    for prepared in [put("a", 100 << 10), sweep(), sweep(), put("b", 100 << 10)] {
        answers.push(push(&queue, prepared).await);
    }
    for expected in [vec![true, true], vec![false], vec![false]] {
        let group = queue.take(Instant::now(), true);
        let writes: Vec<_> = group.iter().map(|waiting| waiting.prepared.is_write()).collect();
        assert_eq!(writes, expected);
    }
}

/// Its work is not bounded by how many share its entry.
#[tokio::test(start_paused = true)]
async fn a_list_of_operations_has_an_entry_of_its_own() {
    let delete = |key: &str| {
        Operation::Delete(Delete {
            key: key.to_owned(),
            condition: Condition::None,
        })
    };
    let list = Command::Write(Write {
        tenant: TenantId(1),
        checks: Vec::new(),
        operations: vec![delete("a"), delete("b")],
        all_or_nothing: true,
    });
    let queue = Queue::new();
    let mut answers = Vec::new();
    for prepared in [put("a", 1), Prepared::new(list).0, put("b", 1)] {
        answers.push(push(&queue, prepared).await);
    }
    let taken: Vec<_> = (0..3).map(|_| queue.take(Instant::now(), true).len()).collect();
    assert_eq!(taken, [1, 1, 1]);
}

/// However many large writes wait, of the queue or for room in it.
#[tokio::test(start_paused = true)]
async fn a_full_line_of_large_writes_keeps_no_other_out() {
    let queue = Queue::new();
    let mut answers = Vec::new();
    while let Ok(Ok(answer)) = tokio::time::timeout(Duration::ZERO, queue.push(put("k", 8 << 20), soon())).await {
        answers.push(answer);
    }
    let mut more = Box::pin(queue.push(put("k", 8 << 20), soon()));
    assert!(futures::poll!(&mut more).is_pending());
    for prepared in [put("small", 1), sweep()] {
        let pushed = tokio::time::timeout(Duration::ZERO, queue.push(prepared, soon())).await;
        answers.push(pushed.expect("there is room for others").unwrap());
    }
    let taken: Vec<_> = (0..3).flat_map(|_| lengths(&queue.take(Instant::now(), true))).collect();
    assert_eq!(taken.iter().filter(|length| **length < 100).count(), 2, "{taken:?}");
}

/// However many large ones wait.
#[tokio::test(start_paused = true)]
async fn a_small_write_waits_for_one_large_entry_at_most() {
    let queue = Queue::new();
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(push(&queue, put("large", 2 << 20)).await);
    }
    drop(queue.take(Instant::now(), true));
    answers.push(push(&queue, put("small", 1)).await);
    let taken: Vec<_> = (0..2).map(|_| lengths(&queue.take(Instant::now(), true))).collect();
    assert!(taken.iter().any(|group| group.iter().all(|length| *length < 100)), "{taken:?}");
    // And no large one starves.
    for _ in 0..4 {
        answers.push(push(&queue, put("small", 1)).await);
        answers.push(push(&queue, put("small", 1)).await);
        let both = [queue.take(Instant::now(), true), queue.take(Instant::now(), true)];
        assert!(both.iter().any(|group| lengths(group).iter().any(|length| *length > 1 << 20)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_deadline_has_passed_is_not_proposed() {
    let queue = Queue::new();
    let late = queue.push(put("late", 1), Instant::now() + Duration::from_secs(1)).await.unwrap();
    let _in_time = push(&queue, put("in time", 2)).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let group = queue.take(Instant::now(), true);
    assert_eq!(lengths(&group), [put("in time", 2).bytes().len()]);
    assert!(is_late(&late.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_looked_at_while_nothing_is_taken() {
    let queue = Queue::new();
    let begun = Instant::now();
    let answers = [3, 1, 2].map(|seconds| begun + Duration::from_secs(seconds));
    let mut waiting = Vec::new();
    for deadline in answers {
        waiting.push(queue.push(put("k", 1), deadline).await.unwrap());
    }
    assert_eq!(queue.next_look(), Some(begun + Duration::from_secs(1)));
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.expire(Instant::now(), None);
    assert_eq!(queue.next_look(), Some(begun + Duration::from_secs(2)));
    assert!(is_late(&waiting.remove(1).await.unwrap()));
    assert_eq!(queue.take(Instant::now(), true).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_a_waiter_is_not_proposed() {
    let queue = Queue::new();
    drop(push(&queue, put("gone", 1)).await);
    assert!(queue.take(Instant::now(), true).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_its_callers_wait_until_there_is_room_or_until_their_deadline() {
    let queue = Queue::new();
    let mut answers = Vec::new();
    while let Ok(Ok(answer)) = tokio::time::timeout(Duration::ZERO, queue.push(put("k", 1 << 20), soon())).await {
        answers.push(answer);
    }
    assert!((16..64).contains(&answers.len()), "{} MiB wait", answers.len());
    let refused = queue.push(put("k", 1 << 20), Instant::now() + Duration::from_secs(1)).await;
    assert!(is_late(&refused.unwrap_err()));
    let (taken, pushed) = tokio::join!(async { queue.take(Instant::now(), true) }, queue.push(put("k", 1 << 20), soon()));
    assert_eq!((taken.len(), pushed.is_ok()), (1, true));
}

#[tokio::test(start_paused = true)]
async fn what_waits_where_nothing_is_proposed_any_more_is_untouched() {
    let queue = Queue::new();
    let waits = push(&queue, put("a", 1)).await;
    queue.close();
    assert!(matches!(waits.await.unwrap(), Attempt::Untouched));
    let refused = queue.push(put("b", 1), soon()).await;
    assert!(matches!(refused, Err(Attempt::Untouched)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_answer_says_what_is_known() {
    let queue = Queue::new();
    let waits = push(&queue, put("a", 1)).await;
    let mut group = queue.take(Instant::now(), true);
    group[0].answer.is_proposed();
    drop(group);
    let outcome = Outcome::Unknown;
    let answer = waits.await.unwrap();
    assert!(
        matches!(&answer, Attempt::Over(Err(error)) if *error == ProposeError::NoLeader { outcome }),
        "{answer:?}"
    );
}

/// Small entries go one at a time, so that groups form; large ones overlap; below the level every write is an entry, and many overlap.
#[tokio::test(start_paused = true)]
async fn entries_overlap_when_that_is_worth_it() {
    let mut flying = Flying::default();
    let mut told = Vec::new();
    let mut add = |flying: &mut Flying, bytes| {
        let (to, from) = oneshot::channel();
        flying.add(Vec::new(), bytes, 1, from);
        told.push(to);
    };
    assert!(flying.has_room(true));
    add(&mut flying, 100);
    assert_eq!((flying.has_room(true), flying.has_room(false)), (false, true));
    add(&mut flying, 1 << 20);
    assert!(flying.has_room(true));
    add(&mut flying, 1 << 20);
    add(&mut flying, 1 << 20);
    assert!(!flying.has_room(true), "four are under way");
    for _ in 4..1024 {
        assert!(flying.has_room(false));
        add(&mut flying, 100);
    }
    assert!(!flying.has_room(false));
    // What may never be answered holds nothing back.
    let grace = Duration::from_secs(1);
    assert_eq!(flying.look_at(Leadership::NONE, grace), Some(Instant::now() + grace));
    assert!(flying.has_room(true));
}

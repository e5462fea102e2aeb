//! Writes that share an entry.

use futures::future::join_all;

use super::fleet::{Fleet, put, soon};
use crate::{
    raft::{Group, GroupStatus},
    state::{Command, Condition, Done, Kind, Level, Operation, Put, Response, TenantId, Ttl, Written},
};

fn entries(status: &GroupStatus) -> u64 {
    status.last_log_index.unwrap_or(0)
}

/// Each write has its own answer, whichever entry it came with and whichever member it was sent to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writes_share_few_entries_and_each_has_its_own_answer() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let many = |group: &Group| group.inner.views.peek().level() >= Level::MANY_WRITES;
    fleet.until(leader, "at a level of many writes", many).await;
    let before = entries(&fleet.group(leader).status());
    let writes = (0..400).map(|n| {
        let group = fleet.group(if n % 4 == 0 { (leader + 1) % 3 } else { leader });
        async move { (n, group.propose(put(&format!("k{n}"), &format!("v{n}")), soon()).await.unwrap()) }
    });
    let answers = join_all(writes).await;
    let took = entries(&fleet.group(leader).status()) - before;
    assert!(took < 200, "400 writes at once took {took} entries");
    let view = fleet.group(leader).read_barrier(soon()).await.unwrap().view;
    let tenant = view.tenant("t").unwrap().id;
    for (n, answer) in answers {
        let Some(Done::Put(Written { revision, .. })) = answer.done() else {
            panic!("{answer:?}");
        };
        let record = view.get(tenant, &format!("k{n}"), view.stamp_ms()).unwrap().unwrap();
        assert_eq!((record.revision, record.value.as_ref()), (revision, format!("v{n}").as_bytes()));
    }
}

/// The writes of an entry are applied one after the other, and see each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_that_create_a_record_succeeds() {
    let fleet = Fleet::formed(1).await;
    let group = fleet.group(0);
    let create = |value: usize| {
        let put = Put {
            key: "k".to_owned(),
            value: value.to_string().into(),
            kind: Kind::String,
            content_type: None,
            metadata: Vec::new(),
            ttl: Ttl::Default,
            condition: Condition::Absent,
        };
        Command::one(TenantId(1), Operation::Put(put))
    };
    let answers = join_all((0..100).map(|n| group.propose(create(n), soon()))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().only()).collect();
    let created = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(Done::Put(Written { created: true, .. }))));
    assert_eq!(created.count(), 1);
    let refused = answers.iter().filter(|answer| matches!(answer, Err(Response::Refused(_))));
    assert_eq!(refused.count(), 99);
}

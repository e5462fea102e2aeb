//! Reads and writes of three processes, through every one of them and while some are gone.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, NAMES},
    http::{Answer, request},
    member::eventually,
};

impl Cluster {
    fn read(&self, number: usize, query: &str) -> Answer {
        self.call(number, "GET", &format!("k?{query}"), "").expect("an answer")
    }

    fn read_within(&self, number: usize, query: &str, patience: &str) -> Answer {
        self.within(number, "GET", &format!("k?{query}"), "", patience)
    }

    fn put_within(&self, number: usize, key: &str, value: &str, patience: &str) -> Answer {
        self.within(number, "PUT", key, value, patience)
    }

    fn within(&self, number: usize, method: &str, key: &str, body: &str, patience: &str) -> Answer {
        let headers = [("authorization", &*format!("Bearer {}", self.token)), ("kv-timeout", patience)];
        let path = format!("/api/v1/tenants/acme/keys/{key}");
        request(self.port(number, 0), method, &path, &headers, body.as_bytes()).expect("an answer")
    }
}

fn revision(answer: &Answer) -> u64 {
    answer.header("kv-revision").expect("a revision").parse().expect("a number")
}

/// covers rows 68, 69, 106
#[test]
fn what_is_written_through_one_member_is_read_on_every_other() {
    let cluster = Cluster::start("0s");
    for round in 0..30 {
        let through = round % 3;
        let value = format!("{round}");
        let all = cluster.call(through, "PUT", "k?ack=all", &value).expect("an answer");
        assert!(all.status < 300, "through {}: {all:?}", NAMES[through]);
        for (number, name) in NAMES.iter().enumerate() {
            let read = cluster.read(number, "consistency=any");
            assert_eq!(read.text(), value, "on {name}: {read:?}");
            assert_eq!(read.header("kv-node"), Some(*name));
            assert!(revision(&read) >= revision(&all));
            assert!(read.header("kv-staleness-ms").is_some(), "{read:?}");
        }
        let value = format!("{round} again");
        let quorum = cluster.call(through, "PUT", "k", &value).expect("an answer");
        for (number, name) in NAMES.iter().enumerate() {
            for consistency in ["any", "bounded", "leader", "linearizable"] {
                let wanted = format!("consistency={consistency}&min_revision={}", revision(&quorum));
                let read = cluster.read(number, &wanted);
                assert_eq!(read.text(), value, "on {name} with {wanted}: {read:?}");
            }
        }
    }
    // What is deleted with ack=all is gone everywhere, also when somebody else deleted it a moment before.
    for round in 0..10 {
        cluster.call(0, "PUT", "k?ack=all", "v").expect("an answer");
        cluster.call(round % 3, "DELETE", "k", "").expect("an answer");
        let again = cluster.call((round + 1) % 3, "DELETE", "k?ack=all", "").expect("an answer");
        assert_eq!((again.status, again.header("kv-existed")), (204, Some("false")));
        for number in 0..3 {
            assert_eq!(cluster.read(number, "consistency=any").status, 404);
        }
    }
}

/// covers rows 69, 106
#[test]
fn a_member_that_is_left_alone_serves_what_it_has_and_says_how_old_it_is() {
    let mut cluster = Cluster::start("0s");
    let put = cluster.call(0, "PUT", "k?ack=all", "v").expect("an answer");
    let first = revision(&put);
    let leader = cluster.leader();
    let (gone, left) = ((leader + 1) % 3, (leader + 2) % 3);

    let mut killed = cluster.members[gone].take().expect("it runs");
    killed.signal("KILL");
    killed.wait();
    let begun = Instant::now();
    let late = cluster.put_within(left, "k?ack=all", "w", "700ms");
    assert_eq!(late.status, 504, "{late:?}");
    assert!(begun.elapsed() >= Duration::from_millis(700));
    let problem = late.json();
    assert_eq!(
        (problem["code"].as_str(), problem["outcome"].as_str()),
        (Some("deadline-exceeded"), Some("unknown"))
    );
    assert!(problem["current_revision"].as_u64() > Some(first), "{problem}");
    assert_eq!(cluster.read(left, "").text(), "w", "the write stands");
    assert_eq!(
        cluster
            .read(left, &format!("consistency=any&min_revision={}", problem["current_revision"]))
            .text(),
        "w"
    );

    let mut killed = cluster.members[leader].take().expect("it runs");
    killed.signal("KILL");
    killed.wait();
    let alone = Instant::now();
    for (consistency, code) in [("linearizable", "no-leader"), ("leader", "no-leader")] {
        let refused = cluster.read_within(left, &format!("consistency={consistency}"), "300ms");
        assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some(code)), "{refused:?}");
    }
    let mut refused = 0;
    eventually("an age above the bound", || {
        let since = alone.elapsed();
        let any = cluster.read(left, "consistency=any");
        assert_eq!((any.status, any.text().as_str()), (200, "w"));
        let age: u128 = any.header("kv-staleness-ms").expect("an age").parse().expect("a number");
        assert!(age >= since.as_millis(), "it says {age} ms, and has been alone for {since:?}");
        let bounded = cluster.read(left, "consistency=bounded&max_staleness=1s");
        if bounded.status == 503 {
            assert_eq!(bounded.json()["code"], "too-stale");
            assert_eq!(bounded.header("retry-after"), Some("1"));
            assert_eq!(bounded.header("kv-node"), Some(NAMES[left]));
            refused += 1;
        } else {
            assert_eq!(bounded.text(), "w");
            assert!(since < Duration::from_secs(1), "served after {since:?} alone");
        }
        (refused > 3).then_some(())
    });
    assert_eq!(cluster.read(left, "consistency=bounded&max_staleness=1h").text(), "w");

    for number in [gone, leader] {
        cluster.start_member(number);
    }
    for number in 0..3 {
        cluster.wait_ready(number);
    }
    let all = cluster.put_within(left, "k?ack=all", "x", "20s");
    assert_eq!(all.status, 204, "{all:?}");
    for number in 0..3 {
        assert_eq!(cluster.read(number, "consistency=any").text(), "x");
    }
}

/// One call that was under way when the leader was lost, or made just after.
struct Call {
    what: &'static str,
    begun: Instant,
    answered: Instant,
    status: u16,
}

/// Nobody whose request is with a leader that dies, or is stopped and stays silent, waits for a deadline: there is an answer or a refusal
/// that says to try again as soon as the connection breaks or the next leader is known.
fn lose_the_leader(signal: &str) {
    let mut cluster = Cluster::start("0s");
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let mut leaving = cluster.members[leader].take().expect("it runs");
    let stop = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    let calls = Mutex::new(Vec::new());
    let shared = &cluster;
    let lost = std::thread::scope(|scope| {
        for caller in 0..12 {
            let (stop, answered, calls) = (&stop, &answered, &calls);
            let through = others[caller % 2];
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    // The deadline is far beyond what the test allows.
                    let (what, answer) = match caller / 2 % 3 {
                        0 => ("PUT", shared.put_within(through, "k", "v", "14s")),
                        1 => ("GET", shared.read_within(through, "", "14s")),
                        _ => ("GET of the leader", shared.read_within(through, "consistency=leader", "14s")),
                    };
                    answered.fetch_add(1, Ordering::Relaxed);
                    let status = answer.status;
                    let retryable = || answer.json()["retryable"] == true;
                    assert!(status < 300 || matches!(status, 404) || retryable(), "{what}: {answer:?}");
                    let answered = Instant::now();
                    calls.lock().expect("no panic").push(Call {
                        what,
                        begun,
                        answered,
                        status,
                    });
                }
            });
        }
        let more = |count: usize| {
            let wanted = answered.load(Ordering::Relaxed) + count;
            eventually("more answers", || (answered.load(Ordering::Relaxed) >= wanted).then_some(()));
        };
        more(100);
        leaving.signal(signal);
        let lost = Instant::now();
        more(100);
        stop.store(true, Ordering::Relaxed);
        lost
    });
    if signal == "STOP" {
        leaving.signal("KILL");
    }
    leaving.wait();
    let calls = calls.into_inner().expect("no panic");
    for what in ["PUT", "GET", "GET of the leader"] {
        let mine = || calls.iter().filter(|call| call.what == what && call.answered > lost);
        let worst = |calls: &mut dyn Iterator<Item = &Call>| calls.map(|call| call.answered - call.begun.max(lost)).max();
        let under_way = worst(&mut mine().filter(|call| call.begun <= lost));
        let after = worst(&mut mine());
        let refused = mine().filter(|call| call.status >= 500).count();
        println!("{signal}: {what}: worst answer under way {under_way:?}, of all {after:?}, {refused} refused");
        assert!(under_way.is_some(), "no {what} was under way");
        assert!(after < Some(Duration::from_secs(7)), "a {what} waited {after:?}");
    }
}

/// covers row 68
#[test]
fn requests_under_way_are_answered_when_the_leader_is_killed() {
    lose_the_leader("KILL");
}

/// covers row 68
#[test]
fn requests_under_way_are_answered_when_the_leader_falls_silent() {
    lose_the_leader("STOP");
}

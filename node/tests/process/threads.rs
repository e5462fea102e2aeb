//! A member under a load that leaves no thread of tenants free.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{cluster::Cluster, http::request};

/// Each is always at work: this page needs no token.
const CONNECTIONS: usize = 400;
const REQUEST: &[u8] = b"GET /api/v1/docs/errors/internal HTTP/1.1\r\nhost: test\r\n\r\n";
const AT_A_TIME: usize = 500;
/// As long as several elections take; without threads of its own a leader was deposed within three seconds.
const LOADED: Duration = Duration::from_secs(6);

/// Terms of all members.
fn terms(cluster: &Cluster) -> Vec<String> {
    let term = |number: usize| {
        let metrics = request(cluster.port(number, 2), "GET", "/metrics", &[], b"")
            .expect("metrics")
            .text();
        let line = metrics.lines().find(|line| line.starts_with("kvfleet_raft_term "));
        line.expect("its term").to_owned()
    };
    (0..3).map(term).collect()
}

/// Sends requests one behind the other and reads their answers, until it is told to end.
fn load(mut stream: TcpStream, ended: &AtomicBool, received: &AtomicU64) {
    let mut sending = stream.try_clone().expect("another handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let requests = REQUEST.repeat(AT_A_TIME);
            while !ended.load(Ordering::Relaxed) && sending.write_all(&requests).is_ok() {}
            let _ = sending.shutdown(Shutdown::Both);
        });
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            received.fetch_add(length as u64, Ordering::Relaxed);
            if ended.load(Ordering::Relaxed) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    });
}

#[test]
fn a_leader_stays_and_its_other_ports_answer_while_its_data_port_is_saturated() {
    let cluster = Cluster::start("0s");
    let leader = cluster.leader();
    let before = terms(&cluster);
    let (ended, received) = (AtomicBool::new(false), AtomicU64::new(0));
    let slowest = std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(cluster.port(leader, 0)).expect("a connection");
            scope.spawn(|| load(stream, &ended, &received));
        }
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        while begun.elapsed() < LOADED {
            let asked = Instant::now();
            let health = request(cluster.port(leader, 1), "GET", "/livez", &[], b"").expect("an answer");
            assert_eq!(health.status, 200, "{health:?}");
            slowest = slowest.max(asked.elapsed());
        }
        ended.store(true, Ordering::Relaxed);
        slowest
    });
    let received = received.into_inner();
    assert!(received > 1 << 20, "a load of {received} bytes is none");
    assert_eq!(terms(&cluster), before, "no member has stood for election");
    assert_eq!(cluster.leader(), leader);
    assert!(slowest < Duration::from_secs(2), "the health port took {slowest:?}");
}

//! Clients without a token, and more of them than the member has room for: it lives, writes, and serves whoever comes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kvfleet_node::descriptors;
use rustix::net::{AddressFamily, SocketType, bind, connect, ipproto, socket, sockopt};

use crate::{
    cluster::Cluster,
    http::{Answer, request},
    member::{Member, eventually, parts},
};

/// What a member may open in these tests: more than it needs, and less than the strangers are.
const DESCRIPTORS: &str = "1024";
/// Strangers at a port.
const STRANGERS: usize = 1_200;
/// A page that is served without a token.
const PAGE: &str = "/api/v1/docs/errors/internal";
/// In which a client that comes is served, on a machine that is busy: usually it takes milliseconds.
const SERVED: Duration = Duration::from_secs(3);

struct Alone {
    member: Member,
    data: SocketAddr,
    token: String,
    // Dropped last: the process writes into it until it is gone.
    _logs: tempfile::TempDir,
}

fn start() -> Alone {
    // The strangers are descriptors of this process.
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        descriptors::raise().expect("enough files for this test");
    });
    let logs = tempfile::tempdir().expect("a directory");
    let mut arguments = vec!["--dev", "--data-dir", "data", "--log-level", "info"];
    for port in ["--listen", "--health-listen", "--metrics-listen", "--admin-listen"] {
        arguments.extend([port, "127.0.0.1:0"]);
    }
    let mut member = Member::limited(logs.path(), "dev", DESCRIPTORS, &arguments);
    let (data, token) = parts(&member.curl_line());
    Alone {
        member,
        data,
        token,
        _logs: logs,
    }
}

impl Alone {
    fn call(&self, method: &str, key: &str, body: &[u8]) -> std::io::Result<Answer> {
        let authorization = format!("Bearer {}", self.token);
        let path = format!("/api/v1/tenants/demo/keys/{key}");
        request(self.data, method, &path, &[("authorization", &authorization)], body)
    }

    /// A new client writes and reads; how long the slowest of its requests took.
    fn is_served(&mut self) -> Duration {
        let mut slowest = Duration::ZERO;
        for (method, status) in [("PUT", 201), ("GET", 200), ("DELETE", 204)] {
            let begun = Instant::now();
            let body: &[u8] = if method == "PUT" { b"v" } else { b"" };
            let answer = self.call(method, "of-a-newcomer", body);
            self.member.assert_running();
            assert_eq!(answer.expect("an answer").status, status);
            slowest = slowest.max(begun.elapsed());
        }
        slowest
    }
}

/// `count` connections on which nothing is said.
fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(20));
    (0..count).map(|_| connect().expect("the port takes connections")).collect()
}

/// A connection from another address of this machine.
fn from_elsewhere(address: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP)).expect("a socket");
    let elsewhere: SocketAddr = "127.0.0.2:0".parse().expect("an address");
    bind(&socket, &elsewhere).expect("an address of this machine");
    connect(&socket, &address).expect("the port takes connections");
    socket.into()
}

/// One answer on a connection that stays.
fn ask(stream: &mut TcpStream) -> std::io::Result<u16> {
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    stream.write_all(format!("HEAD {PAGE} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    let status = String::from_utf8_lossy(&head)
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok(status.unwrap_or(0))
}

#[test]
fn strangers_at_any_port_end_no_member_and_keep_nobody_out() {
    let mut alone = start();
    let mut strangers = Vec::new();
    let value = vec![b'x'; 1 << 20];
    for port in ["data", "health", "metrics", "admin"] {
        let begun = Instant::now();
        strangers.push(silent(alone.member.logged(port), STRANGERS));
        let came = begun.elapsed();
        let slowest = alone.is_served();
        println!("{port}: {STRANGERS} strangers came in {came:.2?}, then the slowest request took {slowest:.2?}");
        assert!(slowest < SERVED, "{port}: {slowest:?}");
        // Enough for a further segment of the log, and for the store to write its first files.
        for number in 0..24 {
            let put = alone.call("PUT", &format!("{port}-{number}"), &value);
            alone.member.assert_running();
            assert_eq!(put.expect("an answer").status, 201, "{port}: {number}");
        }
    }
    let begun = Instant::now();
    let health = request(alone.member.logged("health"), "GET", "/readyz", &[], b"").expect("an answer");
    let metrics = request(alone.member.logged("metrics"), "GET", "/metrics", &[], b"")
        .expect("an answer")
        .text();
    assert!(begun.elapsed() < 2 * SERVED, "{:?}", begun.elapsed());
    assert_eq!(health.status, 200);
    for port in ["data", "health", "metrics", "admin"] {
        let shed = format!("kvfleet_connections_shed_total{{port=\"{port}\"}} ");
        let shed: u64 = metrics
            .split_once(&shed)
            .expect("the metric")
            .1
            .lines()
            .next()
            .expect("a line")
            .parse()
            .expect("a number");
        assert!(shed > 500, "{port}: {shed}\n{metrics}");
    }
}

#[test]
fn those_who_never_read_are_let_go() {
    let mut alone = start();
    let request = format!("GET {PAGE} HTTP/1.1\r\nhost: test\r\n\r\n");
    // Their answers are more than a socket holds.
    let pipelined = request.repeat(2_000);
    let mut never_read = Vec::new();
    for _ in 0..STRANGERS {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP)).expect("a socket");
        sockopt::set_socket_recv_buffer_size(socket.as_fd(), 4_096).expect("a small window");
        connect(&socket, &alone.data).expect("the port takes connections");
        let mut stream = TcpStream::from(socket);
        stream.set_nonblocking(true).expect("set");
        // As much as it takes; one that was let go already takes nothing.
        let _ = stream.write(pipelined.as_bytes());
        never_read.push(stream);
    }
    // It is seen after a second that a client does not read.
    let begun = Instant::now();
    eventually("a newcomer is served", || alone.call("GET", "a", b"").ok());
    let first = begun.elapsed();
    let slowest = alone.is_served();
    println!("the first newcomer was served after {first:.2?}; then the slowest request took {slowest:.2?}");
    assert!(slowest < SERVED, "{slowest:?}");
}

#[test]
fn an_address_that_crowds_a_port_pushes_no_other_out() {
    let alone = start();
    let mut other = from_elsewhere(alone.data);
    assert_eq!(ask(&mut other).expect("an answer"), 200);
    // Each of them asks, and stays: the other client has been idle for longer than any.
    let mut crowd = silent(alone.data, STRANGERS);
    for stranger in &mut crowd {
        // Those that were let go meanwhile get no answer.
        let _ = ask(stranger);
    }
    assert_eq!(ask(&mut other).expect("its connection is still there"), 200);
}

#[test]
fn a_process_that_may_open_too_few_files_says_so() {
    let logs = tempfile::tempdir().expect("a directory");
    let mut member = Member::limited(logs.path(), "few", "300", &["--dev", "--listen", "127.0.0.1:0"]);
    assert_eq!(member.wait().code(), Some(1));
    let errors = member.errors();
    assert!(errors.contains("may open 300 files, and needs at least 512"), "{errors}");
    // A low soft limit is no such case: it is raised.
    let arguments = ["--dev", "--data-dir", "data", "--listen", "127.0.0.1:0"];
    let mut member = Member::limited(logs.path(), "soft", "2000 && ulimit -S -n 300", &arguments);
    member.curl_line();
    assert_eq!(member.end().0.code(), Some(0));
}

/// What reads standard error stands still: lines are lost, and nothing waits.
#[test]
fn a_log_that_is_not_read_holds_up_no_request_and_no_end() {
    let logs = tempfile::tempdir().expect("a directory");
    let output = std::fs::File::create(logs.path().join("out")).expect("a file");
    let arguments = ["--dev", "--data-dir", "data", "--listen", "127.0.0.1:0", "--log-level", "debug"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvnode"));
    command
        .args(arguments)
        .args(["--metrics-listen", "127.0.0.1:0"])
        .current_dir(logs.path());
    let mut process = Killed(
        command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts"),
    );
    let line = eventually("the curl line", || {
        let output = std::fs::read_to_string(logs.path().join("out")).ok()?;
        output
            .lines()
            .find(|line| line.starts_with("curl "))
            .map(str::to_owned)
            .filter(|_| output.contains("Ctrl-C"))
    });
    let (data, token) = parts(&line);
    let begun = Instant::now();
    // 64 KiB fill the pipe.
    for token in ["nonsense", &token].repeat(600) {
        let headers = [("authorization", &*format!("Bearer {token}"))];
        let answer = request(data, "GET", "/api/v1/tenants/demo/keys/absent", &headers, b"").expect("an answer");
        assert!(matches!(answer.status, 401 | 404), "{answer:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let ended = Command::new("kill")
        .args(["-TERM", &process.0.id().to_string()])
        .status()
        .expect("kill");
    assert!(ended.success());
    let status = eventually("its end", || process.0.try_wait().expect("our own child"));
    assert_eq!(status.code(), Some(0));
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what they are for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Callers of the peer port that show no certificate, as many as it takes and always new ones, keep no member from its group.
#[test]
fn strangers_at_the_peer_ports_keep_no_member_from_its_group() {
    let mut cluster = Cluster::start("0s");
    let stop = Arc::new(AtomicBool::new(false));
    let addresses = [0, 1, 2].map(|number| cluster.port(number, 4));
    let crowds = addresses.map(|address| {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut crowd = std::collections::VecDeque::new();
            while !stop.load(Ordering::Relaxed) {
                // The one that is killed has no port for a while.
                match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                    Ok(stream) => crowd.push_back(stream),
                    Err(_) => std::thread::sleep(Duration::from_millis(10)),
                }
                if crowd.len() > 600 {
                    crowd.pop_front();
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        })
    });
    let follower = (0..3).find(|number| *number != cluster.leader()).expect("two of them");
    cluster.kill(follower);
    cluster.start_member(follower);
    cluster.wait_ready(follower);
    let put = cluster.call(follower, "PUT", "through-it", "v").expect("an answer");
    stop.store(true, Ordering::Relaxed);
    assert_eq!(put.status, 201, "{put:?}");
    for crowd in crowds {
        crowd.join().expect("it ends");
    }
}

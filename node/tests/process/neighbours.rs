//! One tenant takes what it can get of a real member: memory, the disk, connections. The member stays small, and the other tenant is served.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    http::{Answer, exchange, request},
    member::{Member, eventually, free_ports},
};

const MIB: u64 = 1 << 20;

/// One member with the tenants `busy` and `other`.
struct Shard {
    member: Member,
    data: SocketAddr,
    busy: String,
    other: String,
    // Dropped last: the process writes into it until it is gone.
    _directory: tempfile::TempDir,
}

impl Shard {
    fn start() -> Shard {
        let directory = tempfile::tempdir().expect("a directory");
        let home = directory.path();
        let certificates = Command::new(env!("CARGO_BIN_EXE_kvnode"))
            .args(["certs", "--out"])
            .arg(home.join("certs"))
            .output()
            .expect("certificates");
        let cluster_id = String::from_utf8(certificates.stdout).expect("text");
        let tenants = "tenants:\n- {name: busy, limits: {maxValueSize: 8Mi}}\n- {name: other}\n";
        std::fs::write(home.join("tenants.yaml"), tenants).expect("written");
        let base = free_ports(5);
        let port = |offset: u16| format!("127.0.0.1:{}", base + offset);
        let members = format!("a={}", port(4));
        let (cluster_id, ports) = (cluster_id.trim(), [0, 1, 2, 3, 4].map(port));
        let arguments = [
            ["--cluster-id", cluster_id],
            ["--name", "a"],
            ["--data-dir", "data"],
            ["--listen", &ports[0]],
            ["--health-listen", &ports[1]],
            ["--metrics-listen", &ports[2]],
            ["--admin-listen", &ports[3]],
            ["--peer-listen", &ports[4]],
            ["--members", &members],
            ["--bootstrap", "true"],
            ["--tls-dir", "certs"],
            ["--token-keys", "certs/jwks.json"],
            ["--signing-key", "certs/jwt.pem"],
            ["--tenants", "tenants.yaml"],
            ["--credentials-dir", "tokens"],
            ["--disk-reserve", "1Mi"],
            ["--log-level", "debug"],
        ]
        .map(|[name, value]| format!("{name}={value}"));
        let member = Member::kvnode(home, "a", &arguments.each_ref().map(String::as_str));
        let [busy, other] = ["busy", "other"].map(|name| token(home, name));
        Shard {
            member,
            data: ports[0].parse().expect("an address"),
            busy,
            other,
            _directory: directory,
        }
    }

    /// A call of `busy` below its path.
    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let bearer = format!("Bearer {}", self.busy);
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        request(self.data, method, &format!("/api/v1/tenants/busy/{path}"), &headers, body).expect("an answer")
    }

    /// A PUT of the other tenant, and how long it took.
    fn put_of_other(&self, value: &[u8]) -> (Answer, Duration) {
        let begun = Instant::now();
        let bearer = format!("Bearer {}", self.other);
        let headers = [("authorization", bearer.as_str())];
        let answer = request(self.data, "PUT", "/api/v1/tenants/other/keys/k", &headers, value).expect("an answer");
        (answer, begun.elapsed())
    }

    /// Sends the head of a request of `busy` and so much of its body, and leaves it at that.
    fn begin(&self, head: &str, length: u64, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.data).expect("a connection");
        let bearer = &self.busy;
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer {bearer}\r\ncontent-length: {length}\r\n\r\n"
        )
        .expect("sent");
        stream.write_all(body).expect("sent");
        stream
    }

    /// The same for an upload of 1 MiB that has been let in, and of which one byte has come.
    fn begin_slow(&self, number: usize) -> TcpStream {
        let head = format!("PUT /api/v1/tenants/busy/keys/slow{number} HTTP/1.1\r\nhost: test\r\nexpect: 100-continue");
        let mut stream = TcpStream::connect(self.data).expect("a connection");
        let bearer = &self.busy;
        write!(stream, "{head}\r\nauthorization: Bearer {bearer}\r\ncontent-length: {MIB}\r\n\r\n").expect("sent");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("set");
        let mut line = [0; 25];
        stream.read_exact(&mut line).expect("an answer");
        assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"x").expect("sent");
        stream
    }

    /// A figure of the process, in bytes: of `status` what is resident, of `io` what it has read.
    fn figure(&self, file: &str, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.member.id())).expect("the process");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .expect("the figure");
        let mut words = line.split_whitespace();
        let number: u64 = words.next().expect("a number").parse().expect("a number");
        if words.next() == Some("kB") { number << 10 } else { number }
    }

    fn bytes_read(&self) -> u64 {
        self.figure("io", "rchar")
    }

    /// Fills `busy` with values of 1 MiB that no compression makes smaller.
    fn fill(&self, count: u64) {
        let mut state = 1_u64;
        let value: Vec<u8> = (0..MIB)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        for number in 0..count {
            let put = self.call("PUT", &format!("keys/{number:04}"), &[("kv-timeout", "30s")], &value);
            assert_eq!(put.status, 201, "{put:?}");
        }
        // A member reads all its rows some seconds after its start: that is not to be mistaken for what follows.
        eventually("the end of the first scrub", || {
            self.member.errors().contains("every row is as it was written").then_some(())
        });
    }
}

fn token(home: &Path, name: &str) -> String {
    let path = home.join("tokens").join(format!("{name}.token"));
    eventually("a token", || std::fs::read_to_string(&path).ok()).trim().to_owned()
}

fn status(mut stream: TcpStream) -> u16 {
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let mut answer = Vec::new();
    let mut part = [0; 64 << 10];
    // The head is enough; the rest is taken so that the member can go on.
    while let Ok(count @ 1..) = stream.read(&mut part) {
        if answer.len() < 64 {
            answer.extend_from_slice(&part[..count]);
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {text}"))
}

#[test]
fn pages_that_grow_in_json_do_not_fill_the_memory() {
    let shard = Shard::start();
    for number in 0..8 {
        let put = shard.call(
            "PUT",
            &format!("keys/{number}"),
            &[("content-type", "text/plain")],
            &vec![1; MIB as usize],
        );
        assert_eq!(put.status, 201, "{put:?}");
    }
    let before = shard.figure("status", "VmRSS");
    // Nobody reads until all have asked: what has been made stays with the member.
    let head = "GET /api/v1/tenants/busy/keys?max_bytes=8388608&limit=1000&consistency=any";
    let pages: Vec<TcpStream> = (0..64).map(|_| shard.begin(&format!("{head}&reverse=false"), 0, b"")).collect();
    // As many as there is room for are made, then none.
    let enough = before + 400 * MIB;
    let (mut last, mut still) = (before, 0);
    eventually("an end of the pages that are made", || {
        std::thread::sleep(Duration::from_millis(250));
        let resident = shard.figure("status", "VmRSS");
        still = if resident.abs_diff(last) < MIB { still + 1 } else { 0 };
        last = resident;
        (still == 4 || resident > enough).then_some(())
    });
    let (answer, took) = shard.put_of_other(&vec![b'x'; 20 << 10]);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(took < Duration::from_secs(4), "the other tenant waited {took:?}");
    let readers: Vec<_> = pages.into_iter().map(|stream| std::thread::spawn(move || status(stream))).collect();
    let statuses: Vec<u16> = readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert!(
        answered > 0 && statuses.iter().all(|status| matches!(status, 200 | 503 | 504)),
        "{statuses:?}"
    );
    let most = shard.figure("status", "VmHWM");
    println!(
        "{answered} of 64 pages answered; resident {} MiB, then {} MiB at most",
        before / MIB,
        most / MIB
    );
    assert!(most < enough, "{} MiB, then {} MiB", before / MIB, most / MIB);
}

#[test]
fn slow_uploads_of_one_tenant_keep_no_other_out() {
    let shard = Shard::start();
    let slow: Vec<TcpStream> = (0..128).map(|number| shard.begin_slow(number)).collect();
    let (answer, took) = shard.put_of_other(&vec![b'x'; 20 << 10]);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(took < Duration::from_secs(3), "it waited {took:?}");
    // What they have sent counts: all but the last byte of as many as fill its share, and the tenant gets no more.
    let most = vec![b'x'; MIB as usize - 1];
    let full: Vec<TcpStream> = (0..64)
        .map(|number| shard.begin(&format!("PUT /api/v1/tenants/busy/keys/full{number}"), MIB, &most))
        .collect();
    // What stands in the kernel's buffers still does not count yet.
    let refused = eventually("a refusal", || {
        let put = shard.call("PUT", "keys/one-more", &[], &vec![b'x'; MIB as usize]);
        (put.status >= 300).then_some(put)
    });
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    let problem = refused.json();
    assert_eq!(
        (problem["code"].as_str(), problem["outcome"].as_str()),
        (Some("overloaded"), Some("not-applied"))
    );
    let (answer, took) = shard.put_of_other(&vec![b'x'; 20 << 10]);
    assert_eq!(answer.status, 204, "{answer:?}");
    assert!(took < Duration::from_secs(3), "it waited {took:?}");
    // When they are gone, so is what they held.
    drop((slow, full));
    eventually("room again", || {
        let put = shard.call("PUT", "keys/one-more", &[], &vec![b'x'; MIB as usize]);
        (put.status < 300).then_some(())
    });
}

#[test]
fn a_page_of_keys_reads_little_and_ends_with_its_client() {
    const VALUES: u64 = 200;
    let shard = Shard::start();
    shard.fill(VALUES);
    let page = |query: &str| {
        let answer = shard.call("GET", &format!("keys?keys_only=true&limit=1000&consistency=any{query}"), &[], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let before = shard.bytes_read();
    let (mut page_of, mut keys, mut pages) = (page(""), 0, 1);
    let read = shard.bytes_read() - before;
    println!("a page of keys over {VALUES} values of 1 MiB has read {} KiB", read >> 10);
    assert!(read < 24 * MIB, "{} MiB", read / MIB);
    loop {
        keys += page_of["items"].as_array().expect("items").len() as u64;
        let Some(cursor) = page_of["cursor"].as_str() else { break };
        page_of = page(&format!("&cursor={cursor}"));
        pages += 1;
    }
    assert_eq!(keys, VALUES, "in {pages} pages");

    // Clients that go before they are answered: the member stops reading for them.
    let path = "/api/v1/tenants/busy/keys?keys_only=true&limit=1000&consistency=any";
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                while begun.elapsed() < Duration::from_secs(3) {
                    let stream = TcpStream::connect(shard.data).expect("a connection");
                    let bearer = format!("Bearer {}", shard.busy);
                    let headers = [("authorization", bearer.as_str()), ("kv-timeout", "1ms")];
                    let answer = exchange(stream, "GET", path, &headers, b"").expect("an answer");
                    assert!(matches!(answer.status, 200 | 504), "{answer:?}");
                }
            });
        }
    });
    let left = Instant::now();
    eventually("a member at rest", || {
        let before = shard.bytes_read();
        // A rate needs two looks.
        std::thread::sleep(Duration::from_millis(200));
        (shard.bytes_read() - before < MIB).then_some(())
    });
    assert!(left.elapsed() < Duration::from_secs(2), "it read on for {:?}", left.elapsed());
}

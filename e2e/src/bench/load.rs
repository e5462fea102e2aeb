//! The load: connections that each send a request, wait for its answer, and send the next.
//!
//! It shares the processors with what it measures, so it does little: requests are patched ([`super::request`]), answers barely read
//! ([`super::response`]), and each of its few threads drives its connections alone. Every answer that is not a good one is counted by its
//! kind; none is hidden in the rate.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    histogram::Histogram,
    request::{Numbers, Template},
    response,
};

/// More than any answer to a 256-byte value, so that one read takes it whole.
const BUFFER: usize = 16 << 10;
/// Keeps a refused connection from becoming a busy loop.
const RECONNECT: Duration = Duration::from_millis(5);
/// So long a connection may be refused before the load gives up.
const REFUSED: Duration = Duration::from_secs(10);

/// How long a load runs, and over which keys.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Keys at random; what is answered in the first span is not counted.
    Time {
        /// Not counted.
        warm_up: Duration,
        /// Counted.
        counted: Duration,
    },
    /// Each key once.
    EachKey,
}

/// What to send, where, and how.
pub struct Load {
    /// The member that is asked.
    pub address: SocketAddr,
    /// What is asked.
    pub template: Template,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Threads that drive them.
    pub threads: usize,
    /// For how long.
    pub until: Until,
}

/// What the load saw.
#[derive(Clone, Default)]
pub struct Tally {
    /// Good answers in the counted span.
    pub answered: u64,
    /// Good answers in all.
    pub total: u64,
    /// Latencies of the good answers.
    pub latencies: Histogram,
    /// Everything else, by kind: a status, `short`, `unreadable`, `broken`, `refused`.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.answered += other.answered;
        self.total += other.total;
        self.latencies.add(&other.latencies);
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }

    fn fault(&mut self, kind: impl Into<String>) {
        *self.errors.entry(kind.into()).or_default() += 1;
    }
}

/// Runs the load. `sample` is called when the counted span begins and when it ends.
///
/// # Errors
/// When no connection can be made, or a sample cannot be taken.
pub fn run<T>(load: &Load, mut sample: impl FnMut() -> Result<T>) -> Result<(Tally, T, T)> {
    let threads = load.threads.clamp(1, load.connections.max(1));
    let ready = Arc::new(Barrier::new(threads + 1));
    let mut workers = Vec::new();
    for thread in 0..threads {
        let numbers: Vec<usize> = (thread..load.connections).step_by(threads).collect();
        let (template, address, until, stride) = (load.template.clone(), load.address, load.until, load.connections);
        let ready = Arc::clone(&ready);
        workers.push(thread::spawn(move || drive(&numbers, stride, address, &template, until, &ready)));
    }
    ready.wait();
    let span = match load.until {
        Until::Time { warm_up, counted } => {
            thread::sleep(warm_up);
            let before = sample()?;
            thread::sleep(counted);
            Some((before, sample()?))
        }
        Until::EachKey => None,
    };
    let begin = match span {
        Some(_) => None,
        None => Some(sample()?),
    };
    let mut tally = Tally::default();
    for worker in workers {
        tally.add(&worker.join().map_err(|_| anyhow!("a thread of the load panicked"))??);
    }
    match (span, begin) {
        (Some((before, after)), _) => Ok((tally, before, after)),
        (None, Some(before)) => Ok((tally, before, sample()?)),
        (None, None) => Err(anyhow!("a load has a span or a beginning")),
    }
}

/// One thread: its connections, side by side.
fn drive(numbers: &[usize], stride: usize, address: SocketAddr, template: &Template, until: Until, ready: &Barrier) -> Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a runtime for the load")?;
    let opened: Result<Vec<TcpStream>> = runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in numbers {
            streams.push(connect(address).await?);
        }
        Ok(streams)
    });
    // Every thread comes here, or the others would wait for ever.
    ready.wait();
    let begin = Instant::now();
    let mut tally = Tally::default();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for (number, stream) in numbers.iter().zip(opened?) {
            let connection = Connection {
                stream,
                address,
                template: template.clone(),
                numbers: Numbers::new(),
                tally: Tally::default(),
                buffer: vec![0; BUFFER],
                held: 0,
            };
            tasks.push(tokio::spawn(connection.run(*number, stride, begin, until)));
        }
        for task in tasks {
            tally.add(&task.await??);
        }
        Ok(tally)
    })
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let patience = Instant::now() + REFUSED;
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(_) if Instant::now() < patience => tokio::time::sleep(RECONNECT).await,
            Err(error) => return Err(error).with_context(|| format!("{address} takes no connection")),
        }
    }
}

struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    template: Template,
    numbers: Numbers,
    tally: Tally,
    buffer: Vec<u8>,
    held: usize,
}

impl Connection {
    async fn run(mut self, first: usize, stride: usize, begin: Instant, until: Until) -> Result<Tally> {
        let (from, to) = match until {
            Until::Time { warm_up, counted } => (begin + warm_up, Some(begin + warm_up + counted)),
            Until::EachKey => (begin, None),
        };
        let mut next = first;
        let mut asked = Instant::now();
        loop {
            let key = match to {
                Some(to) if asked >= to => break,
                Some(_) => self.numbers.below(self.template.keys()),
                None if next >= self.template.keys() => break,
                None => next,
            };
            next += stride;
            let outcome = self.exchange(key).await;
            let now = Instant::now();
            let counted = now >= from && to.is_none_or(|to| now <= to);
            match outcome {
                Ok(answer) if !(200..300).contains(&answer.status) => self.tally.fault(answer.status.to_string()),
                Ok(answer) if answer.body < self.template.least_body => self.tally.fault("short"),
                Ok(_) => {
                    self.tally.answered += u64::from(counted);
                    self.tally.total += 1;
                    if now >= from {
                        self.tally.latencies.record(now - asked);
                    }
                }
                Err(kind) => {
                    self.tally.fault(kind);
                    self.held = 0;
                    tokio::time::sleep(RECONNECT).await;
                    self.stream = connect(self.address).await?;
                }
            }
            asked = now;
        }
        Ok(self.tally)
    }

    /// One request and its answer; what went wrong otherwise.
    async fn exchange(&mut self, key: usize) -> Result<response::Answer, &'static str> {
        let request = self.template.fill(key, &mut self.numbers);
        self.stream.write_all(request).await.map_err(|_| "broken")?;
        loop {
            let held = self.buffer.get(..self.held).unwrap_or_default();
            if let Some(answer) = response::parse(held).map_err(|_| "unreadable")? {
                // One request at a time: nothing follows an answer.
                if self.held != answer.length {
                    return Err("unreadable");
                }
                self.held = 0;
                return Ok(answer);
            }
            let room = self
                .buffer
                .get_mut(self.held..)
                .filter(|room| !room.is_empty())
                .ok_or("unreadable")?;
            match self.stream.read(room).await {
                Ok(0) | Err(_) => return Err("broken"),
                Ok(read) => self.held += read,
            }
        }
    }
}

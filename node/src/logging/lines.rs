//! The way of a line to standard error. In: whole lines, from any thread. Out: the same in order, or, while whatever reads standard error does not keep
//! up, a number of lost ones. No thread but its own ever waits for the reader: a pipe that is not drained (a node whose disk is full, a
//! container runtime that stands still) must not hold up requests and heartbeats.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait at most …
const LINES: usize = 8_192;
/// … and their bytes: this much memory a blocked reader may cost.
const BYTES: usize = 4 << 20;
/// How often it is told how many were lost.
const TELL: Duration = Duration::from_secs(1);
/// Between two attempts to get the last lines into a full queue.
const RETRY: Duration = Duration::from_millis(5);

enum Message {
    Line(Vec<u8>),
    /// Everything before it is written: say so.
    Flush(SyncSender<()>),
}

/// Takes lines; a clone takes them for the same writer.
#[derive(Clone)]
pub(super) struct Lines {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    lost: AtomicU64,
    waiting_bytes: AtomicUsize,
}

impl Lines {
    /// Writes to `output` from a thread of its own, which ends when all clones are gone. `tell` is called there, with how many were lost since it was last called.
    pub(super) fn start(output: impl Write + Send + 'static, tell: fn(u64)) -> io::Result<Lines> {
        let (queue, messages) = sync_channel(LINES);
        let counts = Arc::new(Counts::default());
        let writer = Writer {
            messages,
            counts: Arc::clone(&counts),
            output,
            tell,
            told: 0,
            told_at: Instant::now(),
        };
        std::thread::Builder::new()
            .name("log-lines".to_owned())
            .spawn(move || writer.run())?;
        Ok(Lines { queue, counts })
    }

    /// How many were lost.
    pub(super) fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    fn put(&self, line: &[u8]) {
        let counts = &self.counts;
        let waiting = counts.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let sent = waiting + line.len() <= BYTES && self.queue.try_send(Message::Line(line.to_vec())).is_ok();
        if !sent {
            counts.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines so far are written, but not longer than this.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        loop {
            match self.queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < end => {
                    message = back;
                    std::thread::sleep(RETRY);
                }
                Err(_) => return false,
            }
        }
        written.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// The formatter writes each line with one call.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

struct Writer<O> {
    messages: Receiver<Message>,
    counts: Arc<Counts>,
    output: O,
    tell: fn(u64),
    told: u64,
    told_at: Instant,
}

impl<O: Write> Writer<O> {
    fn run(mut self) {
        loop {
            match self.messages.recv_timeout(TELL) {
                Ok(Message::Line(line)) => {
                    // Standard error that is closed has no reader to miss the line.
                    let _ = self.output.write_all(&line);
                    self.counts.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                }
                Ok(Message::Flush(done)) => {
                    let _ = self.output.flush();
                    // Whoever waited may have lost patience.
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let lost = self.counts.lost.load(Ordering::Relaxed);
            if lost != self.told && self.told_at.elapsed() >= TELL {
                (self.tell)(lost - self.told);
                self.told = lost;
                self.told_at = Instant::now();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Standard error whose reader stands still until it is told to go on.
    struct Pipe {
        drain: Receiver<()>,
        drained: bool,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.drained {
                let _ = self.drain.recv();
                self.drained = true;
            }
            self.read.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Lines, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (go_on, drain) = mpsc::channel();
        let read = Arc::new(Mutex::new(Vec::new()));
        let output = Pipe {
            drain,
            drained: false,
            read: Arc::clone(&read),
        };
        (Lines::start(output, |_| ()).unwrap(), go_on, read)
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_not_time() {
        let (lines, go_on, read) = pipe();
        let begun = Instant::now();
        for number in 0..LINES + 100 {
            (&lines).write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let lost = lines.lost();
        // The writer's thread holds one.
        assert!((99..=100).contains(&lost), "{lost}");
        assert!(!lines.flush(Duration::from_millis(20)), "nothing is read");
        go_on.send(()).unwrap();
        assert!(lines.flush(Duration::from_secs(30)));
        let read = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        let expected: String = (0..LINES + 100 - usize::try_from(lost).unwrap())
            .map(|number| format!("{number}\n"))
            .collect();
        assert_eq!(read, expected, "those that were taken come whole and in order");
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let (lines, _stays, _) = pipe();
        let long = vec![b'x'; BYTES / 4];
        for _ in 0..6 {
            (&lines).write_all(&long).unwrap();
        }
        assert_eq!(lines.lost(), 2);
    }
}

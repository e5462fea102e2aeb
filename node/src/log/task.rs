//! The log on one thread, for the simulation: its writer is a task that takes simulated time for each group, and spares are prepared by
//! whoever asks. Everything else is the real log.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Disk, LogId, OpenError, Options, Vote, Wal,
    writer::{Stop, Work, Writer},
};
use crate::runtime;

/// What a log has said to be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Promised {
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) vote: Option<Vote>,
}

impl Wal {
    /// As [`Wal::open_on`], without threads. `latency` gives the time of the next flush; `promised` is kept up to date.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub(crate) fn open_as_task(
        disk: Arc<dyn Disk>,
        options: Options,
        latency: impl FnMut() -> Duration + Send + 'static,
        promised: Arc<Mutex<Promised>>,
    ) -> Result<Self, OpenError> {
        let (wal, writer) = Self::recover_on(disk, options)?;
        runtime::spawn(writer.run_as_task(latency, promised));
        Ok(wal)
    }
}

impl Writer {
    async fn run_as_task(mut self, mut latency: impl FnMut() -> Duration + Send, promised: Arc<Mutex<Promised>>) {
        let stop = loop {
            let shared = Arc::clone(&self.shared);
            let work = self.waiting_work(&mut shared.lock());
            let riders = self.has_riders(&shared.lock());
            let idle = shared.options.idle_flush;
            let outcome = match work {
                Some(Work::Write(requests)) => {
                    tokio::time::sleep(latency()).await;
                    self.write_all(requests)
                }
                Some(Work::Flush) => self.flush(),
                Some(Work::Close) => break self.flush(),
                Some(Work::Abandon) => break Ok(()),
                None if riders => match tokio::time::timeout(idle, shared.stirred.notified()).await {
                    Ok(()) => continue,
                    Err(_) => self.flush(),
                },
                None => {
                    shared.stirred.notified().await;
                    continue;
                }
            };
            if let Err(stop) = outcome {
                break Err::<(), Stop>(stop);
            }
            *promised.lock().unwrap() = Promised {
                last: self.standing.last,
                purged: self.standing.purged,
                vote: self.standing.vote,
            };
        };
        self.end(stop);
    }
}

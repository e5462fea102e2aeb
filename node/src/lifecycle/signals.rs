//! SIGTERM and SIGINT. They are caught from the first instruction on, so that a pod which is deleted while it starts ends at once and well.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How often the process was asked to end. A clone sees the same.
#[derive(Clone, Debug)]
pub struct Signals {
    count: watch::Receiver<u32>,
}

impl Signals {
    /// Catches the signals from here on. Needs a runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> std::io::Result<Signals> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, count) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    received = terminate.recv() => received,
                    received = interrupt.recv() => received,
                };
                sender.send_modify(|count| *count += 1);
            }
        });
        Ok(Signals { count })
    }

    /// Resolves when the process has been asked to end.
    pub async fn end(&self) {
        self.at_least(1).await;
    }

    /// Resolves when it has been asked a second time: somebody does not want to wait.
    pub async fn hurry(&self) {
        self.at_least(2).await;
    }

    async fn at_least(&self, wanted: u32) {
        let mut count = self.count.clone();
        if count.wait_for(|count| *count >= wanted).await.is_err() {
            // The catching task lives as long as the runtime.
            std::future::pending::<()>().await;
        }
    }
}

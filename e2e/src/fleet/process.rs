//! One running `kvnode`.

use std::{
    fs::OpenOptions,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How long the kernel may take to end a killed process, and a terminated one to drain.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// What a process runs in.
pub(super) struct Surroundings<'a> {
    /// The network namespace.
    pub(super) net: &'a str,
    /// How many files it may open; none: as many as the test itself.
    pub(super) descriptors: Option<u32>,
    /// The control group that it is in: the file that takes the ids of its processes.
    pub(super) group: Option<&'a Path>,
    /// Variables that are added to the test's own.
    pub(super) environment: &'a [(&'a str, String)],
}

impl Process {
    /// Starts `program` in these surroundings. Its output is added to the file `log`.
    pub(super) fn start(program: &Path, surroundings: &Surroundings<'_>, arguments: &[String], log: &Path) -> Result<Self> {
        let Surroundings {
            net,
            descriptors,
            group,
            environment,
        } = surroundings;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        // `setpriv`, `nsenter` and `prlimit` become the program: the process id stays. The first sees to it that it does not outlive the test, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(group) = group {
            // So does the shell, once its own id is written.
            command.args(["sh", "-c", r#"echo $$ > "$0" && exec "$@""#]).arg(group);
        }
        command.args(["nsenter", &format!("--net={net}")]);
        if let Some(count) = descriptors {
            command.args(["prlimit", &format!("--nofile={count}:{count}")]);
        }
        command.arg(program).args(arguments).envs(environment.iter().cloned());
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("KVNODE_")) {
            command.env_remove(variable);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("setpriv is missing: install util-linux")?;
        Ok(Process { child })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal (`TERM`, `STOP`, `CONT`, …).
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: &str) -> Result<()> {
        super::tool::run("kill", &[&format!("-{signal}"), &self.id().to_string()]).map(drop)
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("process {} has not ended within {PATIENCE:?}", self.id())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When it is no child of ours.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! One process under test: its output, its ports, its end.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

/// How long anything may take that usually takes milliseconds: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` gives something; the process's log is in the panic of one that never does.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        // There is nothing to wait on in another process but its answers.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running `kvnode`; killed when dropped.
pub struct Member {
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Member {
    /// Starts `program` (kvnode, or a script that becomes it) with its output in files under `logs`.
    pub fn start(logs: &Path, name: &str, command: &mut Command) -> Member {
        let output = logs.join(format!("{name}.out"));
        let errors = logs.join(format!("{name}.err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a file"))
            .stderr(File::create(&errors).expect("a file"))
            .spawn()
            .expect("the program starts");
        Member { child, output, errors }
    }

    /// `kvnode` with these arguments, deaf to the variables of whoever runs the tests.
    pub fn kvnode(logs: &Path, name: &str, arguments: &[&str]) -> Member {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvnode"));
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("KVNODE_")) {
            command.env_remove(variable);
        }
        Member::start(logs, name, command.args(arguments).current_dir(logs))
    }

    /// Of the process, for a look into `/proc`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).expect("its output")
    }

    pub fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).expect("its log")
    }

    /// `kvnode` with these arguments and no more than so many file descriptors.
    pub fn limited(logs: &Path, name: &str, descriptors: &str, arguments: &[&str]) -> Member {
        let mut command = Command::new("bash");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_kvnode")]).args(arguments);
        Member::start(logs, name, command.current_dir(logs))
    }

    /// The address of a port that the log names.
    pub fn logged(&self, port: &str) -> SocketAddr {
        eventually("the line that names the ports", || {
            let errors = self.errors();
            let line = errors.lines().find(|line| line.contains("the member is open"))?;
            let after = line.split_once(&format!("{port}="))?.1;
            after.split(' ').next()?.parse().ok()
        })
    }

    /// The curl line of the welcome.
    pub fn curl_line(&mut self) -> String {
        eventually("the curl line", || {
            self.assert_running();
            let output = self.output();
            let complete = output.rsplit_once('\n').map(|(lines, _)| lines.to_owned())?;
            complete.contains("Ctrl-C").then_some(())?;
            complete.lines().find(|line| line.starts_with("curl ")).map(str::to_owned)
        })
    }

    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our own child") {
            panic!("it ended with {status}:\n{}\n{}", self.output(), self.errors());
        }
    }

    /// Sends this signal (`TERM`, `KILL`, …).
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status()
            .expect("kill");
        assert!(sent.success(), "kill -{signal}");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of the process", || self.child.try_wait().expect("our own child"))
    }

    /// Ends it in good order.
    pub fn end(mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal("TERM");
        (self.wait(), begun.elapsed())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.errors).unwrap_or_default();
            eprintln!("--- {}\n{log}", self.errors.display());
        }
    }
}

/// The address and the token in a curl line.
pub fn parts(line: &str) -> (SocketAddr, String) {
    let after = |marker: &str| line.split_once(marker).unwrap_or_else(|| panic!("no {marker:?} in {line}")).1;
    let address = after("http://").split('/').next().expect("an address").parse().expect("an address");
    let token = after("Bearer ").split('\'').next().expect("a token").to_owned();
    (address, token)
}

/// The first of `count` ports after one another that nobody uses at the moment.
pub fn free_ports(count: u16) -> u16 {
    // Each test process begins elsewhere, so that two of them rarely look at the same ports; and so does each test of one process: the ports
    // of one that has just begun are still free.
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let taken = TAKEN.fetch_add(1, Ordering::Relaxed) * 40;
    let begin = 20_000 + ((std::process::id() % 1_000) as u16 * 30 + taken) % 12_000;
    let bases = (0..300_u16).map(|step| 20_000 + (begin - 20_000 + step * 40) % 12_000);
    let free = |base: &u16| (*base..base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    bases.into_iter().find(free).expect("free ports on this machine")
}

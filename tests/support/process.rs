//! Child processes with a time limit, whose output is collected and which never outlive the test.

use core::time::Duration;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::wait::{holds_within, wait_until};

/// How long a program may take whose speed is not under test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A child process whose output is collected while it runs. Dropping this kills the process.
pub struct Running {
    name: String,
    child: Child,
    stdout: Collector,
    stderr: Collector,
}

impl Running {
    /// Starts `command` with nothing on its standard input.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_with_input(command, b"")
    }

    /// Starts `command`, with `input` on its standard input.
    pub fn spawn_with_input(mut command: Command, input: &[u8]) -> Self {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = input.to_vec();
        // A child may end without reading its input, which is no failure of the test.
        thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = Collector::start(child.stdout.take().expect("stdout is piped"));
        let stderr = Collector::start(child.stderr.take().expect("stderr is piped"));
        Self { name, child, stdout, stderr }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the process has written to its standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What the process has written to its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until a line of standard error contains `text`, and returns that line.
    #[track_caller]
    pub fn wait_for_stderr(&mut self, text: &str, deadline: Duration) -> String {
        let mut found = None;
        let mut ended = false;
        holds_within(deadline, || {
            // Check the end before reading: if the process has ended, all it wrote has been collected.
            ended = self.has_ended();
            found = self.stderr().lines().find(|line| line.contains(text)).map(str::to_owned);
            found.is_some() || ended
        });
        found.unwrap_or_else(|| {
            panic!("{} (ended: {ended}) did not say {text:?} but:\n{}", self.name, self.stderr())
        })
    }

    /// Sends the signal `name`, as `kill -s` does.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Whether the process has ended and all its output is collected.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waiting for an own child").is_some()
            && self.stdout.thread.is_finished()
            && self.stderr.thread.is_finished()
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// After `deadline`, with the process's standard error. The process is killed.
    #[track_caller]
    pub fn wait(mut self, deadline: Duration) -> Output {
        let ended = holds_within(deadline, || self.has_ended());
        assert!(ended, "{} did not end within {deadline:?}; it said:\n{}", self.name, self.stderr());
        let status = self.child.wait().expect("it has ended");
        Output { status, stdout: self.stdout.bytes(), stderr: self.stderr.bytes() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended already; killing it then fails.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads a pipe to its end, in its own thread.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                sink.lock().expect("no panic while locked").extend_from_slice(&chunk[..n]);
            }
        });
        Self { bytes, thread }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().expect("no panic while locked").clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// Runs `command` to its end within [`PATIENCE`]. Returns its standard output, or its standard error if it
/// fails.
pub fn run(command: Command, input: &str) -> Result<String, String> {
    let output = Running::spawn_with_input(command, input.as_bytes()).wait(PATIENCE);
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }
}

/// Clears the environment of `command` but for `PATH`, so that the user's variables do not change its
/// outcome.
pub fn clean_environment(command: &mut Command) -> &mut Command {
    command.env_clear().env("LC_ALL", "C").envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
}

/// Sends a signal by its name. Does nothing if the process has ended.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", r#"kill -s "$0" "$1""#, name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    status.expect("sh runs");
}

/// Waits for the end of a child, with a deadline, which `Child::wait` does not have.
pub fn wait_for_exit(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let mut status = None;
    holds_within(deadline, || {
        status = child.try_wait().expect("waiting for an own child");
        status.is_some()
    });
    status
}

/// The processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&candidate| parent(candidate) == Some(pid))
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "PID (NAME) STATE PARENT ...", where NAME may contain anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Waits until none of `pids` is alive.
#[track_caller]
pub fn wait_for_death(pids: &[u32]) {
    wait_until(Duration::from_secs(10), "the processes are gone", || !pids.iter().any(|&pid| is_alive(pid)));
}

//! A running PostgreSQL server that belongs to one test.

use core::hash::{BuildHasher, Hasher};
use core::sync::atomic::{AtomicU16, Ordering};
use core::time::Duration;
use std::fs::{self, File, OpenOptions};
use std::hash::RandomState;
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;

use tempfile::TempDir;

use super::builder::{POSTGRES_PASSWORD, REPL_PASSWORD};
use super::process::{children, clean_environment, run, signal, wait_for_death, wait_for_exit};
use super::servers::{self, Server, give_to_server_user};
use super::wait::{holds_within, wait_until};

pub use super::builder::{Auth, Builder};

/// How long a server may take to start or to stop on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The ways to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The server stops after the last client has disconnected.
    Smart,
    /// The server disconnects its clients and writes a last checkpoint.
    Fast,
    /// The server stops at once; the next start is a recovery.
    Immediate,
}

/// A PostgreSQL server with its own data directory, port and socket. Dropping the cluster stops the server
/// and removes its directory. If the test process is killed, the keeper process does the same.
pub struct Cluster {
    server: Server,
    segment_size: u64,
    port: AtomicU16,
    postmaster: Mutex<Option<Child>>,
    keeper: Child,
    dir: TempDir,
}

impl Cluster {
    /// Describes a cluster of that server: by default with `trust` authentication and 1 MiB segments.
    pub fn builder(server: &Server) -> Builder {
        Builder::new(server)
    }

    /// Makes an empty private directory, and starts the keeper that removes it.
    pub(super) fn new(server: Server, segment_size: u64) -> Self {
        let dir = tempfile::Builder::new().prefix("tapster-").tempdir().expect("a temporary directory");
        give_to_server_user(dir.path());
        let keeper = start_keeper(dir.path());
        Self { server, segment_size, port: AtomicU16::new(0), postmaster: Mutex::new(None), keeper, dir }
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.server.major
    }

    /// The WAL segment size in bytes.
    pub fn segment_size(&self) -> u64 {
        self.segment_size
    }

    /// The only address that the server listens on.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The TCP port, and the number in the Unix socket's name; it stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    /// The directory of the Unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The data directory, `PGDATA`.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The directory of the server's copies of finished segments, with [`Builder::archive`].
    pub fn archive_dir(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    /// A connection string over TCP for `postgres` (the superuser) or `repl`, with the password.
    pub fn conninfo(&self, user: &str) -> String {
        self.conninfo_at(self.host(), user)
    }

    /// As [`conninfo`](Self::conninfo), over the Unix socket.
    pub fn socket_conninfo(&self, user: &str) -> String {
        self.conninfo_at(&self.dir.path().display().to_string(), user)
    }

    fn conninfo_at(&self, host: &str, user: &str) -> String {
        let quote = |value: &str| format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"));
        let password = quote(password(user));
        let (host, port) = (quote(host), self.port());
        format!("host={host} port={port} user={user} dbname=postgres password={password}")
    }

    /// Runs SQL as the superuser, each statement by itself. Returns what `psql` printed, or the error
    /// message.
    ///
    /// Rows are lines; `|` separates columns.
    pub fn sql(&self, sql: &str) -> Result<String, String> {
        psql(&self.socket_conninfo("postgres"), sql)
    }

    /// The server's log since the cluster was made.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The process id of the postmaster.
    ///
    /// # Panics
    /// If the server does not run.
    pub fn postmaster_pid(&self) -> u32 {
        self.postmaster().as_ref().expect("the server runs").id()
    }

    /// Writes a file into the data directory, readable by the server's user only.
    pub fn write_file(&self, name: &str, contents: &[u8]) {
        let path = self.data_dir().join(name);
        fs::write(&path, contents).expect("the data directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        give_to_server_user(&path);
    }

    /// Starts the stopped server, on the same port.
    #[track_caller]
    pub fn start(&self) {
        if let Err(failure) = self.launch() {
            panic!("{failure}");
        }
    }

    /// Stops the server and waits for its end.
    #[track_caller]
    pub fn stop(&self, how: Stop) {
        let mut postmaster = self.postmaster();
        let child = postmaster.as_mut().expect("the server runs");
        signal(child.id(), how.signal());
        let status = wait_for_exit(child, DEADLINE);
        assert!(status.is_some(), "{how:?} stop took over {DEADLINE:?}; the log ends:\n{}", self.log_tail());
        *postmaster = None;
    }

    /// A fast stop and a start.
    #[track_caller]
    pub fn restart(&self) {
        self.stop(Stop::Fast);
        self.start();
    }

    /// Kills the postmaster and all its processes with SIGKILL, like the failure of a machine.
    #[track_caller]
    pub fn kill_9(&self) {
        let mut child = self.postmaster().take().expect("the server runs");
        // The postmaster is stopped first, so that it starts no process after they have been listed.
        signal(child.id(), "STOP");
        let backends = children(child.id());
        child.kill().expect("the postmaster is our child");
        child.wait().expect("the postmaster is our child");
        for &pid in &backends {
            signal(pid, "KILL");
        }
        wait_for_death(&backends);
    }

    /// Makes the server read its configuration files again.
    pub fn reload(&self) {
        signal(self.postmaster_pid(), "HUP");
    }

    /// Promotes the standby to a primary on a new timeline, and waits until it accepts writes.
    #[track_caller]
    pub fn promote(&self) {
        let mut pg_ctl = self.server.command("pg_ctl");
        pg_ctl.current_dir(self.dir.path()).args(["promote", "-w", "-D"]).arg(self.data_dir());
        run(pg_ctl, "").unwrap_or_else(|said| panic!("pg_ctl promote: {said}"));
        wait_until(DEADLINE, "the promoted server is out of recovery", || {
            self.sql("SELECT pg_is_in_recovery()").as_deref() == Ok("f")
        });
    }

    /// Writes at least `bytes` bytes of WAL, without any table data.
    #[track_caller]
    pub fn write_wal(&self, bytes: usize) {
        let lines = bytes.div_ceil(32);
        self.sql(&format!(
            "SELECT pg_logical_emit_message(true, 'tapster', string_agg(md5(i::text), ''))
             FROM generate_series(1, {lines}) AS i"
        ))
        .unwrap();
    }

    /// Ends the current WAL segment and returns its name. With [`Builder::archive`], waits until the server's
    /// copy of it, and so of all before it, is in [`archive_dir`](Self::archive_dir).
    #[track_caller]
    pub fn switch_wal(&self) -> String {
        let name = self.sql("SELECT pg_walfile_name(pg_switch_wal())").unwrap();
        if self.sql("SHOW archive_mode").as_deref() != Ok("off") {
            let copy = self.archive_dir().join(&name);
            wait_until(DEADLINE, "the server has archived its segment", || copy.exists());
        }
        name
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Chooses a free port and starts the server; tries another port if a process has taken the port
    /// meanwhile.
    #[track_caller]
    pub(super) fn start_on_free_port(&self) {
        self.try_start_on_free_port().unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// As [`start_on_free_port`](Self::start_on_free_port), but returns an error, with the server's log.
    pub(super) fn try_start_on_free_port(&self) -> Result<(), String> {
        for _ in 0..5 {
            self.port.store(free_port(), Ordering::Relaxed);
            match self.launch() {
                Err(failure) if failure.contains("Address already in use") => {}
                result => return result,
            }
        }
        Err("five ports in a row were taken".into())
    }

    fn launch(&self) -> Result<(), String> {
        let mut postmaster = self.postmaster();
        assert!(postmaster.is_none(), "the server runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("the log file");
        let log_start = log.metadata().expect("the log file").len();
        let mut command = self.server.command("postgres");
        command.arg("-D").arg(self.data_dir()).arg("-k").arg(self.dir.path());
        command.args(["-p", &self.port().to_string()]);
        // The server gets its own process group: Ctrl-C ends only the test process, and the keeper stops the
        // server.
        command.current_dir(self.dir.path()).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log file")).stderr(log);
        let child = postmaster.insert(command.spawn().expect("postgres can be started"));

        let mut ended = false;
        let ready = holds_within(DEADLINE, || {
            ended = child.try_wait().expect("the postmaster is our child").is_some();
            ended || is_ready(&self.data_dir(), child.id())
        });
        if ready && !ended {
            return Ok(());
        }
        drop(child.kill());
        drop(child.wait());
        *postmaster = None;
        let log = tail(&self.log_file(), log_start);
        let what = if ended { "did not start" } else { "was not ready in time" };
        Err(format!("PostgreSQL {} {what}; its log:\n{log}", self.major()))
    }

    fn postmaster(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.postmaster.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn log_tail(&self) -> String {
        let len = fs::metadata(self.log_file()).map_or(0, |metadata| metadata.len());
        tail(&self.log_file(), len.saturating_sub(4096))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the log of PostgreSQL {} ends:\n{}", self.major(), self.log_tail());
        }
        if let Some(mut child) = self.postmaster().take() {
            signal(child.id(), Stop::Immediate.signal());
            signal(child.id(), "CONT");
            if wait_for_exit(&mut child, DEADLINE).is_none() {
                drop(child.kill());
                drop(child.wait());
            }
        }
        drop(fs::remove_dir_all(self.dir.path()));
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

impl Stop {
    fn signal(self) -> &'static str {
        match self {
            Self::Smart => "TERM",
            Self::Fast => "INT",
            Self::Immediate => "QUIT",
        }
    }
}

/// Runs SQL from a file on standard input with the packaged `psql`, which talks to every major.
pub fn psql(conninfo: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new(servers::packaged().bin.join("psql"));
    clean_environment(&mut command).env("PGCONNECT_TIMEOUT", "10");
    command.args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d", conninfo]);
    run(command, sql)
}

fn password(user: &str) -> &'static str {
    match user {
        "postgres" => POSTGRES_PASSWORD,
        "repl" => REPL_PASSWORD,
        other => panic!("no password is known for {other}"),
    }
}

/// Starts the keeper, a process that outlives this one for a moment. Its input ends when the cluster is
/// dropped or the test process is killed; the keeper then stops the server, if it still runs, and removes
/// `dir`.
fn start_keeper(dir: &Path) -> Child {
    const SCRIPT: &str = r#"
        read -r _
        data=$0/data
        pid=$(head -n 1 "$data/postmaster.pid")
        if [ -n "$pid" ] && [ "/proc/$pid/cwd" -ef "$data" ]; then
            kill -s QUIT "$pid"
            kill -s CONT "$pid"
            tries=100
            while [ -e "/proc/$pid/cwd" ] && [ $tries -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done
        fi
        rm -rf "$0"
    "#;
    let mut command = Command::new("sh");
    clean_environment(&mut command).arg("-c").arg(SCRIPT).arg(dir).current_dir("/");
    // In its own process group the keeper survives a signal to the group of the tests.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("sh runs")
}

/// Whether the pid file of the postmaster `pid` says that clients may connect.
fn is_ready(data: &Path, pid: u32) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    let is_its_own = lines.next() == Some(&pid.to_string());
    // Line 8 is the state, since PostgreSQL 10: "starting", "ready", "standby" (a standby that answers), ...
    is_its_own && matches!(lines.nth(6).map(str::trim), Some("ready" | "standby"))
}

/// A port that is free now, and below the range that the kernel uses for outgoing connections, so that a
/// restarted server finds it free again.
fn free_port() -> u16 {
    let mut random = RandomState::new().build_hasher();
    loop {
        random.write_u8(0);
        let port = 10_000 + u16::try_from(random.finish() % 20_000).expect("below 65536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The text of a file from the byte `from` on.
fn tail(path: &Path, from: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)
    });
    read.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&bytes).into_owned())
}

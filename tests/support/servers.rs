//! The installed PostgreSQL servers, and the user that runs them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use super::process::clean_environment;

/// One installed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The major version: 10, 12, ... 18.
    pub major: u32,
    /// The directory of its programs: `initdb`, `pg_ctl` and `postgres` at least.
    pub bin: PathBuf,
}

impl Server {
    /// A command for one of the server's own programs, run as the user that owns its files.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        clean_environment(&mut command);
        if let Some(user) = server_user() {
            // Supplementary groups are cleared by the standard library when root changes the user.
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

/// Every major version that tapster supports and `tests/postgres/install.sh` brings.
pub const MAJORS: [u32; 8] = [10, 12, 13, 14, 15, 16, 17, 18];

/// The servers that the tests run against: those of all [`MAJORS`], or those named in `TAPSTER_TEST_MAJORS`.
///
/// # Panics
/// If one is missing, with the command that installs it: a test without its server must not pass.
pub fn all() -> Vec<Server> {
    let Ok(wanted) = std::env::var("TAPSTER_TEST_MAJORS") else { return MAJORS.map(major).into() };
    let parse =
        |word: &str| word.parse().unwrap_or_else(|_| panic!("TAPSTER_TEST_MAJORS: {word:?} is no major"));
    wanted.split_whitespace().map(parse).map(major).collect()
}

/// Runs `check` against every server of [`all`], all at the same time.
///
/// # Panics
/// If a check panics; its thread has the server's name.
pub fn for_each(check: impl Fn(&Server) + Sync) {
    thread::scope(|scope| {
        for server in all() {
            let check = &check;
            let name = format!("PostgreSQL {}", server.major);
            thread::Builder::new().name(name).spawn_scoped(scope, move || check(&server)).expect("a thread");
        }
    });
}

/// The server of one major version.
///
/// # Panics
/// If it is not installed.
pub fn major(major: u32) -> Server {
    let found = installed().iter().find(|server| server.major == major);
    found.cloned().unwrap_or_else(|| {
        panic!("PostgreSQL {major} is not installed; run: tests/postgres/install.sh {major}")
    })
}

/// The server that comes with client programs (`psql`, `pg_receivewal`, `pg_basebackup`, `pg_waldump`):
/// the distribution's own package.
pub fn packaged() -> Server {
    let found = installed().iter().find(|server| server.bin.join("psql").exists());
    found.cloned().unwrap_or_else(|| panic!("no server has psql beside it; run tests/postgres/install.sh"))
}

fn installed() -> &'static [Server] {
    static SERVERS: OnceLock<Vec<Server>> = OnceLock::new();
    SERVERS.get_or_init(read_list)
}

/// Reads the list that `tests/postgres/install.sh` wrote: lines of "MAJOR BINDIR".
fn read_list() -> Vec<Server> {
    let list = cache_dir().join("servers");
    let text = fs::read_to_string(&list).unwrap_or_else(|error| {
        panic!("no PostgreSQL to test with ({}: {error}); run: tests/postgres/install.sh", list.display())
    });
    let servers = text.lines().map(|line| {
        let (major, bin) = line.split_once(' ').expect("a line is MAJOR BINDIR");
        Server { major: major.parse().expect("a major is a number"), bin: bin.into() }
    });
    servers.collect()
}

/// The directory of `tests/postgres/install.sh`, chosen by the same three rules.
pub fn cache_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = variable("TAPSTER_POSTGRES_DIR") {
        return dir;
    }
    if is_root() {
        return "/var/cache/tapster/postgres".into();
    }
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    cache.expect("HOME is set").join("tapster/postgres")
}

/// A user by number.
#[derive(Clone, Copy, Debug, Hash)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// The user that runs the servers if the tests run as root, because PostgreSQL refuses to run as root:
/// `postgres`, or else `nobody`. `None` if the tests run as an ordinary user, who then runs the servers too.
pub fn server_user() -> Option<User> {
    static USER: OnceLock<Option<User>> = OnceLock::new();
    *USER.get_or_init(|| {
        is_root().then(|| {
            let user = look_up("postgres").or_else(|| look_up("nobody"));
            user.expect("/etc/passwd knows postgres or nobody")
        })
    })
}

/// Gives a file or directory to the user that runs the servers.
pub fn give_to_server_user(path: &Path) {
    if let Some(user) = server_user() {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).expect("root may chown");
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc is mounted").uid() == 0
}

fn look_up(name: &str) -> Option<User> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = fields.find(|fields| fields.len() > 3 && fields[0] == name)?;
    Some(User { uid: user[2].parse().ok()?, gid: user[3].parse().ok()? })
}

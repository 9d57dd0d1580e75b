use std::ffi::{OsStr, OsString};
use std::format;
use std::fs;
use std::path::{Path, PathBuf};
use std::prelude::v1::*;

use core::fmt;

use super::error::{ConnInfoError, ConnInfoErrorKind};
use super::keywords::KEYWORDS;

/// The variables that are read besides those of [`KEYWORDS`].
const OTHER_VARIABLES: &[&str] =
    &["PGREQUIRESSL", "PGSYSCONFDIR", "PGDATESTYLE", "PGTZ", "PGGEQO", "HOME", "USER"];

/// The directories in which libpq's packages keep their service file.
const SYSTEM_CONFIGURATION: &[&str] =
    &["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/etc/postgresql", "/usr/local/pgsql/etc"];

/// What the machine and the process contribute to a connection: variables, home directory, user name,
/// directories.
///
/// [`from_process`](Self::from_process) reads the running process, once, so that a decision can be explained
/// afterwards. [`empty`](Self::empty) contains nothing and is filled by the methods `with_…`. `Debug` shows
/// the names of variables only.
#[derive(Clone)]
pub struct Environment {
    variables: Vec<(String, OsString)>,
    pub(super) home: Option<PathBuf>,
    user: Result<String, ConnInfoError>,
    pub(super) socket_directory: PathBuf,
    system_configuration: PathBuf,
}

impl Environment {
    /// No variable, no home directory, no user name, sockets in `/tmp`.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            variables: Vec::new(),
            home: None,
            user: Err(no_user("no user name is known")),
            socket_directory: PathBuf::from("/tmp"),
            system_configuration: PathBuf::from("/usr/local/pgsql/etc"),
        }
    }

    /// The environment of this process.
    ///
    /// The user name is that of the process's user id in `/etc/passwd`. A user from elsewhere (LDAP, a
    /// container started with a bare number) has no entry there. Then `$USER` counts, unless `/etc/passwd`
    /// gives that name to another user id. The home directory is `$HOME`, or else the one of the entry.
    /// Packaged servers put their sockets into `/var/run/postgresql` or `/tmp`; the first of these that
    /// exists is the default.
    #[must_use]
    pub fn from_process() -> Self {
        let mut environment = Self::empty();
        let keywords = KEYWORDS.iter().filter_map(|keyword| keyword.variable);
        for name in keywords.chain(OTHER_VARIABLES.iter().copied()) {
            if let Some(value) = std::env::var_os(name) {
                environment.variables.push((name.into(), value));
            }
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = effective_uid();
        environment.user = user_name(uid, &passwd, environment.raw_variable("USER"));
        environment.home = match environment.raw_variable("HOME") {
            Some(home) if !home.is_empty() => Some(PathBuf::from(home)),
            _ => uid.and_then(|uid| passwd_entry(&passwd, uid)).map(|entry| PathBuf::from(entry.home)),
        };
        if Path::new("/var/run/postgresql").is_dir() {
            environment.socket_directory = PathBuf::from("/var/run/postgresql");
        }
        let mut candidates = SYSTEM_CONFIGURATION.iter().map(PathBuf::from);
        if let Some(directory) = candidates.find(|directory| directory.join("pg_service.conf").exists()) {
            environment.system_configuration = directory;
        }
        environment
    }

    /// Sets a variable, in place of an earlier value. A variable that is set to the empty text counts as set.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.variables.retain(|(earlier, _)| *earlier != name);
        self.variables.push((name, value));
        self
    }

    /// Sets the home directory, which has `.pgpass`, `.pg_service.conf` and `.postgresql/`.
    #[must_use]
    pub fn with_home(mut self, directory: impl Into<PathBuf>) -> Self {
        self.home = Some(directory.into());
        self
    }

    /// Sets the operating system's name of the user, the default of `user`.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>) -> Self {
        self.user = Ok(name.into());
        self
    }

    /// Sets the directory of Unix sockets that is the default of `host`.
    #[must_use]
    pub fn with_socket_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.socket_directory = directory.into();
        self
    }

    /// Sets the directory of the system's `pg_service.conf`, which `PGSYSCONFDIR` overrides.
    #[must_use]
    pub fn with_system_configuration(mut self, directory: impl Into<PathBuf>) -> Self {
        self.system_configuration = directory.into();
        self
    }

    /// A variable as text; an error where its value is not UTF-8.
    pub(super) fn variable(&self, name: &str) -> Result<Option<&str>, ConnInfoError> {
        let Some(value) = self.raw_variable(name) else { return Ok(None) };
        let error = || {
            ConnInfoError::new(
                ConnInfoErrorKind::Environment,
                format!("environment variable \"{name}\" is not valid UTF-8"),
            )
        };
        value.to_str().map(Some).ok_or_else(error)
    }

    pub(super) fn user(&self) -> Result<&str, ConnInfoError> {
        self.user.as_deref().map_err(Clone::clone)
    }

    /// The system's service file.
    pub(super) fn system_service_file(&self) -> PathBuf {
        let directory = match self.raw_variable("PGSYSCONFDIR") {
            Some(directory) => Path::new(directory),
            None => &self.system_configuration,
        };
        directory.join("pg_service.conf")
    }

    fn raw_variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("home", &self.home)
            .field("user", &self.user)
            .field("socket_directory", &self.socket_directory)
            .field("system_configuration", &self.system_configuration)
            .finish()
    }
}

/// The name that `/etc/passwd` gives a user id; `requirepeer` is compared with it.
#[must_use]
pub fn system_user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd_entry(&passwd, uid).map(|entry| entry.name.into())
}

/// The user id that permissions are checked against. The standard library has no function for it; Linux lists
/// it in `/proc`.
fn effective_uid() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    home: &'a str,
}

fn passwd_entries(passwd: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        Some(PasswdEntry { name, uid, home: fields.nth(2)? })
    })
}

fn passwd_entry(passwd: &str, uid: u32) -> Option<PasswdEntry<'_>> {
    passwd_entries(passwd).find(|entry| entry.uid == uid)
}

fn user_name(uid: Option<u32>, passwd: &str, variable: Option<&OsStr>) -> Result<String, ConnInfoError> {
    if let Some(entry) = uid.and_then(|uid| passwd_entry(passwd, uid)) {
        return Ok(entry.name.into());
    }
    let variable = variable.and_then(OsStr::to_str).filter(|name| !name.is_empty());
    match (variable, uid) {
        // A variable left over from another user's session.
        (Some(name), Some(_)) if passwd_entries(passwd).any(|entry| entry.name == name) => {
            Err(no_user(format!("environment variable \"USER\" names another user: \"{name}\"")))
        }
        (Some(name), _) => Ok(name.into()),
        (None, Some(uid)) => Err(no_user(format!("local user with ID {uid} does not exist"))),
        (None, None) => Err(no_user("could not look up the local user")),
    }
}

fn no_user(message: impl Into<String>) -> ConnInfoError {
    ConnInfoError::new(ConnInfoErrorKind::Environment, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;
    use std::vec;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\n# comment\nbarman:x:107:110::/var/lib/barman:/bin/sh\n";

    #[test]
    fn the_user_comes_from_passwd_or_else_from_the_variable() {
        let name = |uid, variable: Option<&str>| {
            user_name(uid, PASSWD, variable.map(OsStr::new)).map_err(|error| error.to_string())
        };
        assert_eq!(name(Some(107), Some("root")), Ok("barman".into()));
        assert_eq!(name(Some(5000), Some("jane")), Ok("jane".into()));
        assert_eq!(name(None, Some("root")), Ok("root".into()));
        assert_eq!(name(Some(5000), None), Err("local user with ID 5000 does not exist".into()));
        assert_eq!(name(Some(5000), Some("")), Err("local user with ID 5000 does not exist".into()));
        assert!(name(Some(5000), Some("root")).is_err(), "left over from another session");
        assert!(name(None, None).is_err());
    }

    #[test]
    fn passwd_entries_have_seven_fields() {
        let entry = passwd_entry(PASSWD, 107).unwrap();
        assert_eq!((entry.name, entry.home), ("barman", "/var/lib/barman"));
        assert!(passwd_entry(PASSWD, 1).is_none());
        assert!(passwd_entry("x:x:1", 1).is_none());
    }

    #[test]
    fn this_process_has_a_user() {
        let uid = effective_uid().unwrap();
        assert_eq!(Environment::from_process().user().ok(), system_user_name(uid).as_deref());
    }

    #[test]
    fn a_variable_that_is_not_text_is_an_error_and_not_a_wrong_password() {
        let environment = Environment::empty().with_variable("PGPASSWORD", OsString::from_vec(vec![0xff]));
        let error = environment.variable("PGPASSWORD").unwrap_err();
        assert_eq!(error.to_string(), "environment variable \"PGPASSWORD\" is not valid UTF-8");
        assert_eq!(environment.variable("PGUSER"), Ok(None));
    }

    #[test]
    fn debug_shows_no_value() {
        let environment = Environment::empty().with_variable("PGPASSWORD", "s3cret");
        let shown = format!("{environment:?}");
        assert!(shown.contains("PGPASSWORD") && !shown.contains("s3cret"), "{shown}");
    }
}

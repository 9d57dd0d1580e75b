//! Runs the built program, or another one in its place.

use core::time::Duration;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::process::{PATIENCE, Running, clean_environment};

/// A program to be run with an empty home directory, and without any of this machine's environment but
/// `PATH`.
pub struct Program {
    command: Command,
    home: TempDir,
}

/// A running program. Dropping this kills it.
pub struct RunningProgram {
    running: Running,
    home: TempDir,
}

/// Parses a line of output that is a JSON document.
#[cfg(feature = "cli")]
#[track_caller]
pub fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
}

/// Checks that a document has these members with these values; it may have more.
#[cfg(feature = "cli")]
#[track_caller]
pub fn assert_has(document: &serde_json::Value, expected: serde_json::Value) {
    fn has(document: &serde_json::Value, expected: &serde_json::Value) -> bool {
        match expected.as_object() {
            Some(members) => members.iter().all(|(name, value)| has(&document[name], value)),
            None => document == expected,
        }
    }
    assert!(has(document, &expected), "{expected} is not in {document}");
}

/// Runs `tapster` with these arguments to its end. The run must succeed and print exactly one document, which
/// is returned.
#[cfg(feature = "cli")]
#[track_caller]
pub fn tapster_json<S: AsRef<OsStr>>(args: &[S]) -> serde_json::Value {
    let output = tapster(args);
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).expect("documents are UTF-8");
    let [line] = stdout.lines().collect::<Vec<_>>()[..] else { panic!("not one document:\n{stdout}") };
    json(line)
}

/// Runs `tapster` with these arguments to its end.
#[track_caller]
pub fn tapster<S: AsRef<OsStr>>(args: &[S]) -> Output {
    Program::tapster().args(args).run()
}

impl Program {
    /// The `tapster` that was built for these tests.
    ///
    /// # Panics
    /// If the tests were built without the feature `cli`.
    pub fn tapster() -> Self {
        let Some(path) = option_env!("CARGO_BIN_EXE_tapster") else {
            panic!("these tests were built without the feature `cli`, so there is no program to run")
        };
        Self::new(Path::new(path))
    }

    /// Any program.
    pub fn new(path: &Path) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(path);
        clean_environment(&mut command).env("HOME", home.path());
        Self { command, home }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: &[S]) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// The program's home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs the program to its end, which must come within [`PATIENCE`].
    #[track_caller]
    pub fn run(self) -> Output {
        self.spawn().wait(PATIENCE)
    }

    /// Starts the program.
    pub fn spawn(self) -> RunningProgram {
        RunningProgram { running: Running::spawn(self.command), home: self.home }
    }
}

impl RunningProgram {
    /// As [`Running::wait`].
    #[track_caller]
    pub fn wait(self, deadline: Duration) -> Output {
        self.running.wait(deadline)
    }

    /// The program's home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

impl core::ops::Deref for RunningProgram {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl core::ops::DerefMut for RunningProgram {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

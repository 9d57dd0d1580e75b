//! The user's command: found before anything begins, started, and ended.

use core::time::Duration;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::SignalKind;

use super::super::failure::Failure;
use super::super::output;
use tapster::postgres::StartedBackup;

/// How long the command may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// Checks that there is such a program and that it can be run, before a backup begins.
pub(super) fn check_program(command: &[OsString]) -> Result<(), Failure> {
    let program = command.first().ok_or_else(|| Failure::usage("give a command"))?;
    let shown = program.display();
    let refused = |why: &str| Failure::usage(format!("could not start \"{shown}\": {why}"));
    let Some(file) = find(program) else {
        let is_path = program.as_bytes().contains(&b'/');
        return Err(refused(if is_path { "there is no such file" } else { "no directory of PATH has it" }));
    };
    if file.is_dir() {
        return Err(refused("it is a directory"));
    }
    if let Err(error) = access(&file, Access::EXEC_OK) {
        return Err(refused(&format!("it is not executable: {error}")));
    }
    match interpreter(&file) {
        Some(interpreter) if access(&interpreter, Access::EXEC_OK).is_err() => {
            let interpreter = interpreter.display();
            Err(refused(&format!("its interpreter \"{interpreter}\" does not exist or is not executable")))
        }
        _ => Ok(()),
    }
}

/// The file that would be run: of the directories in PATH the first that has an executable one counts.
fn find(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Path::new(program).metadata().is_ok().then(|| program.into());
    }
    if program.is_empty() {
        return None;
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let files = env::split_paths(&path).map(|directory| directory.join(program));
    let mut found: Vec<_> = files.filter(|file| file.is_file()).collect();
    let runs = found.iter().position(|file| access(file, Access::EXEC_OK).is_ok());
    if found.is_empty() { None } else { Some(found.swap_remove(runs.unwrap_or_default())) }
}

/// The program that a script names in its first line; the kernel says only "no such file" where that is missing.
fn interpreter(file: &Path) -> Option<PathBuf> {
    /// What the kernel reads of the line.
    const MAX_LEN: u64 = 256;
    let mut line = Vec::new();
    BufReader::new(File::open(file).ok()?.take(MAX_LEN)).read_until(b'\n', &mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.trim_ascii();
    let name = line.split(u8::is_ascii_whitespace).next()?;
    name.starts_with(b"/").then(|| OsStr::from_bytes(name).into())
}

/// The user's command, while it runs.
pub(super) struct Running {
    child: Child,
    /// Whether signals go to the command's whole process group.
    is_group: bool,
}

impl Running {
    pub(super) fn start(
        command: &[OsString],
        started: &StartedBackup,
        data_directory: Option<&[u8]>,
    ) -> Result<Self, Failure> {
        let (program, arguments) = command.split_first().ok_or_else(|| Failure::usage("give a command"))?;
        let mut command = Command::new(program);
        command.args(arguments);
        command.env("TAPSTER_START_LSN", started.location.to_string());
        command.env("TAPSTER_TIMELINE", started.timeline.to_string());
        if let Some(directory) = data_directory {
            command.env("TAPSTER_DATA_DIRECTORY", OsStr::from_bytes(directory));
        }
        // Our stdout carries the result, so the command's output goes to stderr.
        command.stdout(io::stderr());
        // On a terminal the command may have to ask for input, and only the foreground group can read.
        let is_group = !io::stdin().is_terminal();
        if is_group {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .map_err(|error| Failure::other(format!("could not start \"{}\": {error}", program.display())))?;
        Ok(Self { child, is_group })
    }

    pub(super) async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        let status = self.child.wait().await;
        status.map_err(|error| Failure::other(format!("could not wait for the command: {error}")))
    }

    /// Sends SIGTERM, and SIGKILL after [`GRACE`] or as soon as `impatient` completes.
    pub(super) async fn end(&mut self, impatient: impl Future<Output = SignalKind>) {
        self.signal(Signal::TERM);
        tokio::select! {
            _ = self.child.wait() => return,
            () = tokio::time::sleep(GRACE) => {}
            _ = impatient => {}
        }
        self.signal(Signal::KILL);
        // SIGKILL cannot be ignored.
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        // The child has an id until it was waited for.
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // A process that has already ended needs no signal.
            let _ = if self.is_group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
        }
    }
}

/// The exit code of a command that has copied the files: 0, or one of those that are accepted.
pub(super) fn check_status(
    status: ExitStatus,
    command: &[OsString],
    accepted: &[u8],
) -> Result<i32, Failure> {
    let program = command.first().map(|program| program.display().to_string()).unwrap_or_default();
    match status.code() {
        Some(0) => Ok(0),
        Some(code) if accepted.iter().any(|&accepted| i32::from(accepted) == code) => {
            output::note(&format!("\"{program}\" ended with {status}, which --ok-exit accepts"));
            Ok(code)
        }
        _ => {
            let failure =
                Failure::other(format!("\"{program}\" ended with {status}; the backup is abandoned"));
            let name = Path::new(&program).file_name().and_then(OsStr::to_str);
            Err(match (name, status.code()) {
                (Some("rsync"), Some(24)) => failure.with_hint(
                    "files vanished while rsync copied, as they may on a running server; accept that with --ok-exit 24",
                ),
                (Some("tar"), Some(1)) => failure.with_hint(
                    "files changed while tar read them, as they may on a running server; accept that with --ok-exit 1",
                ),
                _ => failure,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn what_cannot_be_run_is_found_before_it_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str, mode| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.into_os_string()
        };
        let refusal = |program: OsString| {
            let failure = check_program(&[program]).unwrap_err();
            assert_eq!(failure.code(), 2);
            failure.message().to_owned()
        };
        assert!(refusal("no-such-program-anywhere".into()).ends_with("no directory of PATH has it"));
        assert!(refusal("".into()).ends_with("no directory of PATH has it"));
        assert!(refusal("/no/such".into()).ends_with("\"/no/such\": there is no such file"));
        assert!(refusal("/".into()).ends_with("it is a directory"));
        assert!(refusal(script("plain", "#!/bin/sh\n", 0o644)).contains("it is not executable"));
        assert!(refusal(script("lost", "#! /no/such -x\n", 0o755)).contains("\"/no/such\" does not exist"));
        for right in ["sh".into(), "/bin/sh".into(), script("right", "#!/bin/sh -e\n", 0o755)] {
            check_program(&[right]).unwrap();
        }
        assert!(check_program(&[]).is_err());
    }

    #[test]
    fn only_the_exit_codes_that_were_named_are_accepted() {
        let check = |code: i32, program: &str, accepted: &[u8]| {
            check_status(ExitStatus::from_raw(code << 8), &[program.into()], accepted)
        };
        assert_eq!(check(0, "x", &[]).unwrap(), 0);
        assert_eq!(check(24, "x", &[1, 24]).unwrap(), 24);
        for (code, accepted) in [(1, &[][..]), (23, &[24]), (24, &[])] {
            assert_eq!(check(code, "x", accepted).unwrap_err().code(), 1);
        }
        assert!(check(24, "/usr/bin/rsync", &[]).unwrap_err().text().contains("--ok-exit 24"));
        assert!(check(1, "tar", &[]).unwrap_err().text().contains("--ok-exit 1"));
        // A command that a signal ended has no exit code.
        check_status(ExitStatus::from_raw(9), &["x".into()], &[9]).unwrap_err();
    }
}

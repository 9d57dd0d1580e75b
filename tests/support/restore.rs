//! The `restore_command` of a recovery from an archive.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::receiver::Archive;
use super::servers::give_to_server_user;

/// The built program, in a directory where the user of the servers can run it.
pub struct RestoreCommand {
    dir: TempDir,
}

impl RestoreCommand {
    /// Makes a copy of the program.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        give_to_server_user(dir.path());
        let program = env!("CARGO_BIN_EXE_tapster");
        fs::copy(program, dir.path().join("tapster")).unwrap();
        Self { dir }
    }

    /// The value of the setting `restore_command`.
    pub fn line(&self, archives: &[&Path], options: &str) -> String {
        let program = self.dir.path().join("tapster");
        let from: String =
            archives.iter().map(|archive| format!(" --from '{}'", archive.display())).collect();
        format!("'{}' wal get %f %p{from} {options}", program.display())
    }
}

/// Gives the archive, which the user of the tests has written, to the user of the servers.
pub fn give_to_server(archive: &Archive) {
    give_to_server_user(archive.path());
    archive.names().iter().for_each(|name| give_to_server_user(&archive.file(name)));
}

use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{Access, access};

use super::failure::Failure;

/// Finds out before connecting whether files can be written to the directory.
pub(super) fn check(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Err(error) => {
            let hint = match error.kind() {
                ErrorKind::NotFound => "\nhint: create it first",
                _ => "",
            };
            return Err(Failure::storage(format!("could not open directory \"{shown}\": {error}{hint}")));
        }
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Failure::storage(format!("\"{shown}\" is not a directory")));
        }
        Ok(_) => {}
    }
    access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| Failure::storage(format!("could not write to directory \"{shown}\": {error}")))
}

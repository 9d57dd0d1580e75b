//! What users give to a command and the program has to check or parse: a directory, a size, a password.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::failure::{Failure, with_causes};
use tapster::storage::Directory;

/// Checks, before connecting, that files can be written to the directory.
pub(super) fn check_directory(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Err(error) => {
            let failure = Failure::storage(format!("could not open directory \"{shown}\": {error}"));
            return Err(match error.kind() {
                ErrorKind::NotFound => failure.with_hint("create it first"),
                _ => failure,
            });
        }
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Failure::storage(format!("\"{shown}\" is not a directory")));
        }
        Ok(_) => {}
    }
    access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| Failure::storage(format!("could not write to directory \"{shown}\": {error}")))
}

/// Checks, before there is anything to lose, that a file can be written under this name: what is there and is no
/// regular file is never replaced.
pub(super) fn check_output(path: &Path) -> Result<(), Failure> {
    let checked = match Directory::of_file(path) {
        Ok((directory, name)) => directory.check_replaceable(name),
        // The directory may come later; who writes the file says what is wrong with it.
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    };
    checked.map_err(|error| Failure::storage(with_causes(&error)))
}

/// A number of bytes: `1048576`, `512kB`, `10 GB`. As in PostgreSQL's settings, a kB has 1024
/// bytes; KiB and K mean the same.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err("expected a number with a unit of B, kB, MB, GB or TB".into()),
    };
    let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(factor));
    bytes.ok_or_else(|| "expected a number of bytes, as 1048576 or 512MB".into())
}

/// Whether there is a terminal to ask on.
pub(super) fn can_ask_password() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on the terminal itself, even if stdin is redirected, without echo.
pub(super) fn ask_password(prompt: &str) -> io::Result<Zeroizing<String>> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let quiet = WithoutEcho::new(&terminal)?;
    write!(&terminal, "{prompt}")?;
    let mut line = Zeroizing::new(String::new());
    BufReader::new(&terminal).read_line(&mut line)?;
    drop(quiet);
    writeln!(&terminal)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\n', '\r']).into()))
}

/// Switches the terminal's echo off until dropped.
struct WithoutEcho<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> WithoutEcho<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for WithoutEcho<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_of_1024_in_any_spelling() {
        for (text, bytes) in [("0", 0), ("17", 17), ("17B", 17), ("2k", 2048), ("2 kB", 2048), ("2KiB", 2048)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_size("10GB"), Ok(10 << 30));
        assert_eq!(parse_size("1TiB"), Ok(1 << 40));
        for text in ["", "MB", "1.5GB", "-1", "1 PB", "99999999999TB", "1 M x"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}

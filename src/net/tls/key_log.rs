use core::fmt::Write as _;
use std::format;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::string::String;

use rustls::KeyLog;

/// Writes the keys of TLS sessions to a file (`sslkeylogfile`), so that recorded sessions can be decrypted.
#[derive(Debug)]
pub(super) struct KeyLogFile(File);

impl KeyLogFile {
    /// Opens the file for appending. If the file is new, only its owner may read it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(Self)
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        push_hex(&mut line, client_random);
        line.push(' ');
        push_hex(&mut line, secret);
        line.push('\n');
        // One write, so that the lines of several connections stay whole.
        if let Err(error) = (&self.0).write_all(line.as_bytes()) {
            log::warn!("could not write to the SSL key logging file: {error}");
        }
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
}

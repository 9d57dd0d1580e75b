use core::fmt::Write as _;
use std::format;
use std::fs::{self, File, OpenOptions};
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
    ///
    /// # Errors
    /// Also for a symbolic link, a pipe and everything else that is no regular file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Looked at before opening, as opening a pipe waits for its reader.
        if fs::symlink_metadata(path).is_ok_and(|existing| !existing.is_file()) {
            return Err(io::Error::other("it is not a regular file"));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::string::ToString as _;

    #[test]
    fn only_a_regular_file_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        fs::write(path("file"), "").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        for name in ["link", "socket"] {
            assert_eq!(KeyLogFile::open(&path(name)).unwrap_err().to_string(), "it is not a regular file");
        }
        for name in ["file", "new"] {
            KeyLogFile::open(&path(name)).unwrap().log("LABEL", &[1], &[2]);
            assert_eq!(fs::read_to_string(path(name)).unwrap(), "LABEL 01 02\n");
        }
        assert!(KeyLogFile::open("/dev/stdout".as_ref()).is_err());
    }
}

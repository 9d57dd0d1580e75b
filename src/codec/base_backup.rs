//! The messages inside `CopyData` during BASE_BACKUP, from server 15 on.

use alloc::vec::Vec;

use super::error::{DecodeError, EncodeError};
use super::readable::{Size, Text, unknown};
use super::reader::Reader;
use super::writer::write;

/// A message that a server from 15 on sends inside `CopyData` during BASE_BACKUP. Older servers send bare tar
/// data.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-replication.html>
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaseBackupMessage<'a> {
    /// `n`: an archive begins.
    NewArchive {
        /// The archive's file name, such as `base.tar`. It comes from the peer: check it before you create
        /// such a file.
        name: &'a [u8],
        /// The tablespace's directory on the server; empty for the main data directory.
        tablespace_path: &'a [u8],
    },
    /// `m`: the backup manifest begins.
    Manifest,
    /// `d`: bytes of the archive or manifest.
    Data(&'a [u8]),
    /// `p`: how many bytes of the current tablespace the server has read.
    Progress(i64),
    /// A message of a newer server. Ignore it.
    Unknown {
        /// The first byte of the message.
        kind: u8,
        /// The bytes after the first.
        body: &'a [u8],
    },
}

impl<'a> BaseBackupMessage<'a> {
    /// Reads the bytes of one `CopyData`.
    ///
    /// # Errors
    /// If the bytes do not follow the layout of their kind to the last one.
    pub fn parse(data: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("BaseBackupMessage", data);
        let message = match r.u8("kind")? {
            b'n' => Self::NewArchive { name: r.cstr("name")?, tablespace_path: r.cstr("tablespace_path")? },
            b'm' => Self::Manifest,
            b'd' => Self::Data(r.rest()),
            b'p' => Self::Progress(r.i64("progress")?),
            kind => Self::Unknown { kind, body: r.rest() },
        };
        r.finish()?;
        Ok(message)
    }

    /// Appends the bytes of one `CopyData` to `out`; for use in
    /// [`CopyData::encode_with`](super::CopyData::encode_with).
    ///
    /// # Errors
    /// If a name holds a NUL.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write("BaseBackupMessage", out, |w| {
            match self {
                Self::NewArchive { name, tablespace_path } => {
                    w.u8(b'n');
                    w.cstr(name, "name")?;
                    w.cstr(tablespace_path, "tablespace_path")?;
                }
                Self::Manifest => w.u8(b'm'),
                Self::Data(data) => {
                    w.u8(b'd');
                    w.bytes(data);
                }
                Self::Progress(bytes) => {
                    w.u8(b'p');
                    w.i64(*bytes);
                }
                Self::Unknown { kind, body } => {
                    w.u8(*kind);
                    w.bytes(body);
                }
            }
            Ok(())
        })
    }
}

impl core::fmt::Debug for BaseBackupMessage<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NewArchive { name, tablespace_path } => f
                .debug_struct("NewArchive")
                .field("name", &Text(name))
                .field("tablespace_path", &Text(tablespace_path))
                .finish(),
            Self::Manifest => f.write_str("Manifest"),
            Self::Data(data) => f.debug_tuple("Data").field(&Size(data)).finish(),
            Self::Progress(bytes) => write!(f, "Progress({bytes})"),
            Self::Unknown { kind, body } => unknown(*kind, body, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::BaseBackup;
    use crate::codec::test_support::{golden, golden_open, not_encodable};

    #[test]
    fn messages_are_their_bytes() {
        for (bytes, message) in [
            (
                &b"nbase.tar\0\0"[..],
                BaseBackupMessage::NewArchive { name: b"base.tar", tablespace_path: b"" },
            ),
            (
                b"n16384.tar.gz\0/srv/ts\0",
                BaseBackupMessage::NewArchive { name: b"16384.tar.gz", tablespace_path: b"/srv/ts" },
            ),
            (b"m", BaseBackupMessage::Manifest),
            (b"p\0\0\0\0\x01f\xe6\0", BaseBackupMessage::Progress(0x0166_e600)),
        ] {
            golden::<BaseBackup>(bytes, message);
        }
        golden_open::<BaseBackup>(b"d15\n", 1, BaseBackupMessage::Data(b"15\n"));
        golden_open::<BaseBackup>(b"zwhat", 1, BaseBackupMessage::Unknown { kind: b'z', body: b"what" });
    }

    #[test]
    fn a_nul_cannot_be_smuggled_into_a_name() {
        not_encodable::<BaseBackup>(BaseBackupMessage::NewArchive { name: b"a\0b", tablespace_path: b"" });
        not_encodable::<BaseBackup>(BaseBackupMessage::NewArchive { name: b"a", tablespace_path: b"\0" });
    }

    #[test]
    fn debug_shows_names_and_sizes_but_no_data() {
        let archive = BaseBackupMessage::NewArchive { name: b"base.tar", tablespace_path: b"" };
        for (message, shown) in [
            (archive, r#"NewArchive { name: "base.tar", tablespace_path: "" }"#),
            (BaseBackupMessage::Manifest, "Manifest"),
            (BaseBackupMessage::Data(b"secret"), "Data(6 bytes)"),
            (BaseBackupMessage::Progress(-1), "Progress(-1)"),
            (
                BaseBackupMessage::Unknown { kind: b'z', body: b"secret" },
                "Unknown { kind: 'z', body: 6 bytes }",
            ),
        ] {
            assert_eq!(alloc::format!("{message:?}"), shown);
        }
    }
}

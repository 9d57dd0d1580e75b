//! What else may listen on the port.

use alloc::string::String;

use crate::session::{AnswerStart, HandshakeError};

/// The error for an answer that another kind of service gives; `None` if it is not known whose it is.
pub(super) fn not_postgres(answer: &[u8]) -> Option<HandshakeError> {
    let what = match answer {
        [b'H', b'T', b'T', b'P', b'/', ..] | [b'<', b'!' | b'h' | b'H', ..] => "an HTTP server",
        [b'S', b'S', b'H', b'-', ..] => "an SSH server",
        [b'2', b'2', b'0', b' ' | b'-', ..] | [b'5', b'0' | b'5', b'0'..=b'9', b' ' | b'-', ..] => {
            "a mail or FTP server"
        }
        [b'*', b' ', ..] | [b'+', b'O', b'K', ..] => "a mail server",
        [b'-', b'E' | b'N' | b'D', ..] => "a Redis server",
        [b'A', b'M', b'Q', b'P', ..] => "an AMQP server",
        // The beginning of MySQL's first packet; a first byte that was taken for an answer is gone.
        [_, 0 | 1, 0, 0, 10, ..] | [0, 0, 0, 10, ..] => "a MySQL or MariaDB server",
        [_, 0 | 1, 0, 0, 0xff, ..] => "a MySQL or MariaDB server that refuses this client",
        [0x14..=0x17, 3, 0..=4, ..] => "a server that takes TLS only",
        _ => return None,
    };
    let start = answer.get(..SHOWN).unwrap_or(answer);
    let start = start.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    Some(HandshakeError::OtherService {
        what,
        answer: AnswerStart(String::from_utf8_lossy(start).into_owned()),
    })
}

/// How many bytes of the answer the error shows.
const SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn other_services_are_recognised_by_their_first_bytes() {
        for (answer, expected) in [
            (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "an SSH server: \"SSH-2.0-OpenSSH_9.2\""),
            (b"HTTP/1.1 400 Bad Request\r\nServer: x", "an HTTP server: \"HTTP/1.1 400 Bad Request\""),
            (b"220 mail ESMTP\r\n", "a mail or FTP server: \"220 mail ESMTP\""),
            (b"-ERR unknown command", "a Redis server: \"-ERR unknown command\""),
            (b"\x4a\0\0\0\x0a8.0.36\0", "a MySQL or MariaDB server: "),
            (b"\x15\x03\x03\0\x02\x02\x28", "a server that takes TLS only: "),
        ] {
            let text = not_postgres(answer).unwrap().to_string();
            assert!(text.starts_with("what answers is no PostgreSQL server, it looks like "), "{text}");
            assert!(text.contains(expected) && !text.contains('\0'), "{text}");
        }
    }

    #[test]
    fn answers_of_postgresql_are_none_of_them() {
        for answer in
            [&b"S"[..], b"N", b"E\0\0\0\x10", b"R\0\0\0\x08\0\0\0\0", b"S\x16\x03\x03", b"v\0\0\0\x10"]
        {
            assert_eq!(not_postgres(answer), None, "{answer:?}");
        }
    }
}

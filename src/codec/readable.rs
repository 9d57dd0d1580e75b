//! `Debug` of messages: text is shown as text, and no secret is shown at all.

use core::fmt;

/// Bytes as a quoted text, or as a byte string if they are not UTF-8.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match core::str::from_utf8(self.0) {
            Ok(text) => text.fmt(f),
            Err(_) => write!(f, "b\"{}\"", self.0.escape_ascii()),
        }
    }
}

/// The text of a value that may be NULL.
pub(super) fn nullable(value: Option<&[u8]>) -> Option<Text<'_>> {
    value.map(Text)
}

/// Bytes that are too many to be shown: only their number is.
pub(super) struct Size<'a>(pub(super) &'a [u8]);

impl fmt::Debug for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Shows a message of an unknown kind inside `CopyData`.
pub(super) fn unknown(kind: u8, body: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct("Unknown").field("kind", &char::from(kind)).field("body", &Size(body)).finish()
}

/// Implements `Debug` as a derive would, except that a field followed by `: how` is shown as `how(field)`.
macro_rules! readable {
    ($type:ident { $($field:ident $(: $how:path)?),* }) => {
        impl core::fmt::Debug for $type<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($type))
                    $(.field(stringify!($field), &($($how)?(self.$field))))*
                    .finish()
            }
        }
    };
}

pub(super) use readable;

#[cfg(test)]
mod tests {
    use crate::codec::{
        Authentication, AuthenticationResponse, BackendKeyData, BackendMessage, Bind, CancelRequest, Column,
        ColumnsBuf, DataRow, ErrorFields, Field, FieldsBuf, FormatsBuf, FrontendMessage, NamesBuf,
        NegotiateProtocolVersion, NotificationResponse, ParameterStatus, ParametersBuf, Parse,
        ProtocolVersion, ReplicationMessage, RowDescription, StandbyMessage, StartupMessage, StartupPacket,
        Target, ValuesBuf,
    };
    use crate::codec::{OidsBuf, test_support::list};
    use alloc::format;
    use alloc::string::String;
    use core::fmt::Debug;

    fn shown(messages: &[&dyn Debug]) -> String {
        messages.iter().map(|message| format!("{message:?}\n")).collect()
    }

    #[test]
    fn text_is_shown_as_text() {
        let values: ValuesBuf = list([Some(&b"it's"[..]), None, Some(b"\xff\0")]);
        let values = values.as_list();
        let columns: ColumnsBuf = list([Column { name: b"id", type_oid: 23, ..Column::default() }]);
        let fields: FieldsBuf = list([Field { code: b'M', value: b"no \"x\"" }]);
        let names: NamesBuf = list([&b"_pq_.x"[..]]);
        let parameters: ParametersBuf = list([(&b"user"[..], &b"mia"[..])]);
        let (formats, types) = (FormatsBuf::new(), OidsBuf::new());
        let (channel, payload) = (&b"c"[..], &b"p"[..]);
        let bind = Bind {
            portal: b"",
            statement: b"s",
            parameter_formats: formats.as_list(),
            parameters: values,
            result_formats: formats.as_list(),
        };
        let all = shown(&[
            &BackendMessage::CommandComplete { tag: b"SELECT 1" },
            &BackendMessage::OldStyleError { text: b"FATAL" },
            &BackendMessage::ParameterStatus(ParameterStatus { name: b"a", value: b"b" }),
            &BackendMessage::NotificationResponse(NotificationResponse { process_id: 1, channel, payload }),
            &BackendMessage::NoticeResponse(ErrorFields { fields: fields.as_list() }),
            &fields,
            &BackendMessage::DataRow(DataRow { values }),
            &BackendMessage::NegotiateProtocolVersion(NegotiateProtocolVersion {
                version: ProtocolVersion::V3_0,
                unknown_options: names.as_list(),
            }),
            &BackendMessage::NoData,
            &FrontendMessage::Query { query: b"SELECT 'a'" },
            &FrontendMessage::Close(Target::Portal(b"p")),
            &FrontendMessage::Bind(bind),
            &FrontendMessage::Parse(Parse { statement: b"s", query: b"q", parameter_types: types.as_list() }),
            &StartupPacket::Startup(StartupMessage {
                version: ProtocolVersion::V3_0,
                parameters: parameters.as_list(),
            }),
            &ReplicationMessage::Unknown { kind: b's', body: &[0; 9] },
            &StandbyMessage::Unknown { kind: b'p', body: &[0; 9] },
        ]);
        let expected = r#"CommandComplete { tag: "SELECT 1" }
OldStyleError { text: "FATAL" }
ParameterStatus { name: "a", value: "b" }
NotificationResponse { process_id: 1, channel: "c", payload: "p" }
NoticeResponse({'M': "no \"x\""})
[Field { code: 'M', value: "no \"x\"" }]
DataRow { values: [Some("it's"), None, Some(b"\xff\x00")] }
NegotiateProtocolVersion { version: ProtocolVersion(3.0), unknown_options: ["_pq_.x"] }
NoData
Query { query: "SELECT 'a'" }
Close(Portal("p"))
Bind { portal: "", statement: "s", parameter_formats: [], parameters: [Some("it's"), None, Some(b"\xff\x00")], result_formats: [] }
Parse { statement: "s", query: "q", parameter_types: [] }
Startup(StartupMessage { version: ProtocolVersion(3.0), parameters: [("user", "mia")] })
Unknown { kind: 's', body: 9 bytes }
Unknown { kind: 'p', body: 9 bytes }
"#;
        assert_eq!(all, expected);
        let row = BackendMessage::RowDescription(RowDescription { columns: columns.as_list() });
        assert!(format!("{row:?}").starts_with(r#"RowDescription { columns: [Column { name: "id", table"#));
    }

    #[test]
    fn no_secret_is_shown() {
        const SECRET: &[u8] = b"hunter22";
        let salt = *b"salt";
        let all = shown(&[
            &BackendMessage::Authentication(Authentication::Md5Password { salt }),
            &BackendMessage::Authentication(Authentication::GssContinue { data: SECRET }),
            &BackendMessage::Authentication(Authentication::SaslContinue { data: SECRET }),
            &BackendMessage::Authentication(Authentication::SaslFinal { data: SECRET }),
            &BackendMessage::BackendKeyData(BackendKeyData { process_id: 7, secret_key: SECRET }),
            &FrontendMessage::AuthenticationResponse { body: SECRET },
            &AuthenticationResponse::Password { password: SECRET },
            &AuthenticationResponse::SaslInitial { mechanism: b"SCRAM-SHA-256", data: Some(SECRET) },
            &AuthenticationResponse::Sasl { data: SECRET },
            &AuthenticationResponse::Gss { data: SECRET },
            &StartupPacket::Cancel(CancelRequest { process_id: 7, secret_key: SECRET }),
        ]);
        // The secret as text, as numbers, and with each byte as an escape.
        for secret in ["hunter22", "104, 117", "0x68", "\\x68", "salt", "115, 97"] {
            assert!(!all.contains(secret), "{all}");
        }
    }
}

//! An example of every message, for tests that find the places where a message was forgotten.
//!
//! The compiler refuses a list that lacks a variant. The tests here, and those of `arbitrary`, then name the
//! other places that do not know the new variant yet.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt::Debug;

use super::owned::sealed::Family;
use super::{
    Authentication, Backend, BackendKeyData, BackendMessage, BackendTag, BaseBackup, BaseBackupMessage, Bind,
    CancelRequest, Columns, CopyData, CopyResponse, DataRow, ErrorFields, Execute, Format, Formats, Frontend,
    FrontendMessage, FunctionCall, FunctionCallResponse, HotStandbyFeedback, Limits, List, Names,
    NegotiateProtocolVersion, NotificationResponse, Oids, ParameterDescription, ParameterStatus, Parameters,
    Parse, PrimaryKeepalive, ProtocolVersion, Replication, ReplicationMessage, RowDescription, Standby,
    StandbyMessage, StandbyStatusUpdate, Startup, StartupMessage, StartupPacket, Target, TransactionStatus,
    Values, XLogData,
};
use crate::types::{Lsn, PgTimestamp};

macro_rules! every {
    ($name:ident: $message:ident { $($variant:ident => $example:expr,)* }) => {
        pub(crate) fn $name() -> Vec<$message<'static>> {
            fn _has_every_variant(message: &$message<'_>) {
                match message {
                    $($message::$variant { .. } => {})*
                }
            }
            let examples = Vec::from([$($example),*]);
            let mut rest = examples.iter();
            $(assert!(matches!(rest.next(), Some($message::$variant { .. })), stringify!($variant));)*
            examples
        }
    };
}

const COPY: CopyResponse<'static> = CopyResponse { format: Format::Text, columns: Formats::EMPTY };
const FIELDS: ErrorFields<'static> = ErrorFields { fields: List::EMPTY };
const TIME: PgTimestamp = PgTimestamp::from_micros(0);

every! { backend: BackendMessage {
    Authentication => BackendMessage::Authentication(Authentication::Ok),
    BackendKeyData => BackendMessage::BackendKeyData(BackendKeyData { process_id: 1, secret_key: b"1234" }),
    BindComplete => BackendMessage::BindComplete,
    CloseComplete => BackendMessage::CloseComplete,
    CommandComplete => BackendMessage::CommandComplete { tag: b"SELECT 1" },
    CopyBothResponse => BackendMessage::CopyBothResponse(COPY),
    CopyData => BackendMessage::CopyData(CopyData { data: b"d" }),
    CopyDone => BackendMessage::CopyDone,
    CopyInResponse => BackendMessage::CopyInResponse(COPY),
    CopyOutResponse => BackendMessage::CopyOutResponse(COPY),
    DataRow => BackendMessage::DataRow(DataRow { values: Values::EMPTY }),
    EmptyQueryResponse => BackendMessage::EmptyQueryResponse,
    ErrorResponse => BackendMessage::ErrorResponse(FIELDS),
    OldStyleError => BackendMessage::OldStyleError { text: b"no" },
    FunctionCallResponse => BackendMessage::FunctionCallResponse(FunctionCallResponse { value: None }),
    NegotiateProtocolVersion => BackendMessage::NegotiateProtocolVersion(NegotiateProtocolVersion {
        version: ProtocolVersion::V3_0,
        unknown_options: Names::EMPTY,
    }),
    NoData => BackendMessage::NoData,
    NoticeResponse => BackendMessage::NoticeResponse(FIELDS),
    NotificationResponse => BackendMessage::NotificationResponse(NotificationResponse {
        process_id: 1,
        channel: b"c",
        payload: b"",
    }),
    ParameterDescription => {
        BackendMessage::ParameterDescription(ParameterDescription { types: Oids::EMPTY })
    },
    ParameterStatus => BackendMessage::ParameterStatus(ParameterStatus { name: b"n", value: b"v" }),
    ParseComplete => BackendMessage::ParseComplete,
    PortalSuspended => BackendMessage::PortalSuspended,
    ReadyForQuery => BackendMessage::ReadyForQuery(TransactionStatus::Idle),
    RowDescription => BackendMessage::RowDescription(RowDescription { columns: Columns::EMPTY }),
} }

every! { authentication: Authentication {
    Ok => Authentication::Ok,
    KerberosV4 => Authentication::KerberosV4,
    KerberosV5 => Authentication::KerberosV5,
    CleartextPassword => Authentication::CleartextPassword,
    CryptPassword => Authentication::CryptPassword { salt: *b"12" },
    Md5Password => Authentication::Md5Password { salt: *b"1234" },
    ScmCredential => Authentication::ScmCredential,
    Gss => Authentication::Gss,
    GssContinue => Authentication::GssContinue { data: b"d" },
    Sspi => Authentication::Sspi,
    Sasl => Authentication::Sasl { mechanisms: Names::EMPTY },
    SaslContinue => Authentication::SaslContinue { data: b"d" },
    SaslFinal => Authentication::SaslFinal { data: b"d" },
} }

every! { frontend: FrontendMessage {
    AuthenticationResponse => FrontendMessage::AuthenticationResponse { body: b"b" },
    Bind => FrontendMessage::Bind(Bind {
        portal: b"",
        statement: b"",
        parameter_formats: Formats::EMPTY,
        parameters: Values::EMPTY,
        result_formats: Formats::EMPTY,
    }),
    Close => FrontendMessage::Close(Target::Portal(b"")),
    CopyData => FrontendMessage::CopyData(CopyData { data: b"d" }),
    CopyDone => FrontendMessage::CopyDone,
    CopyFail => FrontendMessage::CopyFail { message: b"m" },
    Describe => FrontendMessage::Describe(Target::Statement(b"s")),
    Execute => FrontendMessage::Execute(Execute { portal: b"", max_rows: 0 }),
    Flush => FrontendMessage::Flush,
    FunctionCall => FrontendMessage::FunctionCall(FunctionCall {
        function: 1,
        argument_formats: Formats::EMPTY,
        arguments: Values::EMPTY,
        result_format: Format::Text,
    }),
    Parse => FrontendMessage::Parse(Parse { statement: b"", query: b"", parameter_types: Oids::EMPTY }),
    Query => FrontendMessage::Query { query: b"q" },
    Sync => FrontendMessage::Sync,
    Terminate => FrontendMessage::Terminate,
} }

every! { startup: StartupPacket {
    Startup => StartupPacket::Startup(StartupMessage {
        version: ProtocolVersion::V3_0,
        parameters: Parameters::EMPTY,
    }),
    Cancel => StartupPacket::Cancel(CancelRequest { process_id: 1, secret_key: b"1234" }),
    SslRequest => StartupPacket::SslRequest,
    GssEncRequest => StartupPacket::GssEncRequest,
    Unsupported => StartupPacket::Unsupported { version: ProtocolVersion::new(2, 0), body: b"" },
} }

every! { replication: ReplicationMessage {
    XLogData => ReplicationMessage::XLogData(XLogData {
        wal_start: Lsn::INVALID,
        wal_end: Lsn::INVALID,
        sent_at: TIME,
        data: b"",
    }),
    PrimaryKeepalive => ReplicationMessage::PrimaryKeepalive(PrimaryKeepalive {
        wal_end: Lsn::INVALID,
        sent_at: TIME,
        reply_requested: false,
    }),
    Unknown => ReplicationMessage::Unknown { kind: b'?', body: b"" },
} }

every! { standby: StandbyMessage {
    StatusUpdate => StandbyMessage::StatusUpdate(StandbyStatusUpdate {
        written: Lsn::INVALID,
        flushed: Lsn::INVALID,
        applied: Lsn::INVALID,
        sent_at: TIME,
        reply_requested: false,
    }),
    HotStandbyFeedback => StandbyMessage::HotStandbyFeedback(HotStandbyFeedback {
        sent_at: TIME,
        xmin: 0,
        xmin_epoch: 0,
        catalog_xmin: 0,
        catalog_xmin_epoch: 0,
    }),
    Unknown => StandbyMessage::Unknown { kind: b'?', body: b"" },
} }

every! { base_backup: BaseBackupMessage {
    NewArchive => BaseBackupMessage::NewArchive { name: b"base.tar", tablespace_path: b"" },
    Manifest => BaseBackupMessage::Manifest,
    Data => BaseBackupMessage::Data(b"d"),
    Progress => BaseBackupMessage::Progress(1),
    Unknown => BaseBackupMessage::Unknown { kind: b'?', body: b"" },
} }

/// The messages that begin with a type and a length.
pub(crate) fn framed_backend() -> Vec<BackendMessage<'static>> {
    let mut messages = backend();
    messages.retain(|message| !matches!(message, BackendMessage::OldStyleError { .. }));
    messages
}

/// The first word of each message's `Debug`, which differs between the variants of a family.
pub(crate) fn debug_words<M: Debug>(messages: impl IntoIterator<Item = M>) -> BTreeSet<String> {
    let word = |message: M| {
        let shown = alloc::format!("{message:?}");
        shown.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_string()
    };
    messages.into_iter().map(word).collect()
}

/// Checks that every message is read as it was written, and that each has a different word.
fn check_read_as_written<F: Family>(messages: &[F::Message<'static>]) {
    for message in messages {
        let mut bytes = Vec::new();
        F::encode(message, &mut bytes).unwrap();
        let read = F::parse(&bytes).map(|read| alloc::format!("{read:?}"));
        assert_eq!(read, Ok(alloc::format!("{message:?}")));
    }
    assert_eq!(debug_words(messages).len(), messages.len());
}

#[test]
fn every_message_is_read_as_it_was_written() {
    check_read_as_written::<Backend>(&framed_backend());
    check_read_as_written::<Frontend>(&frontend());
    check_read_as_written::<Startup>(&startup());
    check_read_as_written::<Replication>(&replication());
    check_read_as_written::<Standby>(&standby());
    check_read_as_written::<BaseBackup>(&base_backup());
    let requests: Vec<_> = authentication().into_iter().map(BackendMessage::Authentication).collect();
    for request in &requests {
        check_read_as_written::<Backend>(core::slice::from_ref(request));
    }
}

#[test]
fn every_type_has_its_name_and_a_limit() {
    let mut bytes = Vec::new();
    for message in framed_backend() {
        bytes.clear();
        message.encode(&mut bytes).unwrap();
        assert_eq!(BackendTag::name_of(bytes[0]), Ok(message.name()));
        for ready in [false, true] {
            assert!(Limits::DEFAULT.backend(bytes[0], ready).is_some(), "{}", message.name());
        }
    }
    for message in frontend() {
        bytes.clear();
        message.encode(&mut bytes).unwrap();
        assert_eq!(FrontendMessage::name_of(bytes[0]), Ok(message.name()));
        for ready in [false, true] {
            assert!(Limits::DEFAULT.frontend(bytes[0], ready).is_some(), "{}", message.name());
        }
    }
}

//! Valid messages made from a fuzzer's input: every type, both directions.
//!
//! The fuzzer itself makes invalid messages, by changing the bytes of these.

use alloc::vec::Vec;

use ::arbitrary::{Error, Result, Unstructured};

use super::{
    Authentication, AuthenticationResponse, BackendKeyData, BackendMessage, BaseBackupMessage, Bind,
    CancelRequest, Column, ColumnsBuf, CopyData, CopyResponse, DataRow, EncodeError, ErrorFields, Execute,
    Field, FieldsBuf, Format, FormatsBuf, FrontendMessage, FunctionCall, FunctionCallResponse,
    HotStandbyFeedback, Item, ListBuf, NamesBuf, NegotiateProtocolVersion, NotificationResponse, OidsBuf,
    ParameterDescription, ParameterStatus, ParametersBuf, Parse, PrimaryKeepalive, ProtocolVersion,
    ReplicationMessage, RowDescription, StandbyMessage, StandbyStatusUpdate, StartupMessage, StartupPacket,
    Target, TransactionStatus, ValuesBuf, XLogData,
};
use crate::types::{Lsn, PgTimestamp};

/// The maximum number of items in a list: enough for any loop, few enough for speed.
const MAX_ITEMS: u32 = 16;

pub(crate) fn backend(u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    use BackendMessage as M;
    let encoded = match u.int_in_range(0..=17)? {
        0 => {
            let empty = [
                M::BindComplete,
                M::CloseComplete,
                M::CopyDone,
                M::EmptyQueryResponse,
                M::NoData,
                M::ParseComplete,
                M::PortalSuspended,
                M::ReadyForQuery(TransactionStatus::Idle),
                M::ReadyForQuery(TransactionStatus::InTransaction),
                M::ReadyForQuery(TransactionStatus::Failed),
            ];
            u.choose(&empty)?.encode(out)
        }
        1 => M::Authentication(authentication(u)?).encode(out),
        2 => {
            let mechanisms = names(u)?;
            M::Authentication(Authentication::Sasl { mechanisms: mechanisms.as_list() }).encode(out)
        }
        3 => M::BackendKeyData(BackendKeyData { process_id: u.arbitrary()?, secret_key: &key(u, 4)? })
            .encode(out),
        4 => M::CommandComplete { tag: text(u)? }.encode(out),
        5 => M::CopyBothResponse(CopyResponse { format: format(u)?, columns: formats(u)?.as_list() })
            .encode(out),
        6 => {
            M::CopyInResponse(CopyResponse { format: format(u)?, columns: formats(u)?.as_list() }).encode(out)
        }
        7 => M::CopyOutResponse(CopyResponse { format: format(u)?, columns: formats(u)?.as_list() })
            .encode(out),
        8 => M::CopyData(CopyData { data: u.arbitrary()? }).encode(out),
        9 => M::DataRow(DataRow { values: values(u)?.as_list() }).encode(out),
        10 => M::ErrorResponse(ErrorFields { fields: fields(u)?.as_list() }).encode(out),
        11 => M::NoticeResponse(ErrorFields { fields: fields(u)?.as_list() }).encode(out),
        12 => M::FunctionCallResponse(FunctionCallResponse { value: u.arbitrary()? }).encode(out),
        13 => M::NegotiateProtocolVersion(NegotiateProtocolVersion {
            version: ProtocolVersion::from_code(u.arbitrary()?),
            unknown_options: names(u)?.as_list(),
        })
        .encode(out),
        14 => M::NotificationResponse(NotificationResponse {
            process_id: u.arbitrary()?,
            channel: text(u)?,
            payload: text(u)?,
        })
        .encode(out),
        15 => M::ParameterDescription(ParameterDescription { types: oids(u)?.as_list() }).encode(out),
        16 => M::ParameterStatus(ParameterStatus { name: text(u)?, value: text(u)? }).encode(out),
        _ => M::RowDescription(RowDescription { columns: columns(u)?.as_list() }).encode(out),
    };
    encoded.map_err(not_encodable)
}

fn authentication<'u>(u: &mut Unstructured<'u>) -> Result<Authentication<'u>> {
    Ok(match u.int_in_range(0..=11)? {
        0 => Authentication::Ok,
        1 => Authentication::KerberosV4,
        2 => Authentication::KerberosV5,
        3 => Authentication::CleartextPassword,
        4 => Authentication::CryptPassword { salt: u.arbitrary()? },
        5 => Authentication::Md5Password { salt: u.arbitrary()? },
        6 => Authentication::ScmCredential,
        7 => Authentication::Gss,
        8 => Authentication::GssContinue { data: u.arbitrary()? },
        9 => Authentication::Sspi,
        10 => Authentication::SaslContinue { data: u.arbitrary()? },
        _ => Authentication::SaslFinal { data: u.arbitrary()? },
    })
}

pub(crate) fn frontend(u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    use FrontendMessage as M;
    let encoded = match u.int_in_range(0..=12)? {
        0 => u.choose(&[M::CopyDone, M::Flush, M::Sync, M::Terminate])?.encode(out),
        1 => AuthenticationResponse::Password { password: text(u)? }.encode(out),
        2 => AuthenticationResponse::SaslInitial { mechanism: text(u)?, data: u.arbitrary()? }.encode(out),
        3 => AuthenticationResponse::Sasl { data: u.arbitrary()? }.encode(out),
        4 => M::Bind(Bind {
            portal: text(u)?,
            statement: text(u)?,
            parameter_formats: formats(u)?.as_list(),
            parameters: values(u)?.as_list(),
            result_formats: formats(u)?.as_list(),
        })
        .encode(out),
        5 => M::Close(target(u)?).encode(out),
        6 => M::CopyData(CopyData { data: u.arbitrary()? }).encode(out),
        7 => M::CopyFail { message: text(u)? }.encode(out),
        8 => M::Describe(target(u)?).encode(out),
        9 => M::Execute(Execute { portal: text(u)?, max_rows: u.arbitrary()? }).encode(out),
        10 => M::FunctionCall(FunctionCall {
            function: u.arbitrary()?,
            argument_formats: formats(u)?.as_list(),
            arguments: values(u)?.as_list(),
            result_format: format(u)?,
        })
        .encode(out),
        11 => M::Parse(Parse { statement: text(u)?, query: text(u)?, parameter_types: oids(u)?.as_list() })
            .encode(out),
        _ => M::Query { query: text(u)? }.encode(out),
    };
    encoded.map_err(not_encodable)
}

fn target<'u>(u: &mut Unstructured<'u>) -> Result<Target<'u>> {
    let name = text(u)?;
    Ok(if u.arbitrary()? { Target::Statement(name) } else { Target::Portal(name) })
}

pub(crate) fn startup(u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let encoded = match u.int_in_range(0..=4)? {
        0 => StartupPacket::SslRequest.encode(out),
        1 => StartupPacket::GssEncRequest.encode(out),
        2 => StartupPacket::Cancel(CancelRequest { process_id: u.arbitrary()?, secret_key: &key(u, 1)? })
            .encode(out),
        3 => StartupPacket::Unsupported {
            // Below the major versions that stand for other requests.
            version: ProtocolVersion::new(u.int_in_range(0..=2)?, u.arbitrary()?),
            body: u.arbitrary()?,
        }
        .encode(out),
        _ => {
            let version = ProtocolVersion::new(3, u.arbitrary()?);
            let parameters: ParametersBuf = list(u, |u| Ok((name(u)?, text(u)?)))?;
            StartupPacket::Startup(StartupMessage { version, parameters: parameters.as_list() }).encode(out)
        }
    };
    encoded.map_err(not_encodable)
}

pub(crate) fn replication(u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let message = match u.int_in_range(0..=2)? {
        0 => ReplicationMessage::XLogData(XLogData {
            wal_start: lsn(u)?,
            wal_end: lsn(u)?,
            sent_at: timestamp(u)?,
            data: u.arbitrary()?,
        }),
        1 => ReplicationMessage::PrimaryKeepalive(PrimaryKeepalive {
            wal_end: lsn(u)?,
            sent_at: timestamp(u)?,
            reply_requested: u.arbitrary()?,
        }),
        _ => ReplicationMessage::Unknown { kind: kind_outside(b"wk", u)?, body: u.arbitrary()? },
    };
    message.encode(out).map_err(not_encodable)
}

pub(crate) fn standby(u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let message = match u.int_in_range(0..=2)? {
        0 => StandbyMessage::StatusUpdate(StandbyStatusUpdate {
            written: lsn(u)?,
            flushed: lsn(u)?,
            applied: lsn(u)?,
            sent_at: timestamp(u)?,
            reply_requested: u.arbitrary()?,
        }),
        1 => StandbyMessage::HotStandbyFeedback(HotStandbyFeedback {
            sent_at: timestamp(u)?,
            xmin: u.arbitrary()?,
            xmin_epoch: u.arbitrary()?,
            catalog_xmin: u.arbitrary()?,
            catalog_xmin_epoch: u.arbitrary()?,
        }),
        _ => StandbyMessage::Unknown { kind: kind_outside(b"rh", u)?, body: u.arbitrary()? },
    };
    message.encode(out).map_err(not_encodable)
}

pub(crate) fn base_backup(u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let message = match u.int_in_range(0..=4)? {
        0 => BaseBackupMessage::NewArchive { name: text(u)?, tablespace_path: text(u)? },
        1 => BaseBackupMessage::Manifest,
        2 => BaseBackupMessage::Data(u.arbitrary()?),
        3 => BaseBackupMessage::Progress(u.arbitrary()?),
        _ => BaseBackupMessage::Unknown { kind: kind_outside(b"nmdp", u)?, body: u.arbitrary()? },
    };
    message.encode(out).map_err(not_encodable)
}

/// The generators make only messages that can be encoded, so this never happens. If it does, the error blames
/// the input.
fn not_encodable(_: EncodeError) -> Error {
    Error::IncorrectFormat
}

fn list<'u, T: Item>(
    u: &mut Unstructured<'u>,
    mut item: impl FnMut(&mut Unstructured<'u>) -> Result<T::Item<'u>>,
) -> Result<ListBuf<T>> {
    let mut list = ListBuf::new();
    for _ in 0..u.int_in_range(0..=MAX_ITEMS)? {
        let item = item(u)?;
        list.push(item).map_err(not_encodable)?;
    }
    Ok(list)
}

fn names(u: &mut Unstructured<'_>) -> Result<NamesBuf> {
    list(u, name)
}

fn values(u: &mut Unstructured<'_>) -> Result<ValuesBuf> {
    list(u, Unstructured::arbitrary)
}

fn formats(u: &mut Unstructured<'_>) -> Result<FormatsBuf> {
    list(u, format)
}

fn oids(u: &mut Unstructured<'_>) -> Result<OidsBuf> {
    list(u, Unstructured::arbitrary)
}

fn fields(u: &mut Unstructured<'_>) -> Result<FieldsBuf> {
    list(u, |u| Ok(Field { code: u.int_in_range(1..=u8::MAX)?, value: text(u)? }))
}

fn columns(u: &mut Unstructured<'_>) -> Result<ColumnsBuf> {
    list(u, |u| {
        Ok(Column {
            name: text(u)?,
            table_oid: u.arbitrary()?,
            attribute: u.arbitrary()?,
            type_oid: u.arbitrary()?,
            type_len: u.arbitrary()?,
            type_modifier: u.arbitrary()?,
            format: format(u)?,
        })
    })
}

fn format(u: &mut Unstructured<'_>) -> Result<Format> {
    Ok(if u.arbitrary()? { Format::Binary } else { Format::Text })
}

/// Bytes without a NUL.
fn text<'u>(u: &mut Unstructured<'u>) -> Result<&'u [u8]> {
    let bytes: &[u8] = u.arbitrary()?;
    Ok(bytes.split(|&b| b == 0).next().unwrap_or_default())
}

/// At least one byte, without a NUL.
fn name<'u>(u: &mut Unstructured<'u>) -> Result<&'u [u8]> {
    let name = text(u)?;
    Ok(if name.is_empty() { b"name" } else { name })
}

/// A cancel key of `least` to 256 bytes.
fn key(u: &mut Unstructured<'_>, least: usize) -> Result<Vec<u8>> {
    let mut key = alloc::vec![0; u.int_in_range(least..=BackendKeyData::MAX_KEY_LEN)?];
    u.fill_buffer(&mut key)?;
    Ok(key)
}

/// A first byte that is not among those of the `known` messages.
fn kind_outside(known: &[u8], u: &mut Unstructured<'_>) -> Result<u8> {
    let kind = u.arbitrary()?;
    Ok(if known.contains(&kind) { b'?' } else { kind })
}

fn lsn(u: &mut Unstructured<'_>) -> Result<Lsn> {
    u.arbitrary().map(Lsn::new)
}

fn timestamp(u: &mut Unstructured<'_>) -> Result<PgTimestamp> {
    u.arbitrary().map(PgTimestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{
        Backend, BaseBackup, Family, Frontend, OwnedMessage, Replication, Standby, Startup, every_message,
    };
    use ::arbitrary::Arbitrary as _;
    use every_message::debug_words;

    /// Makes many messages and checks each.
    fn made<F: Family>() -> Vec<OwnedMessage<F>> {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut input = [0; 512];
        let mut messages = Vec::new();
        for _ in 0..1_500 {
            for byte in &mut input {
                // xorshift64
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                *byte = seed.to_be_bytes()[0];
            }
            let owned = OwnedMessage::<F>::arbitrary(&mut Unstructured::new(&input)).unwrap();
            assert_eq!(OwnedMessage::new(&owned.parse().unwrap()).unwrap(), owned);
            messages.push(owned);
        }
        messages
    }

    #[test]
    fn every_message_is_generated_and_valid() {
        let backend = made::<Backend>();
        assert_eq!(debug_words(&backend), debug_words(every_message::framed_backend()));
        assert_eq!(debug_words(made::<Frontend>()), debug_words(every_message::frontend()));
        assert_eq!(debug_words(made::<Startup>()), debug_words(every_message::startup()));
        assert_eq!(debug_words(made::<Replication>()), debug_words(every_message::replication()));
        assert_eq!(debug_words(made::<Standby>()), debug_words(every_message::standby()));
        assert_eq!(debug_words(made::<BaseBackup>()), debug_words(every_message::base_backup()));
        let requests = backend.iter().filter_map(|message| match message.parse() {
            Ok(BackendMessage::Authentication(request)) => Some(request),
            _ => None,
        });
        assert_eq!(debug_words(requests), debug_words(every_message::authentication()));
    }

    #[test]
    fn an_empty_input_makes_a_message() {
        let owned = OwnedMessage::<Backend>::arbitrary(&mut Unstructured::new(&[])).unwrap();
        assert!(owned.parse().is_ok());
    }
}

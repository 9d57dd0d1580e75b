//! Why a server refused a session, and what to do about it.
//!
//! The same SQLSTATE has many causes. A server's texts are in the language of its `lc_messages`, so the cause is read
//! from what is never translated: the SQLSTATE and the routine that reported the error.

use super::error::{ConnectAttempt, ConnectFailure};
use crate::codec::ServerError;
use crate::session::HandshakeError;
use crate::types::{Advice, SqlState};

/// The advice about an attempt that a server, or a pooler before it, refused.
pub(super) fn advice(attempt: &ConnectAttempt) -> Option<Advice> {
    let ConnectFailure::Handshake(HandshakeError::Server(said)) = &attempt.failure else { return None };
    let (client, replication) = (attempt.client, attempt.replication);
    // A pooler sends no routine.
    let routine = said.routine.as_deref().unwrap_or_default();
    if let Some(parameter) = refused_parameter(said) {
        return Some(match parameter {
            "replication" => Advice::BypassPooler,
            _ => Advice::LeaveOutParameter,
        });
    }
    Some(match (said.sqlstate, routine) {
        (SqlState::INVALID_PASSWORD, _) => Advice::CheckPassword,
        (SqlState::INVALID_AUTHORIZATION, "ClientAuthentication") => {
            Advice::AddHbaLine { client, replication }
        }
        (SqlState::INVALID_AUTHORIZATION, "auth_failed") => Advice::MapUser { client, replication },
        (SqlState::INVALID_AUTHORIZATION, "InitializeSessionUserId") => {
            Advice::LetRoleLogIn { exists: role_exists(said), replication }
        }
        (SqlState::INVALID_AUTHORIZATION, _) => Advice::AllowLogin,
        (SqlState::UNDEFINED_DATABASE, _) => Advice::NameDatabase,
        (SqlState::INSUFFICIENT_PRIVILEGE, "CheckMyDatabase") => Advice::GrantConnect,
        (SqlState::INSUFFICIENT_PRIVILEGE, "InitPostgres") => Advice::AllowReplication,
        (SqlState::INSUFFICIENT_PRIVILEGE, _) => Advice::GrantPrivilege,
        (SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "CheckMyDatabase") => Advice::AllowConnections,
        (SqlState::TOO_MANY_CONNECTIONS, "InitializeSessionUserId") => Advice::RaiseRoleLimit,
        (SqlState::TOO_MANY_CONNECTIONS, "CheckMyDatabase") => Advice::RaiseDatabaseLimit,
        // From 12 on WAL senders have slots of their own; before, there is a routine for their limit.
        (SqlState::TOO_MANY_CONNECTIONS, "InitProcess" | "InitWalSenderSlot") if replication => {
            Advice::FreeWalSender
        }
        (SqlState::TOO_MANY_CONNECTIONS, _) => Advice::FreeConnection,
        _ => return None,
    })
}

/// The startup parameter that a pooler refuses: `replication`, or `search_path` as part of `options`. PgBouncer speaks
/// English only, and has two forms of the text.
fn refused_parameter(said: &ServerError) -> Option<&str> {
    let (_, parameter) = said.message.split_once("unsupported startup parameter")?;
    let parameter = parameter.strip_prefix(" in options").unwrap_or(parameter);
    Some(parameter.trim_start_matches([':', ' ']))
}

/// Whether the role of `InitializeSessionUserId`'s refusal exists. That it does not, and that it may not log in, have
/// the same SQLSTATE and routine; only the texts differ, and they are known in English alone.
fn role_exists(said: &ServerError) -> Option<bool> {
    if said.message.ends_with("\" is not permitted to log in") {
        return Some(true);
    }
    said.message.ends_with("\" does not exist").then_some(false)
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;
    use std::format;
    use std::string::String;

    use super::*;
    use crate::codec::BackendMessage;

    const CLIENT: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);

    /// The advice about a refusal with this SQLSTATE, routine and text.
    fn advice_on(state: &str, routine: &str, message: &str, replication: bool) -> Option<Advice> {
        let routine = if routine.is_empty() { String::new() } else { format!("R{routine}\0") };
        let fields = format!("SSCHWERWIEGEND\0VFATAL\0C{state}\0M{message}\0{routine}\0");
        let Ok(BackendMessage::ErrorResponse(fields)) = BackendMessage::parse(b'E', fields.as_bytes()) else {
            panic!("{fields:?}")
        };
        let failure = ConnectFailure::Handshake(HandshakeError::Server(fields.to_server_error().into()));
        let (server, note, client) = (String::new(), None, Some(CLIENT));
        advice(&ConnectAttempt { server, failure, note, client, replication })
    }

    #[test]
    fn a_refusal_is_understood_in_any_language() {
        let client = Some(CLIENT);
        for replication in [false, true] {
            for (state, routine, expected) in [
                ("28P01", "auth_failed", Advice::CheckPassword),
                ("28P01", "", Advice::CheckPassword),
                ("28000", "ClientAuthentication", Advice::AddHbaLine { client, replication }),
                ("28000", "auth_failed", Advice::MapUser { client, replication }),
                ("28000", "InitializeSessionUserId", Advice::LetRoleLogIn { exists: None, replication }),
                ("28000", "", Advice::AllowLogin),
                ("3D000", "InitPostgres", Advice::NameDatabase),
                ("42501", "CheckMyDatabase", Advice::GrantConnect),
                ("55000", "CheckMyDatabase", Advice::AllowConnections),
                ("53300", "InitializeSessionUserId", Advice::RaiseRoleLimit),
                ("53300", "CheckMyDatabase", Advice::RaiseDatabaseLimit),
                ("53300", "InitPostgres", Advice::FreeConnection),
                ("53300", "ProcessStartupPacket", Advice::FreeConnection),
                ("53300", "", Advice::FreeConnection),
            ] {
                let german = "für den Host »1.2.3.4« steht kein Eintrag in pg_hba.conf";
                assert_eq!(
                    advice_on(state, routine, german, replication),
                    Some(expected),
                    "{state} {routine}"
                );
            }
        }
        assert_eq!(advice_on("57P03", "ProcessStartupPacket", "startet", false), None);
        let senders = advice_on("53300", "InitProcess", "zu viele", true);
        assert_eq!(senders, Some(Advice::FreeWalSender));
        assert_eq!(advice_on("53300", "InitProcess", "zu viele", false), Some(Advice::FreeConnection));
        assert_eq!(advice_on("42501", "InitPostgres", "nicht erlaubt", true), Some(Advice::AllowReplication));
    }

    #[test]
    fn a_poolers_refusals_are_understood() {
        for (message, expected) in [
            ("unsupported startup parameter: replication", Advice::BypassPooler),
            ("unsupported startup parameter: options", Advice::LeaveOutParameter),
            ("unsupported startup parameter in options: work_mem", Advice::LeaveOutParameter),
            ("unsupported startup parameter: geqo", Advice::LeaveOutParameter),
        ] {
            assert_eq!(advice_on("08P01", "", message, true), Some(expected), "{message}");
        }
    }

    #[test]
    fn a_role_exists_or_does_not_only_where_the_server_says_so() {
        for (message, exists) in [
            ("role \"x\" does not exist", Some(false)),
            ("role \"x\" is not permitted to log in", Some(true)),
            ("role \"\" does not exist\" is not permitted to log in", Some(true)),
            ("Rolle »x« existiert nicht", None),
            ("Rolle »x« hat keine Berechtigung zum Einloggen", None),
        ] {
            let advice = advice_on("28000", "InitializeSessionUserId", message, false);
            assert_eq!(advice, Some(Advice::LetRoleLogIn { exists, replication: false }), "{message}");
        }
    }
}

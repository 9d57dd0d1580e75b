//! Hints that can be pasted. Statements end with a semicolon; lines for a file and instructions do not.

use super::super::failure::Failure;
use tapster::client;
use tapster::postgres::Readiness;
use tapster::types::SqlState;

pub(super) const RELOAD: &str = "SELECT pg_reload_conf();";
/// The method of `pg_hba.conf` for passwords stored as SCRAM verifiers.
const SCRAM: &str = "scram-sha-256";
pub(super) const RESTART: &str = "then restart the server";

/// What pg_hba.conf or the role lacks for an ordinary connection.
pub(super) fn connection(failure: &Failure, message: &str, user: &str, database: &str) -> Vec<String> {
    let hint = match failure.sqlstate() {
        Some(SqlState::INVALID_AUTHORIZATION) if message.contains("pg_hba.conf") => {
            let client = client_in(message);
            let line = hba_line(&quoted(database), &quoted(user), client, SCRAM);
            return Vec::from([line, RELOAD.into()]);
        }
        Some(SqlState::INVALID_AUTHORIZATION) => format!("CREATE ROLE {} LOGIN;", quoted(user)),
        Some(SqlState::INVALID_PASSWORD) => {
            let files = "give the right password in ~/.pgpass or PGPASSWORD";
            let method =
                "one that is stored as MD5 (before 14: unless told) needs the method md5 in pg_hba.conf";
            return Vec::from([files, method].map(String::from));
        }
        Some(SqlState::TOO_MANY_CONNECTIONS) => "raise max_connections, or end other sessions".into(),
        _ => "\"tapster conninfo\" shows which host and port are used, and why".into(),
    };
    Vec::from([hint])
}

/// The address in a refusal of the server, if its language is English.
fn client_in(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("host \"")?;
    let (host, _) = rest.split_once('"')?;
    Some(host).filter(|host| *host != "[local]")
}

/// The method of `pg_hba.conf` that takes passwords as this server stores them. Before 14 that is MD5 unless told;
/// the method `md5` takes SCRAM as well.
pub(super) fn password_method(readiness: &Readiness) -> &'static str {
    if readiness.password_encryption == SCRAM { SCRAM } else { "md5" }
}

/// The line that lets the role in from this address, or over the Unix socket. The first line that fits counts.
pub(super) fn hba_line(database: &str, role: &str, client: Option<&str>, method: &str) -> String {
    match client {
        None => format!("at the top of pg_hba.conf: local {database} {role} {method}"),
        Some(address) => {
            let bits = if address.contains(':') { 128 } else { 32 };
            format!("at the top of pg_hba.conf: host {database} {role} {address}/{bits} {method}")
        }
    }
}

/// A name quoted for SQL and `pg_hba.conf`, where the server could not be asked.
fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    // Words that mean something else in pg_hba.conf.
    let is_word = ["all", "sameuser", "samerole", "samegroup", "replication"].contains(&name);
    if is_plain && !is_word { name.into() } else { client::quote_ident(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_pg_hba_is_that_of_the_address_the_server_sees() {
        for (host, expected) in [
            ("10.0.0.7", "host replication \"My role\" 10.0.0.7/32 scram-sha-256"),
            ("fe80::1", "host replication \"My role\" fe80::1/128 scram-sha-256"),
            ("[local]", "local replication \"My role\" scram-sha-256"),
        ] {
            let message = format!(
                "no pg_hba.conf entry for replication connection from host \"{host}\", user \"My role\""
            );
            let line = hba_line("replication", "\"My role\"", client_in(&message), SCRAM);
            assert_eq!(line, format!("at the top of pg_hba.conf: {expected}"));
        }
    }

    #[test]
    fn only_plain_names_are_not_quoted() {
        assert_eq!(
            ["barman", "_x1", "Barman", "a b", "1x", "all"].map(quoted),
            ["barman", "_x1", "\"Barman\"", "\"a b\"", "\"1x\"", "\"all\""]
        );
    }
}

//! Texts that can be pasted.

use super::super::failure::Failure;
use tapster::client;
use tapster::types::SqlState;

/// What pg_hba.conf or the role lacks for an ordinary connection.
pub(super) fn connection(failure: &Failure, message: &str, user: &str) -> String {
    match failure.sqlstate() {
        Some(SqlState::INVALID_AUTHORIZATION) => hba(message, "all", &quoted(user))
            .unwrap_or_else(|| format!("CREATE ROLE {} LOGIN;", quoted(user))),
        Some(SqlState::INVALID_PASSWORD) => "give the right password in ~/.pgpass or PGPASSWORD".into(),
        Some(SqlState::TOO_MANY_CONNECTIONS) => "raise max_connections, or end other sessions".into(),
        _ => "\"tapster conninfo\" shows which host and port are used, and why".into(),
    }
}

/// The line that pg_hba.conf lacks, if that is what the server says, for the address that it sees.
pub(super) fn hba(message: &str, database: &str, role: &str) -> Option<String> {
    let (_, rest) = message.split_once("no pg_hba.conf entry")?;
    let address = rest.split_once("host \"").and_then(|(_, rest)| rest.split_once('"')).map(|(host, _)| host);
    let line = match address {
        None | Some("[local]") => format!("local {database} {role} scram-sha-256"),
        Some(address) => {
            let bits = if address.contains(':') { 128 } else { 32 };
            format!("host {database} {role} {address}/{bits} scram-sha-256")
        }
    };
    Some(format!("in pg_hba.conf: {line}\nthen: SELECT pg_reload_conf();"))
}

/// A name as SQL and `pg_hba.conf` write it.
pub(super) fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.into() } else { client::quote_ident(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_pg_hba_is_that_of_the_address_the_server_sees() {
        let line = |message: &str| hba(message, "replication", "\"My role\"");
        for (host, expected) in [
            ("10.0.0.7", "host replication \"My role\" 10.0.0.7/32 scram-sha-256"),
            ("fe80::1", "host replication \"My role\" fe80::1/128 scram-sha-256"),
            ("[local]", "local replication \"My role\" scram-sha-256"),
        ] {
            let message = format!(
                "no pg_hba.conf entry for replication connection from host \"{host}\", user \"My role\""
            );
            assert_eq!(
                line(&message).unwrap().lines().next(),
                Some(format!("in pg_hba.conf: {expected}").as_str())
            );
        }
    }

    #[test]
    fn only_plain_names_are_not_quoted() {
        assert_eq!(
            ["barman", "_x1", "Barman", "a b", "1x"].map(quoted),
            ["barman", "_x1", "\"Barman\"", "\"a b\"", "\"1x\""]
        );
    }
}

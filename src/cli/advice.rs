//! The library's advice about an error, put into words that fit the program in use.
//!
//! A hint is lines: statements, which end with a semicolon; commands for a shell, which begin with a program's name;
//! lines for `pg_hba.conf`; and prose. Each statement and command is a line of its own, so that it can be pasted.

use core::net::IpAddr;

use super::given::Given;
use tapster::types::{Advice, Lsn};

/// The program the user called. A hint names only this program's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Personality {
    Tapster,
    /// `pg_receivewal`, or the name that it had up to 9.6.
    PgReceivewal,
}

/// What the user can do about a failure.
#[derive(Clone, Debug)]
pub(super) enum Hint {
    /// Advice of the library.
    Advice(Advice),
    /// Something only the command knows. Printed wherever the message is printed.
    Particular(String),
    /// Lines that only the command knows. Printed only with the program's last error.
    Lines(Vec<String>),
    /// A command that gives more information. Printed only with the program's last error.
    General(&'static str),
}

impl Hint {
    /// The text, if this program has words for it: a line, or several of which all but the first are indented.
    pub(super) fn text(&self, personality: Personality, given: &Given) -> Option<String> {
        let lines = match self {
            Self::Advice(advice) => lines(*advice, personality, given),
            Self::Particular(text) => return Some(text.clone()),
            Self::Lines(lines) => lines.clone(),
            Self::General(text) => return Some((*text).into()),
        };
        if lines.is_empty() { None } else { Some(lines.join("\n  ")) }
    }

    /// Whether the hint is printed only with the program's last error, and not with every message.
    pub(super) fn is_general(&self) -> bool {
        match self {
            Self::Advice(advice) => is_general(*advice),
            Self::Particular(_) => false,
            Self::Lines(_) | Self::General(_) => true,
        }
    }
}

/// Whether the advice is about the server's settings, or about the parameters of the connection. A receiver that tries
/// again does not repeat that with each attempt.
fn is_general(advice: Advice) -> bool {
    matches!(
        advice,
        Advice::CheckPassword
            | Advice::AllowLogin
            | Advice::AddHbaLine { .. }
            | Advice::MapUser { .. }
            | Advice::LetRoleLogIn { .. }
            | Advice::AllowReplication
            | Advice::GrantConnect
            | Advice::AllowConnections
            | Advice::RaiseRoleLimit
            | Advice::RaiseDatabaseLimit
            | Advice::FreeConnection
            | Advice::FreeWalSender
            | Advice::BypassPooler
            | Advice::LeaveOutParameter
            | Advice::NameDatabase
            | Advice::CheckAddress
            | Advice::GrantPrivilege
    )
}

/// The hint's lines; none if this program has no words for the advice.
fn lines(advice: Advice, personality: Personality, given: &Given) -> Vec<String> {
    if let Some(mut remedy) = remedy(advice, given) {
        if remedy.first().is_some_and(|line| line.ends_with(';')) {
            remedy.insert(0, "as a superuser:".into());
        }
        return remedy;
    }
    let (prose, commands) = match personality {
        Personality::Tapster => for_tapster(advice, given),
        Personality::PgReceivewal => for_pg_receivewal(advice, given),
    };
    let prose = Some(prose).filter(|prose| !prose.is_empty());
    prose.into_iter().chain(commands).collect()
}

/// The method of `pg_hba.conf` for passwords stored as SCRAM verifiers.
pub(super) const SCRAM: &str = "scram-sha-256";
pub(super) const RELOAD: &str = "SELECT pg_reload_conf();";

/// What mends the server's refusal of a session; `None` for other advice.
pub(super) fn remedy(advice: Advice, given: &Given) -> Option<Vec<String>> {
    let (role, database) = (given.role(), given.database());
    let hba = |client: Option<IpAddr>, replication| {
        let database = if replication { "replication" } else { database };
        let client = client.map(|client| client.to_string());
        [hba_line(database, role, client.as_deref(), SCRAM), RELOAD.to_string()]
    };
    Some(match advice {
        Advice::AddHbaLine { client, replication } => hba(client, replication).into(),
        Advice::MapUser { client, replication } => {
            let prose = match client {
                None => {
                    "the server takes the role's word from the operating system (peer) or another service: run this as \
                     the system's user who is meant, name that user with -U, or map the names in pg_ident.conf; or let \
                     the role in by a password:"
                }
                Some(_) => {
                    "the server takes the role's word from a certificate, from ident or another service: show it what \
                     belongs to the role, or map the names in pg_ident.conf; or let the role in by a password:"
                }
            };
            [prose.to_string()].into_iter().chain(hba(client, replication)).collect()
        }
        Advice::LetRoleLogIn { exists, replication } => {
            let alter = format!("ALTER ROLE {role} LOGIN;");
            let create =
                format!("CREATE ROLE {role} LOGIN{};", if replication { " REPLICATION" } else { "" });
            match exists {
                Some(true) => [alter].into(),
                Some(false) => [create].into(),
                None => Vec::from([
                    "as a superuser, if the role exists:".into(),
                    alter,
                    "or if it does not exist:".into(),
                    create,
                ]),
            }
        }
        Advice::AllowReplication => [format!("ALTER ROLE {role} REPLICATION;")].into(),
        Advice::GrantConnect => [format!("GRANT CONNECT ON DATABASE {database} TO {role};")].into(),
        Advice::AllowConnections => [format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true;")].into(),
        Advice::RaiseRoleLimit => Vec::from([
            format!("end other sessions of {role}, or as a superuser raise its limit, -1 being none:"),
            format!("ALTER ROLE {role} CONNECTION LIMIT -1;"),
        ]),
        Advice::RaiseDatabaseLimit => Vec::from([
            format!("end other sessions in {database}, or as a superuser raise its limit, -1 being none:"),
            format!("ALTER DATABASE {database} CONNECTION LIMIT -1;"),
        ]),
        Advice::FreeConnection => {
            ["end other sessions, or raise max_connections and restart the server".into()].into()
        }
        Advice::BypassPooler => Vec::from([String::from(
            "a connection pooler such as PgBouncer answers there, and it takes no replication connections: connect to \
             the port of the server itself",
        )]),
        Advice::LeaveOutParameter => Vec::from([String::from(
            "a connection pooler such as PgBouncer answers there, and it refuses this parameter: leave it out of the \
             connection string and of the environment (options or PGOPTIONS, PGDATESTYLE, PGTZ, PGGEQO), add it to \
             ignore_startup_parameters in pgbouncer.ini, or connect to the port of the server itself",
        )]),
        Advice::FreeWalSender => Vec::from([String::from(
            "end a receiver or standby that is not needed, or raise max_wal_senders (before PostgreSQL 12 also \
             max_connections) and restart the server",
        )]),
        _ => return None,
    })
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

/// Prose, which may be empty, and commands.
type Words = (String, Vec<String>);

fn for_tapster(advice: Advice, given: &Given) -> Words {
    let slot = given.slot().unwrap_or_else(|| "NAME".into());
    let mut commands = Vec::new();
    let prose = match advice {
        Advice::GivePassword => {
            "give the password by PGPASSWORD, in the connection string, or by a line of the password file \
             (~/.pgpass or PGPASSFILE)"
        }
        Advice::CheckPassword => {
            commands.push(given.tapster("conninfo", ""));
            "give the right password; where the present one comes from is shown by"
        }
        Advice::AllowLogin => {
            commands.push(given.tapster("check", ""));
            "the role does not exist, may not log in, or has no line in pg_hba.conf; more is said in the server's log, \
             or by"
        }
        Advice::NameDatabase => "name one that exists, in the connection string or with -d",
        Advice::CheckAddress => {
            commands.push(given.tapster("conninfo", ""));
            "which host and port are used, and why, is shown by"
        }
        Advice::GrantPrivilege => {
            commands.push(given.tapster("check", ""));
            "what to grant is printed by"
        }
        Advice::GrantBackupPrivileges => {
            commands.push(given.tapster("check", "--for backup"));
            "what to grant is printed by"
        }
        Advice::CreateSlot => {
            commands.push(given.tapster("slot create", &slot));
            "create the slot with --create-slot, or by"
        }
        Advice::AwaitSlot => {
            "another receiver uses the slot, or the server has not noticed yet that one is gone (wal_sender_timeout)"
        }
        Advice::AllowWalSenders => {
            "the server admits no replication connections (max_wal_senders = 0): set max_wal_senders to 10 and \
             wal_level to replica, and restart it"
        }
        Advice::NamePhysicalSlot => {
            "name another slot with -S, one that does not exist yet or a physical one; the logical one may be in use by \
             another program"
        }
        Advice::CheckCluster => "check which server the connection string leads to, or use another directory",
        Advice::MoveFileAway => {
            "move that file to another directory if it does not belong here, or use another directory"
        }
        Advice::SeparateNewCluster => {
            "the cluster was made anew with another segment size; use another directory for it"
        }
        Advice::SeparateOlderServer => {
            "the server was restored to an earlier state, or is not the one this archive comes from; use another \
             directory for it"
        }
        Advice::StartAnewAfterPromotion => {
            "the server was promoted before it had all WAL that is archived here; use a new directory for it and take \
             a new base backup"
        }
        Advice::StartAnewAfterLostWal => {
            "the server was restored to an earlier state, has lost WAL in a crash, or is not the one this archive \
             comes from; use a new directory for it and take a new base backup"
        }
        Advice::AcceptGap { next } => {
            return (
                format!("{}, or go on in this one with --accept-gap, which notes the gap there", gap(next)),
                commands,
            );
        }
        Advice::ReplaceSlot => {
            commands.extend(["slot drop", "slot create"].map(|command| given.tapster(command, &slot)));
            "backups older than now may not be recoverable to the present; drop the slot and create it again, take a \
             new base backup, and use a new directory, or go on in this one with --accept-gap"
        }
        Advice::InspectServerWal => {
            "look at it with pg_waldump on the server; --no-check-wal stores it as it is"
        }
        Advice::VerifyArchive => {
            let directory = given.directory().unwrap_or_else(|| "DIR".into());
            commands.push(format!("tapster verify {directory}"));
            "use a new directory and take a new base backup, or look after the disk and move all damaged segments away \
             with the newer ones and with the state file; which they are is shown by"
        }
        _ => "",
    };
    (prose.into(), commands)
}

/// pg_receivewal has no commands that give more information, and no options to accept a gap or damage.
fn for_pg_receivewal(advice: Advice, given: &Given) -> Words {
    let mut commands = Vec::new();
    let action = |option: &str, slot: &str| {
        let words = ["pg_receivewal", &given.connection, option, "-S", slot];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    let prose = match (advice, given.slot()) {
        (Advice::CreateSlot, Some(slot)) => {
            commands.push(action("--create-slot", &slot));
            "create the slot:".into()
        }
        (Advice::CreateSlot, None) => "create the slot with --create-slot".into(),
        (Advice::AcceptGap { next }, _) => gap(next),
        (Advice::ReplaceSlot, slot) => {
            let slot = slot.unwrap_or_else(|| "NAME".into());
            commands.extend(["--drop-slot", "--create-slot"].map(|option| action(option, &slot)));
            "backups older than now may not be recoverable to the present; drop the slot and create it again, take a \
             new base backup, and use a new directory"
                .into()
        }
        (Advice::InspectServerWal, _) => "look at it with pg_waldump on the server".into(),
        (Advice::VerifyArchive, _) => {
            "use a new directory and take a new base backup, or look after the disk and move all damaged segments away \
             with the newer ones"
                .into()
        }
        // A connection string names the database "replication" only to the password file.
        (advice, _) if is_general(advice) => String::new(),
        (advice, _) => for_tapster(advice, given).0,
    };
    (prose, commands)
}

fn gap(next: Lsn) -> String {
    format!(
        "backups older than now cannot be recovered beyond {next}; take a new one, and use a new directory"
    )
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    const CLIENT: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)));

    const ALL: &[Advice] = &[
        Advice::GivePassword,
        Advice::CheckPassword,
        Advice::AllowLogin,
        Advice::AddHbaLine { client: None, replication: false },
        Advice::AddHbaLine { client: CLIENT, replication: true },
        Advice::MapUser { client: None, replication: false },
        Advice::MapUser { client: CLIENT, replication: true },
        Advice::LetRoleLogIn { exists: Some(true), replication: false },
        Advice::LetRoleLogIn { exists: Some(false), replication: true },
        Advice::LetRoleLogIn { exists: None, replication: false },
        Advice::AllowReplication,
        Advice::GrantConnect,
        Advice::AllowConnections,
        Advice::RaiseRoleLimit,
        Advice::RaiseDatabaseLimit,
        Advice::FreeConnection,
        Advice::FreeWalSender,
        Advice::BypassPooler,
        Advice::LeaveOutParameter,
        Advice::NameDatabase,
        Advice::CheckAddress,
        Advice::GrantPrivilege,
        Advice::GrantBackupPrivileges,
        Advice::CreateSlot,
        Advice::AwaitSlot,
        Advice::AllowWalSenders,
        Advice::NamePhysicalSlot,
        Advice::CheckCluster,
        Advice::SeparateNewCluster,
        Advice::MoveFileAway,
        Advice::SeparateOlderServer,
        Advice::StartAnewAfterPromotion,
        Advice::StartAnewAfterLostWal,
        Advice::AcceptGap { next: Lsn::new(0x300_0000) },
        Advice::ReplaceSlot,
        Advice::InspectServerWal,
        Advice::VerifyArchive,
    ];

    fn given() -> Given {
        Given {
            connection: "-h db1 -U 'it'\\''s'".into(),
            role: "\"my-role\"".into(),
            database: "shop".into(),
            slot: Some("tap".into()),
            directory: Some("/the wal".into()),
        }
    }

    fn text(advice: Advice, personality: Personality) -> Option<String> {
        Hint::Advice(advice).text(personality, &given())
    }

    #[test]
    fn tapster_has_words_for_every_advice() {
        for &advice in ALL {
            assert!(text(advice, Personality::Tapster).is_some(), "{advice:?}");
        }
    }

    #[test]
    fn a_command_repeats_what_was_given_and_is_a_line_of_its_own() {
        for &advice in ALL {
            let text = text(advice, Personality::Tapster).unwrap();
            for line in text.lines().filter(|line| line.contains("tapster ")) {
                let command = line.strip_prefix("  tapster ").unwrap_or_else(|| panic!("{text}"));
                let repeats = command.contains("-h db1 -U 'it'\\''s'") || command == "verify '/the wal'";
                assert!(repeats, "{advice:?}: {text}");
            }
        }
    }

    #[test]
    fn pg_receivewal_names_only_options_that_it_has() {
        for &advice in ALL {
            let text = text(advice, Personality::PgReceivewal).unwrap_or_default();
            assert!(!text.contains("tapster"), "{advice:?}: {text}");
            for option in text.split_whitespace().filter(|word| word.starts_with('-')) {
                let option = option.trim_end_matches([',', ';', ':', '.']);
                let known = ["--create-slot", "--drop-slot", "-S", "-h", "-U", "-d", "-1"];
                assert!(known.contains(&option), "{advice:?}: {text}");
            }
        }
    }

    #[test]
    fn a_refusal_has_the_statement_that_mends_it() {
        let lines = |advice| remedy(advice, &given()).unwrap();
        assert_eq!(
            lines(Advice::AddHbaLine { client: CLIENT, replication: true }),
            ["at the top of pg_hba.conf: host replication \"my-role\" 10.0.0.7/32 scram-sha-256", RELOAD]
        );
        assert_eq!(
            lines(Advice::AddHbaLine { client: None, replication: false })[0],
            "at the top of pg_hba.conf: local shop \"my-role\" scram-sha-256"
        );
        assert!(hba_line("all", "u", Some("fe80::1"), SCRAM).ends_with(" fe80::1/128 scram-sha-256"));
        let login = |exists| lines(Advice::LetRoleLogIn { exists, replication: true });
        assert_eq!(login(Some(true)), ["ALTER ROLE \"my-role\" LOGIN;"]);
        assert_eq!(login(Some(false)), ["CREATE ROLE \"my-role\" LOGIN REPLICATION;"]);
        assert_eq!(login(None).len(), 4);
        assert_eq!(lines(Advice::GrantConnect), ["GRANT CONNECT ON DATABASE shop TO \"my-role\";"]);
        assert!(!lines(Advice::RaiseRoleLimit).concat().contains("max_connections"));
    }

    #[test]
    fn advice_about_a_gap_names_its_beginning() {
        let text = text(Advice::AcceptGap { next: Lsn::new(0x300_0000) }, Personality::Tapster).unwrap();
        assert!(text.contains("beyond 0/3000000;") && text.contains("with --accept-gap,"), "{text}");
    }
}

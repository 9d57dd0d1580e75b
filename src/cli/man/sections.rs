//! The sections ENVIRONMENT and FILES of a command's page.

use clap::{Arg, Command};
use clap_mangen::roff::{Inline, Roff, bold, roman};

use tapster::conninfo::KEYWORDS;

/// Entries of a section: what is explained, and the explanation.
type Entries = Vec<(String, String)>;

fn entry(name: impl Into<String>, text: impl Into<String>) -> (String, String) {
    (name.into(), text.into())
}

/// Whether the command connects to a server, or shows how it would.
fn connects(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some("dbname"))
}

/// The command's own variables, then those that every connection has.
pub(super) fn environment(command: &Command) -> Entries {
    let is_program = command.get_name() == "tapster";
    let option = |arg: &Arg| {
        let (variable, flag) = (arg.get_env()?.to_str()?.to_string(), arg.get_long()?);
        Some(entry(
            variable,
            format!(
                "what --{flag} gives; the command line takes precedence, and an empty value counts as none"
            ),
        ))
    };
    let mut entries: Entries = command.get_arguments().filter_map(option).collect();
    match command.get_name() {
        "low-level-backup" => entries.extend([
            entry(
                "TAPSTER_DATA_DIRECTORY",
                "set for COMMAND: the server's data directory, if the role may read it",
            ),
            entry("TAPSTER_START_LSN", "set for COMMAND: the position where recovery begins"),
            entry("TAPSTER_TIMELINE", "set for COMMAND: the timeline"),
        ]),
        "receive-wal" => entries.extend([
            entry(
                "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
                "set by systemd: READY, STATUS and WATCHDOG are sent there",
            ),
            entry("TERM", "\"dumb\", or none, takes the progress in one line away"),
        ]),
        _ => {}
    }
    if connects(command) || is_program {
        let usual = ["PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"];
        let others = KEYWORDS.iter().filter_map(|keyword| keyword.variable);
        let others: Vec<&str> = others.filter(|variable| !usual.contains(variable)).collect();
        entries.extend([
            entry(
                usual.join(", "),
                format!(
                    "connection parameters, as with PostgreSQL's own programs, where neither the connection string \
                     nor a service gives them; \"tapster conninfo\" shows what each comes to. The others are {}",
                    others.join(", ")
                ),
            ),
            entry("PGREQUIRESSL", "1 is sslmode=require, an old spelling"),
            entry("PGSYSCONFDIR", "the directory of the system's pg_service.conf"),
            entry("PGDATESTYLE, PGTZ, PGGEQO", "settings of the session"),
            entry("HOME, USER", "the home directory; the user's name, where /etc/passwd has none"),
            entry("SSL_CERT_FILE, SSL_CERT_DIR", "with sslrootcert=system: where the trusted certificates are"),
        ]);
    }
    entries.push(entry(
        "TAPSTER_LOG",
        "which messages of the library go to stderr: error, warn (the default), info with the servers' notices, debug",
    ));
    entries
}

/// The files that the command reads and writes.
pub(super) fn files(command: &Command) -> Entries {
    let name = command.get_name();
    let mut entries = Entries::new();
    // `slot ls` has the name of `wal ls`, and no archive.
    let has_archive = matches!(name, "verify" | "ls" | "get") && !connects(command);
    if has_archive || name == "receive-wal" {
        entries.extend([
            entry("DIR/SEGMENT", "a complete segment of WAL, with .gz, .lz4 or .zst if it is compressed"),
            entry("DIR/SEGMENT.partial", "the segment in progress"),
            entry("DIR/TIMELINE.history", "where a timeline comes from"),
            entry(
                "DIR/tapster.state",
                "the cluster, the position up to which WAL was received, and gaps that were accepted; receive-wal \
                 writes it",
            ),
        ]);
    }
    match name {
        "receive-wal" => entries.extend([
            entry("FILE of --config", "the servers, as TOML"),
            entry("FILE of --metrics-file", "the metrics, replaced as a whole"),
        ]),
        "low-level-backup" => entries.extend([
            entry("DIR/backup_label", "what a recovery of the copy begins with"),
            entry("DIR/tablespace_map", "where tablespaces were, if there are any"),
        ]),
        _ => {}
    }
    if connects(command) || name == "tapster" {
        entries.extend([
            entry("~/.pgpass", "passwords: host:port:database:user:password; passfile names another file"),
            entry(
                "~/.pg_service.conf",
                "connection parameters by the name of a service; servicefile names another file",
            ),
            entry(
                "pg_service.conf",
                "the same for all users, in PGSYSCONFDIR or else in /etc/postgresql-common and its like",
            ),
            entry(
                "~/.postgresql/root.crt, root.crl",
                "the certificates that a server's has to come from; revoked ones",
            ),
            entry("~/.postgresql/postgresql.crt, postgresql.key", "the client's certificate and key"),
            entry(
                "/var/run/postgresql, or else /tmp",
                "the directory of the server's Unix socket, where no host is given",
            ),
        ]);
    }
    entries
}

/// The section, or nothing if it has no entry.
pub(super) fn section(title: &str, entries: Entries) -> Roff {
    let mut section = Roff::new();
    if entries.is_empty() {
        return section;
    }
    section.control("SH", [title]);
    for (name, text) in entries {
        let line: [Inline; 1] = [bold(name)];
        section.control("TP", []).text(line).text([roman(text)]);
    }
    section
}

#[cfg(test)]
mod tests {
    use super::super::super::Cli;
    use super::*;
    use clap::CommandFactory as _;

    /// Every command that does something, with the words that call it.
    fn commands(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let path = format!("{path}{} ", sub.get_name());
            if sub.has_subcommands() {
                commands(sub, &path, found);
            } else {
                found.push((path.trim_end().into(), sub.clone()));
            }
        }
    }

    #[test]
    fn each_variable_and_file_is_on_the_page_of_its_command() {
        let mut program = Cli::command();
        program.build();
        let mut found = Vec::new();
        commands(&program, "", &mut found);
        let names =
            |entries: Entries| entries.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
        for (path, command) in &found {
            let (variables, files) = (names(environment(command)), names(files(command)));
            for variable in command.get_arguments().filter_map(Arg::get_env) {
                assert!(variables.contains(variable.to_str().unwrap()), "{path}: {variable:?}");
            }
            assert!(variables.contains("TAPSTER_LOG"), "{path}");
            let asks = !["verify", "wal ls", "wal get", "completions"].contains(&path.as_str());
            assert_eq!(variables.contains("PGHOST"), asks, "{path}");
            assert_eq!(files.contains(".pgpass"), asks, "{path}");
            let has_archive = ["receive-wal", "verify", "wal ls", "wal get"].contains(&path.as_str());
            assert_eq!(files.contains("tapster.state"), has_archive, "{path}");
        }
        assert!(found.len() > 14, "{}", found.len());
    }
}

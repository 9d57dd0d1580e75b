use core::time::Duration;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command, FromArgMatches, Id};

use super::about::About;
use super::environment::is_from_variable;
use super::failure::Failure;
use super::given::{Given, connection_for_shell, for_shell, sql_name};
use super::{input, output};
use tapster::conninfo::{Config, ConnInfo, ConnInfoError, Environment, Resolved};
use tapster::replication::ReplicationConnection;

/// Set on each argument: a heading on the struct would also apply to the arguments that follow it.
const HEADING: &str = "Connection";

/// How to connect: the same for every command.
#[derive(Clone, Debug)]
pub(super) struct ConnectionArgs {
    flags: Flags,
    /// The flags whose values come from environment variables.
    from_variables: Vec<&'static str>,
}

impl FromArgMatches for ConnectionArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let all = ["dbname", "host", "port", "username"].into_iter();
        let from_variables = all.filter(|flag| is_from_variable(matches, flag)).collect();
        Ok(Self { flags: Flags::from_arg_matches(matches)?, from_variables })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for ConnectionArgs {
    fn group_id() -> Option<Id> {
        Flags::group_id()
    }

    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

#[derive(Clone, Debug, clap::Args)]
#[group(id = "ConnectionArgs")]
struct Flags {
    /// A connection URI, a key=value string, or a database's name
    #[arg(short = 'd', long = "dbname", value_name = "CONN", help_heading = HEADING)]
    #[arg(env = "TAPSTER_DBNAME", hide_env_values = true)]
    dbname: Option<String>,
    /// The server's name or address, or the directory of its Unix socket (-h is help)
    #[arg(short = 'H', long, env = "TAPSTER_HOST", help_heading = HEADING)]
    host: Option<String>,
    /// The server's port
    #[arg(short, long, env = "TAPSTER_PORT", help_heading = HEADING)]
    port: Option<String>,
    /// The user's name in the database
    #[arg(short = 'U', long, value_name = "USER", env = "TAPSTER_USERNAME", help_heading = HEADING)]
    username: Option<String>,
    /// Never ask for a password
    #[arg(short = 'w', long, conflicts_with = "password", help_heading = HEADING)]
    no_password: bool,
    /// Ask for a password before connecting
    #[arg(short = 'W', long, help_heading = HEADING)]
    password: bool,
}

/// How long to wait for a silent server.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct TimeoutArgs {
    /// Seconds the server may be silent, except in a checkpoint and in the start and stop of a backup; 0 for no
    /// limit
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = "TAPSTER_TIMEOUT", help_heading = HEADING)]
    timeout: u64,
}

impl TimeoutArgs {
    /// `None` for ever.
    pub(super) fn limit(self) -> Option<Duration> {
        seconds(self.timeout)
    }
}

/// The server that a command is about.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// A connection URI, a key=value string, or a database's name
    conn: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    pub(super) timeout: TimeoutArgs,
}

impl ServerArgs {
    /// Puts the parameters together.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        Ok(self.connection.target(self.conn.as_deref())?.within(self.timeout))
    }
}

/// The parameters that a variable of ours can give besides the connection string.
const VARIABLES: [(&str, &str); 3] =
    [("host", "TAPSTER_HOST"), ("port", "TAPSTER_PORT"), ("user", "TAPSTER_USERNAME")];

fn blamed(error: &ConnInfoError, variable: &str) -> Failure {
    Failure::usage(format!("{error}; this comes from the environment variable {variable}"))
}

/// Connection parameters on their way to a connection.
#[derive(Debug)]
pub(super) struct Target {
    conninfo: ConnInfo,
    environment: Environment,
    may_prompt: bool,
    /// How long the server may be silent.
    timeout: Option<Duration>,
    /// The connection's arguments for a shell, as they were given.
    arguments: String,
    slot: Option<String>,
    directory: Option<PathBuf>,
}

impl ConnectionArgs {
    /// Puts the parameters together; `conn` is the command's own positional argument.
    pub(super) fn target(&self, conn: Option<&str>) -> Result<Target, Failure> {
        let flags = &self.flags;
        let is_from_variable = |flag| self.from_variables.contains(&flag);
        // What was given takes precedence over a variable.
        let dbname = flags.dbname.as_deref().filter(|_| conn.is_none() || !is_from_variable("dbname"));
        let mut conninfo = match (conn, dbname) {
            (Some(_), Some(_)) => return Err(Failure::usage("give CONN or -d, not both")),
            (Some(conn), None) => ConnInfo::from_dbname_argument(conn)?,
            (None, Some(conn)) => ConnInfo::from_dbname_argument(conn).map_err(|error| {
                if is_from_variable("dbname") { blamed(&error, "TAPSTER_DBNAME") } else { error.into() }
            })?,
            (None, None) => ConnInfo::new(),
        };
        let is_given = conn.is_some() || dbname.is_some() && !is_from_variable("dbname");
        let named = [
            ("host", "--host", &flags.host),
            ("port", "--port", &flags.port),
            ("username", "--username", &flags.username),
        ];
        for ((name, flag, value), (keyword, variable)) in named.into_iter().zip(VARIABLES) {
            let Some(value) = value else { continue };
            let is_variable = is_from_variable(name);
            let from = if is_variable { variable } else { flag };
            let is_known = || {
                let others = if keyword == "host" { &["hostaddr", "service"][..] } else { &["service"] };
                conninfo.get(keyword).is_some() || others.iter().any(|other| conninfo.get(other).is_some())
            };
            if is_variable && is_given && is_known() {
                continue;
            }
            // Otherwise the error would quote the URI, and its password, as an unknown host name.
            if value.contains("://") {
                return Err(Failure::usage(format!("{from} takes no URI; give it as CONN or with -d")));
            }
            conninfo.set_from_flag(from, keyword, value)?;
        }
        let arguments = self.repeated(conn, dbname);
        let mut target = Target { arguments, ..Target::new(conninfo, !flags.no_password) };
        if flags.password {
            target.prompt()?;
        }
        Ok(target)
    }

    /// The arguments for a shell, in the form that they had.
    fn repeated(&self, conn: Option<&str>, dbname: Option<&str>) -> String {
        let Flags { host, port, username, no_password, password, .. } = &self.flags;
        let flags = [("-H", host), ("-p", port), ("-U", username)]
            .map(|(flag, value)| (flag, value.as_deref().map(|value| for_shell(value).into_owned())));
        let flags = [("-d", dbname.map(connection_for_shell))].into_iter().chain(flags);
        let flags = flags.filter_map(|(flag, value)| value.map(|value| format!("{flag} {value}")));
        let switches = [("-w", *no_password), ("-W", *password)];
        let switches = switches.into_iter().filter(|(_, is_on)| *is_on).map(|(flag, _)| flag.to_string());
        let conn = conn.map(connection_for_shell);
        conn.into_iter().chain(flags).chain(switches).collect::<Vec<_>>().join(" ")
    }
}

impl Target {
    /// Parameters that were put together elsewhere.
    pub(super) fn new(conninfo: ConnInfo, may_prompt: bool) -> Self {
        Self {
            conninfo,
            environment: Environment::from_process(),
            may_prompt,
            timeout: None,
            arguments: String::new(),
            slot: None,
            directory: None,
        }
    }

    /// The same with the connection's arguments as hints repeat them.
    pub(super) fn with_arguments(self, arguments: String) -> Self {
        Self { arguments, ..self }
    }

    /// The same with the slot and the archive that the command uses, for hints.
    pub(super) fn with_names(self, slot: Option<&str>, directory: Option<&Path>) -> Self {
        Self { slot: slot.map(str::to_string), directory: directory.map(Path::to_path_buf), ..self }
    }

    /// What hints repeat.
    pub(super) fn given(&self) -> Given {
        let config = self.config().ok();
        let name = |name: Option<&str>| name.map(sql_name).unwrap_or_default();
        Given {
            connection: self.arguments.clone(),
            role: name(config.as_ref().map(|config| config.user.as_str())),
            database: name(config.as_ref().map(|config| config.dbname.as_str())),
            slot: self.slot.clone(),
            directory: self.directory.clone(),
        }
    }

    /// The configuration of exactly these parameters.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        self.named(self.conninfo.clone())
    }

    /// The parameters together with those from the environment, the service file and the defaults.
    pub(super) fn resolve(&self) -> Result<Resolved, Failure> {
        Ok(self.conninfo.resolve(&self.environment)?)
    }

    /// The same with a limit to the server's silence.
    pub(super) fn within(self, timeout: TimeoutArgs) -> Self {
        Self { timeout: timeout.limit(), ..self }
    }

    /// How long the server may be silent.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The configuration of a physical replication connection. Any `replication` that was given is replaced,
    /// and the password file is asked for the database `replication`, as with PostgreSQL's own programs.
    pub(super) fn replication_config(&self) -> Result<Config, Failure> {
        let mut conninfo = self.conninfo.clone();
        conninfo.set("replication", "true")?;
        conninfo.set("dbname", "replication")?;
        self.named(conninfo)
    }

    /// The configuration of a session with our name as application_name, unless the user chose another.
    fn named(&self, mut conninfo: ConnInfo) -> Result<Config, Failure> {
        if conninfo.get("fallback_application_name").is_none() {
            conninfo.set("fallback_application_name", "tapster")?;
        }
        self.refuse_wrong_variable(&conninfo)?;
        let resolved = conninfo.resolve(&self.environment)?;
        for warning in resolved.warnings() {
            output::warn_once(&warning.to_string());
        }
        let mut config = resolved.config()?;
        config.connect_timeout = config.connect_timeout.or(self.timeout);
        Ok(config)
    }

    /// Checks that the value of no variable `TAPSTER_...` is what is wrong with these parameters: without it, all would be
    /// well, or something else wrong.
    fn refuse_wrong_variable(&self, conninfo: &ConnInfo) -> Result<(), Failure> {
        let problem =
            |conninfo: &ConnInfo| match conninfo.resolve(&self.environment).and_then(|all| all.config()) {
                Ok(config) => config.hosts.iter().find_map(|host| host.endpoint.as_ref().err().cloned()),
                Err(error) => Some(error),
            };
        for (keyword, variable) in VARIABLES {
            let mut without = conninfo.clone();
            if conninfo.flag(keyword) == Some(variable)
                && without.remove(keyword)
                && let Some(error) = problem(conninfo)
                && problem(&without).as_ref() != Some(&error)
            {
                return Err(blamed(&error, variable));
            }
        }
        Ok(())
    }

    /// The server that the parameters name.
    pub(super) fn about(&self) -> About {
        self.config().map(|config| About::wanted(&config)).unwrap_or_default()
    }

    /// The session's application_name: the one in the parameters, or else our name.
    pub(super) fn application_name(&self) -> Result<String, Failure> {
        Ok(self.config()?.application_name.unwrap_or_else(|| "tapster".into()))
    }

    /// The parameters as they were given.
    pub(super) fn conninfo(&self) -> &ConnInfo {
        &self.conninfo
    }

    /// Where defaults come from.
    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// A physical replication connection.
    pub(super) async fn connect_replication(&mut self) -> Result<ReplicationConnection, Failure> {
        self.connect_with(Self::replication_config).await
    }

    /// A replication connection by exactly these parameters.
    pub(super) async fn connect_as_given(&mut self) -> Result<ReplicationConnection, Failure> {
        self.connect_with(Self::config).await
    }

    async fn connect_with(
        &mut self,
        config: impl Fn(&Self) -> Result<Config, Failure>,
    ) -> Result<ReplicationConnection, Failure> {
        self.with_password(async |target| {
            let mut connection = ReplicationConnection::connect(&config(target)?).await?;
            connection.connection().set_read_timeout(target.timeout);
            Ok(connection)
        })
        .await
    }

    /// Runs `work`, which connects. If the server wants a password that we do not have, asks for it on the terminal, if
    /// there is one, and runs `work` again.
    pub(super) async fn with_password<T>(
        &mut self,
        mut work: impl AsyncFnMut(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        loop {
            match work(self).await {
                Err(failure) if failure.wants_password() && self.may_prompt && input::can_ask_password() => {
                    self.prompt()?;
                }
                Err(failure) if !failure.is_usage() => {
                    return Err(failure.about(&self.about()).given(&self.given()));
                }
                result => return result,
            }
        }
    }

    /// Asks for the password.
    pub(super) fn prompt(&mut self) -> Result<(), Failure> {
        let user = self.conninfo.get("user").map_or_else(String::new, |user| format!(" for user {user}"));
        let password = input::ask_password(&format!("Password{user}: "))
            .map_err(|error| Failure::usage(format!("could not ask for a password: {error}")))?;
        self.conninfo.set("password", password.as_str())?;
        // Ask only once: a wrong password is the server's to refuse.
        self.may_prompt = false;
        Ok(())
    }
}

/// Seconds as an option has them; 0 is never.
pub(super) fn seconds(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

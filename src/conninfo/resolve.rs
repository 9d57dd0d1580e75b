use std::format;
use std::path::{Path, PathBuf};
use std::prelude::v1::*;

use core::fmt;

use zeroize::Zeroizing;

use super::hosts::{self, HostConfig, HostEntry, PasswordFileEntry};
use super::keywords::{KEYWORDS, Keyword, find};
use super::password_file::{Key, PasswordFile};
use super::{ConnInfo, ConnInfoError, Environment, Password, Replication, service_file};

/// Every parameter that has a value, and where the value comes from.
///
/// Explicit parameters take precedence over the service file, the service file over the environment, and the
/// environment over defaults. A variable that is set to the empty text counts as set. An empty `host`,
/// `port`, `user`, `dbname` or `password` means the default, which then replaces the empty value.
#[derive(Clone)]
pub struct Resolved {
    parameters: Vec<ResolvedParameter>,
    pub(super) hosts: Vec<HostConfig>,
    pub(super) session_defaults: Vec<(&'static str, String)>,
    pub(super) home: Option<PathBuf>,
    warnings: Vec<Warning>,
}

/// One parameter of [`Resolved`]. `Debug` shows [`shown`](Self::shown).
#[derive(Clone)]
pub struct ResolvedParameter {
    keyword: &'static Keyword,
    value: Zeroizing<String>,
    source: Source,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The connection string, or the caller.
    ConnInfo,
    /// A command-line flag.
    Flag(&'static str),
    /// The service file.
    ServiceFile {
        /// The file.
        path: PathBuf,
        /// The service's name.
        section: String,
        /// The line, from 1.
        line: u32,
    },
    /// An environment variable.
    Variable(&'static str),
    /// The password file. The passwords of other hosts in the list may come from other lines.
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
    },
    /// A default.
    Default,
}

/// A file or parameter that was ignored, of which the user should be warned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The password file was not read because other users have access to it.
    PasswordFileAccess(PathBuf),
    /// The password file was not read because it is a directory, a device or a pipe.
    PasswordFileNotPlain(PathBuf),
    /// A parameter that was given but has no effect in this implementation.
    NoEffect(&'static str),
}

impl Resolved {
    pub(super) fn new(conninfo: &ConnInfo, environment: &Environment) -> Result<Self, ConnInfoError> {
        let mut resolved = Self {
            parameters: Vec::new(),
            hosts: Vec::new(),
            session_defaults: Vec::new(),
            home: environment.home.clone(),
            warnings: Vec::new(),
        };
        for parameter in conninfo.parameters() {
            let source = parameter.flag.map_or(Source::ConnInfo, Source::Flag);
            resolved.fill(parameter.keyword, &parameter.value, source);
        }
        resolved.fill_from_service(environment)?;
        resolved.fill_from_variables(environment)?;
        resolved.warn_of_no_effect();
        resolved.fill_defaults();

        if resolved.text("host").is_empty() && resolved.text("hostaddr").is_empty() {
            let directory = environment.socket_directory.display().to_string();
            resolved.replace("host", &directory, Source::Default);
        }
        let hosts =
            hosts::host_list(resolved.text("host"), resolved.text("hostaddr"), resolved.text("port"))?;
        if resolved.text("port").is_empty() {
            resolved.replace("port", "5432", Source::Default);
        }
        if resolved.text("user").is_empty() {
            resolved.replace("user", environment.user()?, Source::Default);
        }
        if resolved.text("dbname").is_empty() {
            let user = resolved.text("user").to_string();
            resolved.replace("dbname", &user, Source::Default);
        }
        resolved.add_hosts(hosts, &environment.socket_directory);
        Ok(resolved)
    }

    /// The value of a parameter. Of the passwords in the password file it is the first that a host of the
    /// list has, with bytes that are not UTF-8 replaced; [`Config::hosts`](super::Config::hosts) has all
    /// passwords as they are.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.parameter(keyword).map(ResolvedParameter::value)
    }

    /// Where the value of a parameter comes from; `None` if it has none.
    #[must_use]
    pub fn source(&self, keyword: &str) -> Option<&Source> {
        self.parameter(keyword).map(ResolvedParameter::source)
    }

    /// All parameters that have a value, in the order of [`KEYWORDS`].
    pub fn iter(&self) -> impl Iterator<Item = &ResolvedParameter> {
        KEYWORDS.iter().filter_map(|keyword| self.parameter(keyword.name))
    }

    /// The warnings that the user should see.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn parameter(&self, keyword: &str) -> Option<&ResolvedParameter> {
        self.parameters.iter().find(|parameter| parameter.keyword.name == keyword)
    }

    /// The value, or the empty text.
    fn text(&self, keyword: &str) -> &str {
        self.get(keyword).unwrap_or_default()
    }

    /// Gives a value to a parameter that has none.
    fn fill(&mut self, keyword: &'static Keyword, value: &str, source: Source) {
        if self.parameter(keyword.name).is_none() {
            self.parameters.push(ResolvedParameter { keyword, value: Zeroizing::new(value.into()), source });
        }
    }

    fn replace(&mut self, keyword: &str, value: &str, source: Source) {
        self.parameters.retain(|parameter| parameter.keyword.name != keyword);
        if let Some(keyword) = find(keyword) {
            self.fill(keyword, value, source);
        }
    }

    fn fill_from_service(&mut self, environment: &Environment) -> Result<(), ConnInfoError> {
        let explicit_or_variable = |keyword, variable| match self.get(keyword) {
            Some(value) => Ok(Some(value.to_string())),
            None => environment.variable(variable).map(|value| value.map(String::from)),
        };
        let Some(section) = explicit_or_variable("service", "PGSERVICE")? else { return Ok(()) };
        let file = explicit_or_variable("servicefile", "PGSERVICEFILE")?;
        let service = service_file::find(
            &section,
            file.as_deref().map(Path::new),
            self.home.as_deref(),
            &environment.system_service_file(),
        )?;
        for parameter in service.parameters {
            let (path, section) = (service.file.clone(), section.clone());
            let source = Source::ServiceFile { path, section, line: parameter.line };
            self.fill(parameter.keyword, &parameter.value, source);
        }
        Ok(())
    }

    fn fill_from_variables(&mut self, environment: &Environment) -> Result<(), ConnInfoError> {
        for keyword in KEYWORDS {
            let Some(variable) = keyword.variable else { continue };
            if self.parameter(keyword.name).is_some() {
                continue;
            }
            if let Some(value) = environment.variable(variable)? {
                self.fill(keyword, value, Source::Variable(variable));
            } else if keyword.name == "sslmode"
                && environment.variable("PGREQUIRESSL")?.is_some_and(|value| value.starts_with('1'))
            {
                self.fill(keyword, "require", Source::Variable("PGREQUIRESSL"));
            }
        }
        // Settings that the startup message sends to the server.
        for (variable, setting) in [("PGDATESTYLE", "datestyle"), ("PGTZ", "timezone"), ("PGGEQO", "geqo")] {
            match environment.variable(variable)? {
                Some(value) if !value.eq_ignore_ascii_case("default") => {
                    self.session_defaults.push((setting, value.into()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn fill_defaults(&mut self) {
        let is_system = self.get("sslrootcert") == Some("system");
        for keyword in KEYWORDS {
            match keyword.default {
                // A weaker mode makes no sense: anyone can get a certificate that the system's roots accept.
                Some(_) if keyword.name == "sslmode" && is_system => {
                    self.fill(keyword, "verify-full", Source::Default);
                }
                Some(default) => self.fill(keyword, default, Source::Default),
                None => {}
            }
        }
    }

    fn warn_of_no_effect(&mut self) {
        for name in ["sslcompression", "krbsrvname", "gsslib", "gssdelegation"] {
            let has_effect =
                |parameter: &&ResolvedParameter| Some(parameter.value()) != parameter.keyword.default;
            if self.parameter(name).filter(has_effect).is_some() {
                self.warnings.push(Warning::NoEffect(name));
            }
        }
    }

    /// Adds the hosts, each with its password.
    fn add_hosts(&mut self, entries: Vec<HostEntry>, socket_directory: &Path) {
        let given = Some(self.text("password")).filter(|password| !password.is_empty()).map(Password::from);
        let path = match (&given, self.text("passfile"), &self.home) {
            (Some(_), _, _) | (None, "", None) => None,
            (None, "", Some(home)) => Some(home.join(".pgpass")),
            (None, path, _) => Some(PathBuf::from(path)),
        };
        let file = path.map(|path| {
            let (file, warning) = PasswordFile::read(&path);
            self.warnings.extend(warning);
            (path, file)
        });
        for entry in entries {
            let found = file.as_ref().and_then(|(path, file)| {
                let (password, line) = self.find_password(file, &entry, socket_directory)?;
                Some((password, PasswordFileEntry { path: path.clone(), line }))
            });
            let mut host = entry.into_config(socket_directory);
            host.password = given.clone();
            // A line with an empty password ends the search and gives no password.
            if let Some((password, entry)) = found.filter(|(password, _)| !password.as_bytes().is_empty()) {
                if self.text("password").is_empty() {
                    let text = Zeroizing::new(String::from_utf8_lossy(password.as_bytes()).into_owned());
                    let PasswordFileEntry { path, line } = entry.clone();
                    self.replace("password", &text, Source::PasswordFile { path, line });
                }
                host.password = Some(password);
                host.password_entry = Some(entry);
            }
            self.hosts.push(host);
        }
    }

    /// The host's password in the file. Sessions for physical replication belong to no database; the password
    /// file uses `replication` as their database. Users forget that line, so the line of the named database
    /// counts where it is missing.
    fn find_password(
        &self,
        file: &PasswordFile,
        entry: &HostEntry,
        socket_directory: &Path,
    ) -> Option<(Password, u32)> {
        let find = |dbname| {
            file.find(&Key {
                host: entry.password_file_host(socket_directory),
                port: entry.port_text(),
                dbname,
                user: self.text("user"),
            })
        };
        let named = self.text("dbname");
        match Replication::parse(self.text("replication")) {
            Ok(Replication::Physical) => find("replication").or_else(|| find(named)),
            _ => find(named),
        }
    }
}

impl ResolvedParameter {
    /// The parameter's entry in [`KEYWORDS`].
    #[must_use]
    pub fn keyword(&self) -> &'static Keyword {
        self.keyword
    }

    /// The value, **also of passwords and keys**.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The value, or `***` for passwords and keys.
    #[must_use]
    pub fn shown(&self) -> &str {
        if self.keyword.secret { "***" } else { &self.value }
    }

    /// Where the value comes from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }
}

impl fmt::Debug for ResolvedParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?} ({})", self.keyword.name, self.shown(), self.source)
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnInfo => f.write_str("conninfo"),
            Self::Flag(flag) => f.write_str(flag),
            Self::ServiceFile { path, section, line } => {
                write!(f, "service file {} line {line} [{section}]", path.display())
            }
            Self::Variable(name) => f.write_str(name),
            Self::PasswordFile { path, line } => {
                write!(f, "password file {} line {line}", path.display())
            }
            Self::Default => f.write_str("default"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PasswordFileAccess(path) => write!(
                f,
                "password file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
                path.display()
            ),
            Self::PasswordFileNotPlain(path) => {
                write!(f, "password file \"{}\" is not a plain file", path.display())
            }
            Self::NoEffect(keyword) => f.write_str(&format!("connection option \"{keyword}\" has no effect")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::vec;

    /// A home directory for one test, with these files.
    fn home(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let home = std::env::temp_dir().join(format!("tapster-conninfo-{}-{name}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        for (file, contents) in files {
            fs::write(home.join(file), contents).unwrap();
            fs::set_permissions(home.join(file), fs::Permissions::from_mode(0o600)).unwrap();
        }
        home
    }

    fn environment() -> Environment {
        Environment::empty().with_user("jane").with_socket_directory("/run/pg")
    }

    fn resolve(conninfo: &str, environment: &Environment) -> Resolved {
        conninfo.parse::<ConnInfo>().unwrap().resolve(environment).unwrap()
    }

    fn passwords(resolved: &Resolved) -> Vec<Option<&[u8]>> {
        resolved.hosts.iter().map(|host| host.password.as_ref().map(Password::as_bytes)).collect()
    }

    #[test]
    fn each_source_takes_precedence_over_the_next() {
        let home = home("order", &[(".pg_service.conf", "[s]\nport=2\nuser=s\ndbname=s\n")]);
        let environment = environment()
            .with_home(&home)
            .with_variable("PGPORT", "3")
            .with_variable("PGUSER", "v")
            .with_variable("PGDATABASE", "v")
            .with_variable("PGAPPNAME", "v");
        let mut conninfo: ConnInfo = "service=s port=1".parse().unwrap();
        conninfo.set_from_flag("-U", "user", "f").unwrap();
        let resolved = conninfo.resolve(&environment).unwrap();
        let path = home.join(".pg_service.conf");
        for (keyword, value, source) in [
            ("port", "1", Source::ConnInfo),
            ("user", "f", Source::Flag("-U")),
            ("dbname", "s", Source::ServiceFile { path, section: "s".into(), line: 4 }),
            ("application_name", "v", Source::Variable("PGAPPNAME")),
            ("sslmode", "prefer", Source::Default),
            ("host", "/run/pg", Source::Default),
        ] {
            assert_eq!(resolved.get(keyword), Some(value), "{keyword}");
            assert_eq!(resolved.source(keyword), Some(&source), "{keyword}");
        }
        assert_eq!((resolved.get("hostaddr"), resolved.source("hostaddr")), (None, None));
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn empty_values_of_some_parameters_mean_the_default() {
        let environment = environment().with_variable("PGPORT", "").with_variable("PGUSER", "v");
        let resolved = resolve("host= user='' dbname=''", &environment);
        // `host=` swallows the next word, as in libpq.
        assert_eq!(resolved.get("host"), Some("user=''"));
        let resolved = resolve("host='' user='' dbname=''", &environment);
        for (keyword, value) in [("host", "/run/pg"), ("port", "5432"), ("user", "jane"), ("dbname", "jane")]
        {
            assert_eq!(resolved.get(keyword), Some(value), "{keyword}");
            assert_eq!(resolved.source(keyword), Some(&Source::Default), "{keyword}");
        }
    }

    #[test]
    fn a_missing_user_name_is_an_error() {
        let error = ConnInfo::new().resolve(&Environment::empty()).unwrap_err();
        assert_eq!(error.to_string(), "no user name is known");
        assert!("user=u".parse::<ConnInfo>().unwrap().resolve(&Environment::empty()).is_ok());
    }

    #[test]
    fn the_variable_pgrequiressl_sets_sslmode() {
        let required = environment().with_variable("PGREQUIRESSL", "1");
        assert_eq!(resolve("", &required).source("sslmode"), Some(&Source::Variable("PGREQUIRESSL")));
        assert_eq!(resolve("", &required).get("sslmode"), Some("require"));
        let both = required.with_variable("PGSSLMODE", "disable");
        assert_eq!(resolve("", &both).get("sslmode"), Some("disable"));
        let not_required = environment().with_variable("PGREQUIRESSL", "0");
        assert_eq!(resolve("", &not_required).get("sslmode"), Some("prefer"));
    }

    #[test]
    fn the_systems_certificates_change_only_the_default_of_sslmode() {
        assert_eq!(resolve("sslrootcert=system", &environment()).get("sslmode"), Some("verify-full"));
        assert_eq!(resolve("sslrootcert=system sslmode=allow", &environment()).get("sslmode"), Some("allow"));
        assert_eq!(resolve("sslrootcert=System", &environment()).get("sslmode"), Some("prefer"));
    }

    #[test]
    fn a_service_may_be_in_the_systems_file() {
        let home = home("system", &[("pg_service.conf", "[s]\nport=2\n")]);
        let system = environment().with_system_configuration(&home);
        assert_eq!(resolve("service=s", &system).get("port"), Some("2"));
        let variable = environment().with_variable("PGSYSCONFDIR", &home).with_variable("PGSERVICE", "s");
        assert_eq!(resolve("", &variable).get("port"), Some("2"));
        let file = home.join("pg_service.conf");
        let named = format!("service=s servicefile={}", file.display());
        assert_eq!(resolve(&named, &environment()).get("port"), Some("2"));

        let refusal = |conninfo: &str, environment| {
            conninfo.parse::<ConnInfo>().unwrap().resolve(environment).unwrap_err().to_string()
        };
        assert_eq!(refusal("service=t", &system), "definition of service \"t\" not found");
        assert_eq!(refusal("service=s servicefile=/no", &system), "service file \"/no\" not found");
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn each_host_has_its_own_password() {
        let home = home("hosts", &[(".pgpass", "a:*:*:*:pa\nb:2:*:*:pb\nlocalhost:*:*:*:pl\nd:*:*:*:\n")]);
        let environment = environment().with_home(&home);
        let resolved = resolve("host=a,b,,c,d port=1,2,3,4,5", &environment);
        assert_eq!(passwords(&resolved), vec![Some(&b"pa"[..]), Some(b"pb"), Some(b"pl"), None, None]);
        let entry = resolved.hosts[1].password_entry.clone().unwrap();
        assert_eq!(entry, PasswordFileEntry { path: home.join(".pgpass"), line: 2 });
        let source = Source::PasswordFile { path: home.join(".pgpass"), line: 1 };
        assert_eq!((resolved.get("password"), resolved.source("password")), (Some("pa"), Some(&source)));

        let given = resolve("host=a,b password=x", &environment);
        assert_eq!(passwords(&given), vec![Some(&b"x"[..]), Some(b"x")]);
        assert_eq!(given.source("password"), Some(&Source::ConnInfo));
        assert_eq!(given.hosts[0].password_entry, None);
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn the_password_file_names_the_database_replication_for_physical_replication() {
        let home =
            home("replication", &[(".pgpass", "h:*:d:*:named\nh:*:replication:*:own\ni:*:d:*:named\n")]);
        let environment = environment().with_home(&home);
        for (conninfo, password) in [
            ("host=h dbname=d replication=true", Some(&b"own"[..])),
            ("host=h dbname=d replication=on", Some(b"own")),
            ("host=h dbname=d", Some(b"named")),
            ("host=h dbname=d replication=database", Some(b"named")),
            ("host=i dbname=d replication=true", Some(b"named")),
            ("host=i dbname=e replication=true", None),
        ] {
            assert_eq!(passwords(&resolve(conninfo, &environment)), vec![password], "{conninfo}");
        }
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn ignored_files_and_parameters_cause_warnings() {
        let home = home("warnings", &[(".pgpass", "*:*:*:*:p")]);
        let environment = environment().with_home(&home);
        let path = home.join(".pgpass");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let resolved = resolve("host=h", &environment);
        assert_eq!(passwords(&resolved), vec![None]);
        assert_eq!(resolved.warnings(), [Warning::PasswordFileAccess(path.clone())]);
        // No warning where the file is not needed.
        assert_eq!(resolve("password=x", &environment).warnings(), []);

        let directory = format!("passfile='{}'", home.display());
        assert_eq!(
            resolve(&directory, &environment).warnings(),
            [Warning::PasswordFileNotPlain(home.clone())]
        );
        assert_eq!(resolve("passfile=/no/such", &environment).warnings(), []);

        let resolved = resolve("passfile=/no krbsrvname=x gssdelegation=0 sslcompression=1", &environment);
        let shown: Vec<_> = resolved.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "connection option \"sslcompression\" has no effect",
                "connection option \"krbsrvname\" has no effect"
            ]
        );
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn settings_for_the_session_come_from_variables() {
        let environment = environment()
            .with_variable("PGTZ", "UTC")
            .with_variable("PGGEQO", "Default")
            .with_variable("PGDATESTYLE", "iso");
        let expected = vec![("datestyle", "iso".into()), ("timezone", "UTC".into())];
        assert_eq!(resolve("", &environment).session_defaults, expected);
    }

    #[test]
    fn secrets_are_never_shown() {
        let environment = environment().with_variable("PGPASSWORD", "s3cret");
        let resolved = resolve("sslpassword=s3cret", &environment);
        let shown = format!("{resolved:?}");
        assert!(shown.contains("password=\"***\" (PGPASSWORD)") && !shown.contains("s3cret"), "{shown}");
        assert!(resolved.iter().all(|parameter| parameter.shown() != "s3cret"));
    }

    #[test]
    fn every_source_has_a_name() {
        let path = PathBuf::from("/f");
        for (source, name) in [
            (Source::ConnInfo, "conninfo"),
            (Source::Flag("-U"), "-U"),
            (Source::Variable("PGUSER"), "PGUSER"),
            (Source::Default, "default"),
            (Source::PasswordFile { path: path.clone(), line: 3 }, "password file /f line 3"),
            (Source::ServiceFile { path, section: "s".into(), line: 2 }, "service file /f line 2 [s]"),
        ] {
            assert_eq!(source.to_string(), name);
        }
    }
}

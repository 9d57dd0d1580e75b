//! The values filled in from files, variables and defaults, and libpq's errors about values.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tapster::conninfo::{
    ConnInfo, ConnInfoError, ConnInfoErrorKind, Environment, HostConfig, KEYWORDS, Resolved, Source, Warning,
};

use crate::inputs::CHECKED;
use crate::peer::{Answer, Libpq, libpq};

/// Files and variables around a connection string.
struct Scene {
    home: PathBuf,
    variables: Vec<(String, String)>,
}

impl Scene {
    /// An empty home directory, and a system without a service file.
    fn new(name: &str) -> Self {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conninfo").join(name);
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).unwrap();
        let scene = Self { home, variables: Vec::new() };
        let home = scene.path("");
        scene.variable("HOME", &home).variable("PGSYSCONFDIR", &home)
    }

    fn path(&self, name: &str) -> String {
        self.home.join(name).to_str().unwrap().trim_end_matches('/').into()
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn file(self, name: &str, mode: u32, contents: impl AsRef<[u8]>) -> Self {
        fs::write(self.home.join(name), contents).unwrap();
        fs::set_permissions(self.home.join(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn environment(&self, libpq: &Libpq) -> Environment {
        let environment = Environment::empty()
            .with_home(&self.home)
            .with_user(&libpq.user)
            .with_socket_directory(default_socket_directory(libpq));
        self.variables
            .iter()
            .fold(environment, |environment, (name, value)| environment.with_variable(name, value))
    }

    /// Compares the resolved values of each string, and the warnings.
    fn compare(&self, strings: &[&str]) {
        let libpq = libpq();
        let environment = self.environment(libpq);
        let variables: Vec<_> = self.variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let strings: Vec<String> = strings.iter().map(|&string| string.into()).collect();
        let run = libpq.ask("start", &variables, &strings);
        let mut wrong = Vec::new();
        for (string, answer) in strings.iter().zip(&run.answers) {
            let resolved = string.parse::<ConnInfo>().and_then(|conninfo| conninfo.resolve(&environment));
            if let Err(message) = compare(libpq, &self.home, &resolved, answer) {
                wrong.push(format!("{string:?}: {message}"));
            }
            for warning in resolved.iter().flat_map(|resolved| resolved.warnings()) {
                // libpq ignores these parameters without a warning.
                if matches!(warning, Warning::NoEffect(_)) {
                    continue;
                }
                assert!(run.stderr.contains(&format!("WARNING: {warning}\n")), "{warning}: {}", run.stderr);
            }
        }
        assert!(wrong.is_empty(), "libpq {}: {} differ\n{}", libpq.version, wrong.len(), wrong.join("\n"));
    }
}

/// libpq's compiled-in socket directory, taken from its error about a port at which no server listens.
fn default_socket_directory(libpq: &Libpq) -> String {
    let run = libpq.ask("start", &[], &["port=1".into()]);
    let text = String::from_utf8(run.answers[0]["error"].clone()).unwrap();
    let path = text.split('"').nth(1).unwrap_or_else(|| panic!("no socket in {text:?}"));
    path.strip_suffix("/.s.PGSQL.1").unwrap().into()
}

fn compare(
    libpq: &Libpq,
    home: &Path,
    resolved: &Result<Resolved, ConnInfoError>,
    answer: &Answer,
) -> Result<(), String> {
    let mut theirs = String::from_utf8_lossy(&answer["error"]).into_owned();
    if libpq.version < 18 && theirs.starts_with("invalid ssl_m") {
        // From 18 on libpq quotes the names of these two parameters, and of no others.
        theirs = theirs.replacen("invalid ", "invalid \"", 1).replacen(" value", "\" value", 1);
    }
    if is_too_old(libpq, resolved, &theirs) {
        return Ok(());
    }
    let config = resolved.clone().and_then(|resolved| resolved.config());
    let ours = match &config {
        Ok(config) => failures(&config.hosts),
        // GSSAPI, OAuth and values that need them: libpq may support these.
        Err(error) if error.kind() == ConnInfoErrorKind::Unsupported => return Ok(()),
        Err(error) => Some(format!("{error}\n")),
    };
    if ours.as_ref().is_some_and(|ours| *ours != theirs) {
        return Err(format!("\n  libpq {theirs:?}\n  ours  {ours:?}"));
    }
    // If libpq has refused the string, it has not filled in all values.
    let (Ok(resolved), Ok(config)) = (resolved, config) else { return Ok(()) };
    if config.hosts.iter().any(|host| host.endpoint.is_err()) {
        return Ok(());
    }
    let password = config.hosts.last().and_then(|host| host.password.as_ref());
    if password.map(|password| password.as_bytes()) != answer.get("used-password").map(Vec::as_slice) {
        return Err(format!("another password than libpq's: {:?}", resolved.source("password")));
    }
    for keyword in KEYWORDS.iter().filter(|keyword| libpq.knows(keyword.name)) {
        let theirs = answer.get(keyword.name).map(|value| String::from_utf8_lossy(value).into_owned());
        let ours = resolved.get(keyword.name);
        let is_same = match (keyword.name, theirs.as_deref(), ours) {
            (_, theirs, ours) if theirs == ours => true,
            // libpq does not return these defaults, nor a password from the password file.
            ("host" | "port", None | Some(""), Some(_)) => {
                resolved.source(keyword.name) == Some(&Source::Default)
            }
            ("password", None | Some(""), Some(_)) => {
                matches!(resolved.source("password"), Some(Source::PasswordFile { .. }))
            }
            ("passfile", Some(theirs), None | Some("")) => Path::new(theirs) == home.join(".pgpass"),
            ("sslcertmode", Some("allow"), None) => true,
            // libpq does not remember the service.
            ("service", None, Some(_)) => true,
            // A libpq that is built with GSSAPI has the default `prefer`.
            ("gssencmode", Some("prefer"), Some("disable")) => true,
            _ => false,
        };
        if !is_same {
            return Err(format!("{}\n  libpq {theirs:?}\n  ours  {ours:?}", keyword.name));
        }
    }
    Ok(())
}

/// Parameters and values that this libpq does not have yet.
fn is_too_old(libpq: &Libpq, resolved: &Result<Resolved, ConnInfoError>, theirs: &str) -> bool {
    let mut younger = KEYWORDS.iter().filter(|keyword| keyword.since > libpq.version);
    let is_system = resolved.as_ref().is_ok_and(|resolved| resolved.get("sslrootcert") == Some("system"));
    younger.any(|keyword| theirs == format!("invalid connection option \"{}\"\n", keyword.name))
        || is_system && libpq.version < 16
}

/// libpq's error text if no server answers on any Unix socket of the list. `None` if the list leads to TCP,
/// where libpq would still wait.
fn failures(hosts: &[HostConfig]) -> Option<String> {
    let mut text = String::new();
    for host in hosts {
        match &host.endpoint {
            Ok(endpoint) => {
                let path = endpoint.socket_path()?.display().to_string();
                let reason =
                    if path.starts_with('@') { "Connection refused" } else { "No such file or directory" };
                text += &format!(
                    "connection to server on socket \"{path}\" failed: {reason}\n\tIs the server running \
                     locally and accepting connections on that socket?\n"
                );
            }
            Err(error) => {
                text += &format!("{error}\n");
                if error.kind() == ConnInfoErrorKind::InvalidValue {
                    break;
                }
            }
        }
    }
    Some(text)
}

#[test]
fn the_default_user_is_that_of_the_process() {
    let resolved = "port=1".parse::<ConnInfo>().unwrap().resolve(&Environment::from_process()).unwrap();
    let is_default = resolved.source("user") == Some(&Source::Default);
    assert!(!is_default || resolved.get("user") == Some(&libpq().user));
}

#[test]
fn values_are_refused_in_libpqs_words() {
    Scene::new("values").compare(CHECKED);
}

#[test]
fn variables_count_where_the_string_sets_nothing() {
    let scene = Scene::new("variables")
        .variable("PGHOST", "/e,/f")
        .variable("PGPORT", "1,2")
        .variable("PGUSER", "e")
        .variable("PGPASSWORD", "pe")
        .variable("PGSSLMODE", "allow")
        .variable("PGREQUIRESSL", "1")
        .variable("PGAPPNAME", "")
        .variable("PGDATABASE", "host=/d")
        .variable("PGCONNECT_TIMEOUT", "7");
    scene.compare(&[
        "",
        "host=/x port=5",
        "host=/x",
        "host=",
        "port=5",
        "port=",
        "user=",
        "dbname=",
        "password=",
        "password=x",
        "sslmode=prefer",
        "application_name=a",
        "postgres://u@:7/d",
        "postgres:///?host=/q",
        "hostaddr=127.0.0.1",
    ]);
}

#[test]
fn variables_may_be_set_to_the_empty_text() {
    let names =
        ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGPASSFILE", "PGHOSTADDR", "PGOPTIONS"];
    let scene = names.iter().fold(Scene::new("empty"), |scene, name| scene.variable(name, ""));
    scene.compare(&["port=1", "host=/x", "host=/x user=u"]);
    for name in ["PGSSLMODE", "PGCHANNELBINDING", "PGTARGETSESSIONATTRS"] {
        Scene::new("empty").variable(name, "").compare(&["host=/x"]);
    }
}

#[test]
fn pgsslmode_overrides_the_old_pgrequiressl() {
    Scene::new("requiressl").variable("PGREQUIRESSL", "1").compare(&["host=/x", "host=/x sslmode=allow"]);
    Scene::new("requiressl").variable("PGREQUIRESSL", "0").compare(&["host=/x"]);
    Scene::new("requiressl").variable("PGREQUIRESSL", "").compare(&["host=/x"]);
    let both = Scene::new("requiressl").variable("PGREQUIRESSL", "1").variable("PGSSLMODE", "disable");
    both.compare(&["host=/x"]);
    Scene::new("system").variable("PGSSLROOTCERT", "system").compare(&[
        "host=/x",
        "host=/x sslmode=prefer",
        "host=/x sslrootcert=",
        "host=/x sslmode=verify-full",
    ]);
}

#[test]
fn services_rank_between_strings_and_variables() {
    let file = "port=1\n[a]\nhost=/a\nport=2\nhost=/b\nuser=\n# c\n\n [b] x\n\tdbname=d = e \t\nhost= @x\n[c\n[a]\nport=9\n\
                [d]\nhosts=1\n[e]\nhost\n[f]\nservice=a\n[g]\npassword=x=y\nhost=/g\n[h]\nport =1\n[]\nhost=/empty\n[i]\nrequiressl=1";
    let scene = Scene::new("service")
        .file(".pg_service.conf", 0o644, file)
        .variable("PGHOST", "/env")
        .variable("PGUSER", "env")
        .variable("PGPORT", "7");
    scene.compare(&[
        "service=a",
        "service=a host=/x",
        "service=a user=u port=",
        "service=b",
        "service=c",
        "service=d",
        "service=e",
        "service=f",
        "service=g",
        "service=h",
        "service=i",
        "service=",
        "service=nowhere",
        "postgres:///?service=a",
        "host=/x",
    ]);
    let scene = Scene::new("service").file(".pg_service.conf", 0o644, file).variable("PGSERVICE", "a");
    scene.compare(&["", "service=b", "service=", "port=5"]);
    Scene::new("service").variable("PGSERVICE", "").compare(&["host=/x"]);
}

#[test]
fn the_first_service_file_with_the_section_counts() {
    let scene = || {
        let scene = Scene::new("files");
        fs::create_dir_all(scene.home.join("system")).unwrap();
        let system = scene.path("system");
        scene
            .file(".pg_service.conf", 0o644, "[a]\nhost=/home")
            .file("system/pg_service.conf", 0o644, "[a]\nhost=/system\n[b]\nhost=/b")
            .file("named", 0o644, "[c]\nhost=/c\n")
            .variable("PGSYSCONFDIR", &system)
    };
    const ALL: &[&str] = &["service=a port=1", "service=b port=1", "service=c port=1", "service=d port=1"];
    scene().compare(ALL);
    let named = scene().path("named");
    scene().variable("PGSERVICEFILE", &named).compare(ALL);
    scene().variable("PGSERVICEFILE", "/no/such").compare(ALL);
    scene().variable("PGSERVICEFILE", "").compare(ALL);
    scene().variable("PGSYSCONFDIR", "/no/such").compare(ALL);
}

#[test]
fn lines_of_a_service_file_have_a_limit() {
    for length in [1020, 1021, 1022, 1023, 1024, 3000] {
        for (head, tail) in
            [("", ""), ("", "\n"), ("", "\r\n"), ("[a]\n", "\nport=1"), ("[a]\nport=1\n[b]\n", "\n")]
        {
            let line = format!("#{}", "x".repeat(length - 1));
            let scene = Scene::new("lines").file(".pg_service.conf", 0o644, format!("{head}{line}{tail}"));
            scene.compare(&["service=a host=/x"]);
        }
    }
}

#[test]
fn passwords_come_from_the_same_line_as_libpqs() {
    let file = b"# c\n\n:1:d:u:no\nh:1:d:u:first\nh:1:d:u:second\nlocalhost:*:*:u:local\r\n/x:2:*:u:direct\ntory\n/x:2:*:u:dir\n\
        ::1:*:*:u:bare6\n\\:\\:2:*:*:u:escaped6\n@s:*:*:u:abstract\n1.2.3.4:*:*:u:address\nb\\\\s:*:*:u:b\n\
        /e:*:*:u:a\\:b\\\\c\\d\\\n/f:*:*:u:a:b\n/g:*:*:u:\n/g:*:*:u:late\n/h:*:*:\\u:h\n/i:\\*:*:u:star\n/j:*:a\\:b:u:j\n\
        /k:*:a:b:u:k\n/l:5432:*:u:l\n/m:*:*:u:\xe4\n  /n:*:*:u:n\n/o:*:*:u:p \n/p:*:*:u:\\\n*:*:*:any:any\n#:*:*:u:comment\n/z:*:*:u:end";
    let strings = [
        "user=u port=1",
        "user=u host='' port=1",
        "user=u host=/x port=2",
        "user=u host=/x port=3",
        "user=u hostaddr=::1",
        "user=u hostaddr=::2",
        "user=u host=@s",
        "user=u hostaddr=1.2.3.4",
        "user=u hostaddr=1.2.3.4 host=/e",
        "user=u host=/e",
        "user=u host=/f",
        "user=u host=/g",
        "user=u host=/h",
        "user=u host=/i port=1",
        "user=u host=/j dbname=a:b",
        "user=u host=/k dbname=a:b",
        "user=u host=/l",
        "user=u host=/l port=",
        "user=u host=/m",
        "user=u host=/n",
        "user=u host=/o",
        "user=u host=/p",
        "user=any host=/q",
        "user=u host=/z",
        "user=u host=/z password=given",
        "user=u host=/z password=",
        "user=u host=/z passfile=/no/such",
        "user=u host=/z passfile=",
        "user=u host=#",
        "user=u host=/z, hostaddr=,::1",
        "user=u host=/q,/z",
        "user=none host=/q",
    ];
    // The scene leaves the default socket directory and the host names as libpq has them.
    Scene::new("passwords").file(".pgpass", 0o600, file).compare(&strings);
    let named = Scene::new("passwords").path("secret");
    let scene = Scene::new("passwords").file("secret", 0o400, file).variable("PGPASSFILE", &named);
    scene.compare(&["user=u host=/z", "user=u host=/e", "user=u host=/z passfile=/no/such"]);
    scene.variable("PGPASSWORD", "variable").compare(&["user=u host=/z", "user=u host=/z password="]);
}

#[test]
fn password_files_open_to_others_are_ignored_with_a_warning() {
    for mode in [0o600, 0o400, 0o700, 0o640, 0o604, 0o610, 0o777] {
        Scene::new("modes").file(".pgpass", mode, "*:*:*:*:p").compare(&["host=/x"]);
    }
    let scene = Scene::new("modes");
    fs::create_dir(scene.home.join(".pgpass")).unwrap();
    scene.compare(&["host=/x"]);
    Scene::new("modes").compare(&["host=/x passfile=/dev/null"]);
}

//! The description of a cluster.

use core::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::cluster::Cluster;
use super::servers::{Server, give_to_server_user};
use super::template::Recipe;

/// The password of the superuser `postgres`.
pub const POSTGRES_PASSWORD: &str = "the superuser's";
/// The password of `repl`, who may replicate.
pub const REPL_PASSWORD: &str = "walrus-17";

/// How the server authenticates all roles, over TCP and over the Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The server asks for no password.
    Trust,
    /// The password is sent in clear text, and stored as SCRAM-SHA-256.
    Password,
    /// MD5, stored as MD5.
    Md5,
    /// SCRAM-SHA-256, stored as such.
    Scram,
}

impl Auth {
    /// Every method.
    pub const ALL: [Self; 4] = [Self::Trust, Self::Password, Self::Md5, Self::Scram];

    fn hba_method(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Scram => "scram-sha-256",
        }
    }

    fn password_encryption(self) -> &'static str {
        if self == Self::Md5 { "md5" } else { "scram-sha-256" }
    }
}

/// Describes a [`Cluster`]; made by [`Cluster::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(super) server: Server,
    auth: Auth,
    segment_size_mb: u32,
    initdb: Option<Vec<String>>,
    durable: bool,
    archive: bool,
    hba: Vec<String>,
    settings: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
}

impl Builder {
    pub(super) fn new(server: &Server) -> Self {
        Self {
            server: server.clone(),
            auth: Auth::Trust,
            segment_size_mb: 1,
            initdb: None,
            durable: false,
            archive: false,
            hba: Vec::new(),
            settings: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Sets the authentication method; by default [`Auth::Trust`].
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Sets the WAL segment size in MiB; by default 1. PostgreSQL 10 always has 16, because its size was
    /// fixed when it was compiled: ask [`Cluster::segment_size`].
    pub fn segment_size_mb(mut self, size: u32) -> Self {
        self.segment_size_mb = size;
        self
    }

    /// Adds a line of `postgresql.conf`; the last line of a name counts.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a line of `pg_hba.conf`, before those of [`auth`](Self::auth).
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// Adds a file to the data directory, such as `server.key`, readable by the server's user only.
    pub fn file(mut self, name: &str, contents: &[u8]) -> Self {
        self.files.push((name.to_owned(), contents.to_vec()));
        self
    }

    /// Leaves `fsync` on, which clusters turn off for speed.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Lets the server keep its own copy of every finished segment, in [`Cluster::archive_dir`].
    pub fn archive(mut self) -> Self {
        self.archive = true;
        self
    }

    /// Runs `initdb` with these options (none, or `--data-checksums`, ...) for this cluster alone. The
    /// cluster then has its own system identifier; all other clusters of one major version and segment size
    /// share theirs.
    pub fn own_initdb(mut self, options: &[&str]) -> Self {
        self.initdb = Some(options.iter().map(|&option| option.to_owned()).collect());
        self
    }

    /// Makes the data directory and starts the server.
    ///
    /// # Panics
    /// If the server does not start, with the end of its log.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let cluster = Cluster::new(self.server.clone(), self.segment_size());
        self.make_data(&cluster);
        cluster.start_on_free_port();
        cluster
    }

    fn segment_size(&self) -> u64 {
        let mib = if self.server.major < 11 { 16 } else { self.segment_size_mb };
        u64::from(mib) * 1024 * 1024
    }

    fn make_data(&self, cluster: &Cluster) {
        let data = cluster.data_dir();
        match &self.initdb {
            None => self.recipe(&[]).copy_to(&self.server, &data),
            Some(options) => self.recipe(options).make(&self.server, &data),
        }
        let append = |name: &str, text: &str| {
            let path = data.join(name);
            let old = fs::read_to_string(&path).expect("initdb wrote the file");
            fs::write(path, old + text).expect("the data directory is writable");
        };
        append("postgresql.conf", &self.postgresql_conf(&cluster.archive_dir()));
        fs::write(data.join("pg_hba.conf"), self.pg_hba_conf()).expect("the data directory is writable");
        for (name, contents) in &self.files {
            cluster.write_file(name, contents);
        }
        fs::create_dir(cluster.archive_dir()).expect("the directory is ours");
        give_to_server_user(&cluster.archive_dir());
    }

    fn recipe(&self, extra: &[String]) -> Recipe {
        let mut options: Vec<String> =
            ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
                .map(str::to_owned)
                .into();
        if self.server.major >= 11 {
            options.push(format!("--wal-segsize={}", self.segment_size_mb));
        }
        options.extend_from_slice(extra);
        let statements = format!(
            "SET password_encryption = '{}'\n\
             ALTER ROLE postgres PASSWORD {}\n\
             CREATE ROLE repl LOGIN REPLICATION PASSWORD {}\n",
            self.auth.password_encryption(),
            quote(POSTGRES_PASSWORD),
            quote(REPL_PASSWORD),
        );
        Recipe { options, statements }
    }

    fn postgresql_conf(&self, archive_dir: &std::path::Path) -> String {
        let mut conf = String::from("\n# of the tests\nlog_line_prefix = '%m [%p] '\n");
        let mut set =
            |name: &str, value: &str| writeln!(conf, "{name} = {}", quote(value)).expect("a String");
        set("password_encryption", self.auth.password_encryption());
        set("listen_addresses", "127.0.0.1");
        set("shared_buffers", "16MB");
        // Keeps shared memory in the data directory, so that a killed server leaves nothing outside of it.
        set("dynamic_shared_memory_type", "mmap");
        if !self.durable {
            set("fsync", "off");
        }
        if self.archive {
            set("archive_mode", "on");
            set("archive_command", &archive_command(archive_dir));
        }
        for (name, value) in &self.settings {
            set(name, value);
        }
        conf
    }

    fn pg_hba_conf(&self) -> String {
        let method = self.auth.hba_method();
        let mut lines = self.hba.clone();
        for database in ["all", "replication"] {
            lines.push(format!("local {database} all {method}"));
            lines.push(format!("host {database} all 127.0.0.1/32 {method}"));
        }
        lines.join("\n") + "\n"
    }
}

/// Copies a segment and then renames the copy, so that a name in the directory stands for a whole copy.
pub(super) fn archive_command(dir: &std::path::Path) -> String {
    let dir = dir.display();
    format!("cp %p '{dir}/%f.tmp' && mv '{dir}/%f.tmp' '{dir}/%f'")
}

/// A literal of SQL, and of `postgresql.conf` as well.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

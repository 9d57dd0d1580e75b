//! The `server` of a document: which server a command is about.

use serde_json::{Value, json};

use tapster::client::{Connection, ServerName};
use tapster::conninfo::Config;
use tapster::types::{ServerVersion, SystemId};

/// What is known about a server. Before a connection that may be nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    /// The name that logs and metrics have for the server; only `receive-wal` gives one.
    pub(super) label: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) version: Option<ServerVersion>,
    pub(super) system_id: Option<SystemId>,
}

impl About {
    /// The server that a connection leads to.
    pub(super) fn connected(connection: &Connection) -> Self {
        Self { version: connection.server_version().ok(), ..Self::named(connection.server()) }
    }

    pub(super) fn named(server: &ServerName) -> Self {
        Self { host: Some(server.host.clone()), port: Some(server.port), ..Self::default() }
    }

    /// The server that these parameters name. Of several hosts it is unknown which one it will be.
    pub(super) fn wanted(config: &Config) -> Self {
        let [host] = config.hosts.as_slice() else { return Self::default() };
        let port = host.endpoint.as_ref().ok().map(|endpoint| endpoint.port);
        Self { host: host.name.clone().or_else(|| host.address.clone()), port, ..Self::default() }
    }

    /// `db1:5432`.
    pub(super) fn address(&self) -> String {
        let host = self.host.as_deref().unwrap_or_default();
        self.port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
    }

    /// The object, which has the same members everywhere; `null` is what is not known.
    pub(super) fn to_json(&self) -> Value {
        let mut value = match &self.label {
            Some(label) => json!({ "name": label }),
            None => json!({}),
        };
        for (key, known) in [
            ("host", self.host.as_deref().into()),
            ("port", self.port.into()),
            ("version", self.version.map(|version| version.to_string()).into()),
            ("version_num", self.version.map(ServerVersion::num).into()),
            ("system_id", self.system_id.map(|id| id.to_string()).into()),
        ] {
            value[key] = known;
        }
        value
    }
}

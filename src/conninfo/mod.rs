//! Connection parameters: everything libpq does with them before it connects.
//!
//! Three steps, each with a value that can be inspected:
//!
//! 1. [`ConnInfo`] is what the user wrote: a key/value string, a URI, or single parameters.
//! 2. [`ConnInfo::resolve`] adds the service file, environment variables, defaults and the password file.
//!    [`Resolved`] knows where each value comes from.
//! 3. [`Resolved::config`] checks every value and gives a typed [`Config`].
//!
//! Nothing here touches the network; files are read in the second step only. Rules and error texts are those
//! of libpq 18; a test compares them with libpq itself.
//!
//! ```
//! use tapster::conninfo::{ConnInfo, Environment, Source};
//! let environment = Environment::empty().with_user("barman").with_variable("PGPORT", "5433");
//! let conninfo: ConnInfo = "host=db1,db2 sslmode=verify-full".parse()?;
//! let resolved = conninfo.resolve(&environment)?;
//! assert_eq!(resolved.source("port"), Some(&Source::Variable("PGPORT")));
//! let config = resolved.config()?;
//! assert_eq!((config.hosts.len(), config.user.as_str()), (2, "barman"));
//! # Ok::<(), tapster::conninfo::ConnInfoError>(())
//! ```

mod config;
mod conn_info;
mod environment;
mod error;
mod hosts;
mod key_value;
mod keywords;
mod numbers;
mod options;
mod password_file;
mod resolve;
mod secret;
mod service_file;
mod tls;
mod uri;

pub use config::{Config, Keepalives};
pub use conn_info::ConnInfo;
pub use environment::{Environment, system_user_name};
pub use error::{ConnInfoError, ConnInfoErrorKind};
pub use hosts::{Endpoint, HostConfig, HostTarget, PasswordFileEntry, parse_ipv4};
pub use keywords::{KEYWORDS, Keyword};
pub use options::{LoadBalanceHosts, Replication, TargetSessionAttrs};
pub use resolve::{Resolved, ResolvedParameter, Source, Warning};
pub use secret::{Password, ScramKey};
pub use tls::{RootCertificates, SslCertMode, SslMode, SslNegotiation, TlsConfig, TlsFile, TlsVersion};

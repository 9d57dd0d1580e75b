//! Connections of the library, for tests.

use core::time::Duration;

use tapster::client::Connection;
use tapster::conninfo::{Config, ConnInfo, Environment};

/// Runs a test's future to its end.
///
/// # Panics
/// After five minutes, because the connection waits for something that never arrives.
#[track_caller]
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let limit = Duration::from_secs(300);
        tokio::time::timeout(limit, test).await.expect("the test ends within five minutes")
    })
}

/// The configuration of a connection string, independent of the environment.
pub fn config(conninfo: &str) -> Config {
    let conninfo: ConnInfo = conninfo.parse().expect("a connection string");
    conninfo.resolve(&Environment::empty()).and_then(|resolved| resolved.config()).expect("a configuration")
}

/// Connects.
pub async fn connect(conninfo: &str) -> Connection {
    Connection::connect(&config(conninfo)).await.unwrap_or_else(|error| panic!("{error}"))
}

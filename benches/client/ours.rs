//! The measured work, done by tapster.

use tapster::client::{Connection, Connector, QueryEvent, ResultSet};
use tapster::conninfo::{Config, ConnInfo, Environment};

use crate::{Meter, Work};

pub(crate) fn run(work: &Work<'_>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let conninfo: ConnInfo = work.conninfo.parse().expect("a connection string");
    let config = conninfo.resolve(&Environment::empty()).and_then(|resolved| resolved.config());
    runtime.block_on(measure(work, config.expect("a configuration"))).expect("no error")
}

async fn measure(work: &Work<'_>, config: Config) -> Result<String, tapster::Error> {
    let connector = Connector::new(config);
    let mut connection = connector.connect().await?;
    let meter = Meter::start();
    let mut length = 0;
    match work.task {
        "connect" => {
            for _ in 0..work.count {
                Connection::connect(connector.config()).await?.close().await?;
            }
        }
        "connect-cached" => {
            for _ in 0..work.count {
                connector.connect().await?.close().await?;
            }
        }
        "query" => {
            for _ in 0..work.count {
                length += length_of(&connection.simple_query(work.sql).await?[0]);
            }
        }
        "query-params" => {
            for _ in 0..work.count {
                length += length_of(&connection.query_params(work.sql, &[]).await?);
            }
        }
        "rows" => length = length_of(&connection.simple_query(work.sql).await?[0]),
        "rows-streamed" => {
            let mut rows = connection.query(work.sql).await?;
            while let Some(event) = rows.next().await? {
                if let QueryEvent::Row(row) = event {
                    for column in 0..row.len() {
                        length += row.get(column)?.map_or(0, <[u8]>::len);
                    }
                }
            }
        }
        other => panic!("no task {other}"),
    }
    Ok(meter.stop(work, length))
}

/// The bytes of all values.
fn length_of(set: &ResultSet) -> usize {
    let values = set.rows().flat_map(|row| (0..row.len()).map(move |column| row.get(column)));
    values.map(|value| value.ok().flatten().map_or(0, <[u8]>::len)).sum()
}

//! The measured work, done by tokio-postgres.

use core::pin::pin;

use futures_util::TryStreamExt as _;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::{Meter, Work};

pub(crate) fn run(work: &Work<'_>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(work)).expect("no error")
}

async fn measure(work: &Work<'_>) -> Result<String, tokio_postgres::Error> {
    let client = connect(work).await?;
    let meter = Meter::start();
    let mut length = 0;
    match work.task {
        "connect" => {
            for _ in 0..work.count {
                let (client, connection) = tokio_postgres::connect(work.conninfo, NoTls).await?;
                drop(client);
                connection.await?;
            }
        }
        "query" | "rows" => {
            for _ in 0..work.count {
                for message in client.simple_query(work.sql).await? {
                    length += length_of(&message);
                }
            }
        }
        "rows-streamed" => {
            let mut rows = pin!(client.simple_query_raw(work.sql).await?);
            while let Some(message) = rows.try_next().await? {
                length += length_of(&message);
            }
        }
        other => panic!("no task {other}"),
    }
    Ok(meter.stop(work, length))
}

async fn connect(work: &Work<'_>) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(work.conninfo, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The bytes of a row's values.
fn length_of(message: &SimpleQueryMessage) -> usize {
    let SimpleQueryMessage::Row(row) = message else { return 0 };
    let value = |column| SimpleQueryRow::get(row, column).map_or(0, str::len);
    (0..row.len()).map(value).sum()
}

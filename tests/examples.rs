//! The examples, with real servers.
#![cfg(feature = "session")]

mod support;

#[path = "../examples/blocking.rs"]
#[allow(dead_code, unreachable_pub, reason = "a program, whose main is not called")]
mod blocking;
#[cfg(feature = "replication")]
#[path = "../examples/replicate.rs"]
#[allow(dead_code, unreachable_pub, reason = "a program, whose main is not called")]
mod replicate;

use support::{Auth, Cluster, servers};

#[test]
fn the_blocking_driver_logs_in_and_queries() {
    let server = servers::packaged();
    for auth in Auth::ALL {
        let cluster = Cluster::builder(&server).auth(auth).start();
        let address = (cluster.host(), cluster.port());
        let connect = |password| blocking::Connection::connect(address, "repl", "postgres", password);
        let mut connection = connect("walrus-17").unwrap();
        assert!(connection.server_version().unwrap().starts_with(&server.major.to_string()));
        let mut rows = Vec::new();
        connection.query("SELECT 1, NULL; SELECT 'x'", |row| rows.push(row)).unwrap();
        assert_eq!(rows, [vec!["1", "\\N"], vec!["x"]]);
        assert!(connection.query("SELECT 1 / 0", |_| {}).unwrap_err().to_string().contains("division"));
        // Rows that come in many reads.
        let mut sum = 0;
        let large = "SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) AS i";
        connection.query(large, |row| sum += row[0].parse::<u32>().unwrap()).unwrap();
        assert_eq!(sum, 2_001_000);
        let end = "SELECT pg_terminate_backend(pg_backend_pid())";
        assert!(connection.query(end, |_| {}).unwrap_err().to_string().contains("terminating"));
        assert_eq!(connect("wrong").is_err(), auth != Auth::Trust, "{auth:?}");
    }
}

#[cfg(feature = "replication")]
#[test]
fn wal_is_followed_until_the_server_stops() {
    use support::process::PATIENCE;
    use support::{Stop, wait_until};

    let cluster = Cluster::builder(&servers::packaged()).start();
    let conninfo = cluster.conninfo("repl");
    let follower = std::thread::spawn(move || {
        support::client::block_on(replicate::replicate(&conninfo)).map_err(|error| error.to_string())
    });
    wait_until(PATIENCE, "the example streams", || {
        cluster.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").as_deref()
            == Ok("1")
    });
    cluster.stop(Stop::Fast);
    assert_eq!(follower.join().unwrap(), Ok(()));
}

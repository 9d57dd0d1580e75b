//! The harness itself: every major version starts, answers, stops and leaves nothing behind.

mod support;

use std::thread;

use support::{Cluster, servers};

#[test]
fn every_major_starts_and_says_its_version() {
    thread::scope(|scope| {
        for server in servers::all() {
            scope.spawn(move || {
                let cluster = Cluster::builder(&server).start();
                let version = cluster.sql("SELECT version()").unwrap();
                assert!(version.starts_with(&format!("PostgreSQL {}.", server.major)), "{version}");
            });
        }
    });
}

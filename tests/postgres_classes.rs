//! The classes of `tapster::postgres` with every installed server: as superuser, as a role with the
//! privileges that backups need, and as a role with none; on a primary and on a standby.

#![cfg(feature = "postgres")]

mod support;

use core::time::Duration;
use std::path::Path;

use support::process::{PATIENCE, signal};
use support::{Cluster, Server, servers, wait_until};
use tapster::codec::TransactionStatus;
use tapster::conninfo::{ConnInfo, Environment};
use tapster::postgres::{
    ClientType, ConnectionOptions, PostgreSQL, PostgreSQLConnection, PostgresError, PostgresKeepAlive,
    StandbyOptions, StandbyPostgreSQLConnection, StreamingConnection, backup_privileges,
    checkpoint_privileges,
};
use tapster::replication::{ReplicationConnection, StartPhysical};
use tapster::types::{ServerVersion, SqlState};

/// The superuser, a role with the privileges of `backup_privileges`, and a role with none.
const ROLES: [&str; 3] = ["postgres", "backup", "nobody"];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

fn conninfo(cluster: &Cluster, role: &str) -> ConnInfo {
    let text = format!("host={} port={} user={role} dbname=postgres", cluster.host(), cluster.port());
    text.parse().unwrap()
}

fn options() -> ConnectionOptions {
    let mut options = ConnectionOptions::default();
    options.environment = Environment::empty();
    options
}

fn connection(cluster: &Cluster, role: &str) -> PostgreSQLConnection {
    PostgreSQLConnection::with_options(conninfo(cluster, role), options()).unwrap()
}

fn streaming(cluster: &Cluster, role: &str) -> StreamingConnection {
    StreamingConnection::with_environment(&conninfo(cluster, role), Environment::empty()).unwrap()
}

/// A primary that archives, with the three roles.
fn primary(server: &Server) -> Cluster {
    let cluster = Cluster::builder(server).archive().setting("log_statement", "all").start();
    let version = ServerVersion::release(server.major.try_into().unwrap());
    let mut roles = String::from("CREATE ROLE backup LOGIN REPLICATION; CREATE ROLE nobody LOGIN;");
    for privilege in backup_privileges(version).iter().chain(&checkpoint_privileges(version)) {
        roles.push_str(&format!("{} backup;", privilege.grant));
    }
    cluster.sql(&roles).unwrap();
    cluster
}

fn with_standby(server: &Server) -> (Cluster, Cluster) {
    let primary = primary(server);
    let standby = primary.standby();
    standby.wait_for_replay_of(&primary);
    (primary, standby)
}

fn sqlstate<T: core::fmt::Debug>(result: Result<T, PostgresError>) -> String {
    result.unwrap_err().sqlstate().map_or_else(String::new, |state| state.to_string())
}

#[test]
fn every_reading_member_returns_what_the_server_reports() {
    servers::for_each(|server| {
        let (primary, standby) = with_standby(server);
        for cluster in [&primary, &standby] {
            for role in ROLES {
                block_on(reading_members(cluster, role, server.major));
            }
        }
    });
}

async fn reading_members(cluster: &Cluster, role: &str, major: u32) {
    let postgres = connection(cluster, role);
    let sql = |query: &str| cluster.sql(query).unwrap();
    let is_standby = sql("SELECT pg_is_in_recovery()") == "t";
    let (is_super, may) = (role == "postgres", role != "nobody");

    let version = sql("SELECT split_part(version(), ' ', 2)");
    assert_eq!(postgres.server_version().await.unwrap().num().to_string(), sql("SHOW server_version_num"));
    assert_eq!(postgres.server_txt_version().await.unwrap(), version);
    assert_eq!(postgres.server_major_version().await.unwrap(), major.to_string());
    assert!(postgres.is_minimal_postgres_version().await.unwrap());
    let start = postgres.name_map().await.get("pg_backup_start");
    assert_eq!(start, Some(if major < 15 { "pg_start_backup" } else { "pg_backup_start" }));

    assert_eq!(postgres.is_in_recovery().await.unwrap(), is_standby);
    assert_eq!(postgres.is_superuser().await.unwrap(), is_super);
    assert_eq!(postgres.has_monitoring_privileges().await.unwrap(), may);
    assert_eq!(postgres.has_backup_privileges().await.unwrap(), may);
    assert_eq!(postgres.has_checkpoint_privileges().await.unwrap(), is_super || (may && major >= 15));

    let info = postgres.current_xlog_info().await.unwrap();
    assert_eq!((info.file_name.is_some(), info.file_offset.is_some()), (!is_standby, !is_standby));
    // A server writes some WAL by itself, so the position may have moved.
    assert!(postgres.current_xlog_location().await.unwrap() >= info.location);
    assert_eq!(postgres.current_xlog_file_name().await.unwrap(), info.file_name);
    let epoch: i64 = sql("SELECT extract(epoch from now())::int8").parse().unwrap();
    assert!((info.timestamp.as_unix_micros() / 1_000_000 - epoch).abs() < 60, "{}", info.timestamp);

    assert_eq!(postgres.xlog_segment_size().await.unwrap(), cluster.segment_size());
    assert_eq!(postgres.archive_timeout().await.unwrap(), 0);
    assert_eq!(postgres.checkpoint_timeout().await.unwrap(), 300);
    let size = postgres.current_size().await.unwrap();
    assert_eq!(size.is_some_and(|size| size > 1 << 20), may, "{size:?}");
    assert_eq!(postgres.get_setting("shared_buffers").await.unwrap(), "16MB");
    assert_eq!(sqlstate(postgres.get_setting("no_such_setting").await), "42704");
    assert!(["42704", "42602"].contains(&sqlstate(postgres.get_setting("a'b").await).as_str()));
    let forbidden = postgres.get_setting("data_directory").await;
    if may {
        assert_eq!(Path::new(&forbidden.unwrap()), cluster.data_dir());
    } else {
        assert_eq!(sqlstate(forbidden), "42501");
    }
    let system = sql("SELECT system_identifier FROM pg_control_system()");
    assert_eq!(postgres.get_systemid().await.unwrap().to_string(), system);
    assert_eq!(postgres.get_tablespaces().await.unwrap(), []);
    let files = postgres.get_configuration_files().await.unwrap();
    assert_eq!(files.files.len(), if may { 3 } else { 0 });
    if may {
        assert_eq!(files.files["hba_file"], cluster.data_dir().join("pg_hba.conf").display().to_string());
    }
    let archiver = postgres.get_archiver_stats().await.unwrap();
    assert!(archiver.stats_reset.is_some() && archiver.current_archived_wals_per_second.is_some());
    assert!(archiver.is_archiving, "{archiver:?}");
    assert_eq!(postgres.get_synchronous_standby_names().await.unwrap(), [""; 0]);
    assert_eq!(postgres.get_replication_slot("o'dd").await.unwrap(), None);

    let clients = postgres.get_replication_stats(ClientType::Standby).await;
    match (may, clients) {
        (false, clients) => {
            let Err(PostgresError::BackupFunctionsAccessRequired { user }) = clients else {
                panic!("{clients:?}")
            };
            assert_eq!(user.as_deref(), Some(role));
        }
        (true, clients) => {
            let clients = clients.unwrap();
            assert_eq!(clients.len(), usize::from(!is_standby));
            for client in clients {
                assert_eq!(client.usename.as_deref(), Some("repl"));
                assert_eq!((client.state.as_deref(), client.is_in_recovery), (Some("streaming"), false));
                assert!(client.replay_lsn <= client.sent_lsn && client.sent_lsn <= client.current_lsn);
                assert_eq!(client.reply_time.is_some(), major >= 12);
                assert_eq!(client.client_addr, None, "it is a Unix socket");
            }
        }
    }
    postgres.close().await;
}

#[test]
fn a_status_has_the_same_values_as_the_members() {
    servers::for_each(|server| {
        let (primary, standby) = with_standby(server);
        for cluster in [&primary, &standby] {
            cluster.sql("SELECT pg_create_physical_replication_slot('there', true)").unwrap();
            for role in ROLES {
                block_on(status(cluster, role));
            }
        }
    });
}

async fn status(cluster: &Cluster, role: &str) {
    let mut options = options();
    options.slot_name = Some("there".into());
    options.application_name = format!("status of {role}");
    let postgres = PostgreSQLConnection::with_options(conninfo(cluster, role), options).unwrap();
    let before = postgres.current_xlog_info().await.unwrap();
    let status = postgres.fetch_remote_status().await;
    assert_eq!((&status.connection_error, &status.errors), (&None, &Vec::new()));

    let may = role != "nobody";
    let setting = async |name| Some(postgres.get_setting(name).await.unwrap());
    assert_eq!(status.version_supported, Some(true));
    assert_eq!(status.server_txt_version, postgres.server_txt_version().await.ok());
    assert_eq!(status.is_superuser, postgres.is_superuser().await.ok());
    assert_eq!(status.is_in_recovery, postgres.is_in_recovery().await.ok());
    assert_eq!((status.has_backup_privileges, status.has_monitoring_privileges), (Some(may), Some(may)));
    assert_eq!(status.data_directory.is_some(), may);
    assert_eq!(status.wal_level, setting("wal_level").await);
    assert_eq!(status.hot_standby, setting("hot_standby").await);
    assert_eq!(status.max_wal_senders.map(|n| n.to_string()), setting("max_wal_senders").await);
    assert_eq!(status.max_replication_slots.map(|n| n.to_string()), setting("max_replication_slots").await);
    assert_eq!(status.data_checksums, setting("data_checksums").await);
    assert_eq!(status.wal_compression, setting("wal_compression").await);
    let is_old = cluster.major() < 13;
    assert_eq!((status.wal_keep_segments.is_some(), status.wal_keep_size.is_some()), (is_old, !is_old));
    let after = postgres.current_xlog_info().await.unwrap();
    assert!(before.location <= status.current_lsn && status.current_lsn <= after.location);
    assert!(before.file_name <= status.current_xlog && status.current_xlog <= after.file_name);
    assert_eq!(status.current_size.is_some(), may);
    assert_eq!(status.archive_timeout, postgres.archive_timeout().await.ok());
    assert_eq!(status.checkpoint_timeout, postgres.checkpoint_timeout().await.ok());
    assert_eq!(status.xlog_segment_size, postgres.xlog_segment_size().await.ok());
    assert_eq!(status.configuration_files, postgres.get_configuration_files().await.unwrap());
    assert_eq!(status.replication_slot_support, Some(true));
    let slot = postgres.get_replication_slot("there").await.unwrap().expect("it was created");
    assert_eq!((slot.active, slot.restart_lsn.is_some()), (false, true));
    assert_eq!(status.replication_slot, Some(slot));
    assert_eq!(status.synchronous_standby_names, Some(Vec::new()));
    assert_eq!(status.postgres_systemid, postgres.get_systemid().await.ok());
    postgres.close().await;
}

#[test]
fn a_refused_part_of_the_status_has_its_reason_and_the_rest_its_values() {
    servers::for_each(|server| {
        let cluster = primary(server);
        cluster.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public").unwrap();
        let status = block_on(connection(&cluster, "nobody").fetch_remote_status());
        assert_eq!((status.connection_error, status.postgres_systemid), (None, None));
        let (key, error) = &status.errors[0];
        assert_eq!((status.errors.len(), *key), (1, "postgres_systemid"));
        assert_eq!(error.sqlstate, Some(SqlState::INSUFFICIENT_PRIVILEGE));
        assert!(error.message.contains("permission denied"), "{}", error.message);
        assert!(status.current_lsn.is_some() && status.wal_level.is_some());
    });
}

#[test]
fn the_status_of_an_unreachable_server_has_the_reason() {
    let target: ConnInfo = "host=127.0.0.1 port=1 user=u dbname=d".parse().unwrap();
    let postgres = PostgreSQLConnection::with_options(target.clone(), options()).unwrap();
    let status = block_on(postgres.fetch_remote_status());
    let message = status.connection_error.expect("no server listens there").message;
    assert!(message.contains("port 1 failed: Connection refused"), "{message}");
    assert_eq!((status.version_supported, status.replication_slot_support), (None, None));
    let streaming = StreamingConnection::with_environment(&target, Environment::empty()).unwrap();
    let status = block_on(streaming.fetch_remote_status());
    assert!(status.connection_error.is_some());
    assert_eq!((status.version_supported, status.streaming_supported, status.streaming), (None, None, None));
}

#[test]
fn the_streaming_connection_identifies_the_cluster_and_manages_slots() {
    servers::for_each(|server| {
        let (primary, standby) = with_standby(server);
        for cluster in [&primary, &standby] {
            block_on(streaming_members(cluster));
        }
    });
}

async fn streaming_members(cluster: &Cluster) {
    let backup = streaming(cluster, "backup");
    let status = backup.fetch_remote_status().await;
    assert_eq!(status.connection_error, None);
    assert_eq!((status.version_supported, status.streaming_supported), (Some(true), Some(true)));
    assert_eq!(status.streaming, Some(true));
    let system = cluster.sql("SELECT system_identifier FROM pg_control_system()").unwrap();
    assert_eq!(status.streaming_systemid.map(|id| id.to_string()), Some(system));
    assert_eq!(status.timeline.map(|timeline| timeline.get()), Some(1));
    assert!(status.xlogpos.is_some());

    let refused = streaming(cluster, "nobody").fetch_remote_status().await;
    let error = refused.connection_error.expect("the role has no REPLICATION");
    assert!(error.message.contains("FATAL: "), "{}", error.message);
    assert!(error.sqlstate.is_some());
    assert_eq!((refused.version_supported, refused.streaming_systemid), (None, None));

    backup.create_physical_repslot("tapster_1").await.unwrap();
    let again = backup.create_physical_repslot("tapster_1").await;
    assert!(matches!(again, Err(PostgresError::DuplicateReplicationSlot(_))), "{again:?}");
    let slot = connection(cluster, "nobody").get_replication_slot("tapster_1").await.unwrap().unwrap();
    assert_eq!((slot.active, slot.restart_lsn), (false, None));
    for name in ["Upper", "a-b", "a b", "", "q\"q"] {
        let refused = backup.create_physical_repslot(name).await;
        assert!(matches!(refused, Err(PostgresError::Failed { .. })), "{name}: {refused:?}");
    }
    let mut receiver: ConnInfo = conninfo(cluster, "backup");
    receiver.set("replication", "true").unwrap();
    let config = receiver.resolve(&Environment::empty()).unwrap().config().unwrap();
    let mut receiver = ReplicationConnection::connect(&config).await.unwrap();
    let system = receiver.identify_system().await.unwrap();
    let start =
        StartPhysical { slot: Some("tapster_1".into()), start: system.xlog_pos, timeline: system.timeline };
    let stream = receiver.start_physical(&start).await.unwrap();
    let in_use = backup.drop_repslot("tapster_1").await;
    assert!(matches!(in_use, Err(PostgresError::ReplicationSlotInUse(_))), "{in_use:?}");
    drop(stream);
    wait_until(PATIENCE, "the receiver is gone", || {
        cluster.sql("SELECT active FROM pg_replication_slots").as_deref() == Ok("f")
    });
    backup.drop_repslot("tapster_1").await.unwrap();
    let gone = backup.drop_repslot("tapster_1").await;
    assert!(matches!(gone, Err(PostgresError::InvalidReplicationSlot(_))), "{gone:?}");
    let mut filled = 0;
    let full = loop {
        if let Err(error) = backup.create_physical_repslot(&format!("full_{filled}")).await {
            break error;
        }
        filled += 1;
    };
    assert!(matches!(full, PostgresError::ReplicationSlotsFull(_)), "{full:?}");
    for i in 0..filled {
        backup.drop_repslot(&format!("full_{i}")).await.unwrap();
    }
    backup.close().await;
}

#[test]
fn acting_members_act_or_name_the_missing_privilege() {
    servers::for_each(|server| {
        let (primary, standby) = with_standby(server);
        for role in ROLES {
            block_on(acting_members(&primary, role));
            block_on(acting_members(&standby, role));
        }
    });
}

async fn acting_members(cluster: &Cluster, role: &str) {
    let postgres = connection(cluster, role);
    let is_standby = postgres.is_in_recovery().await.unwrap();
    let may = role != "nobody";

    let switched = postgres.switch_wal().await;
    match (may, is_standby) {
        (false, _) => {
            assert!(
                matches!(switched, Err(PostgresError::BackupFunctionsAccessRequired { .. })),
                "{switched:?}"
            );
        }
        (true, true) => assert!(matches!(switched, Err(PostgresError::IsInRecovery)), "{switched:?}"),
        (true, false) => {
            cluster.write_wal(1000);
            let current = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
            let finished = postgres.switch_wal().await.unwrap();
            assert_eq!(finished, Some(current.clone()));
            // Right after a switch the position is at a boundary, which belongs to the old segment.
            let info = postgres.current_xlog_info().await.unwrap();
            if info.file_offset == Some(0) {
                assert_eq!(info.file_name, Some(current), "{info:?}");
            }
        }
    }

    let point = postgres.create_restore_point("it's a point").await;
    match (may, is_standby) {
        (true, false) => {
            assert!(point.unwrap().is_valid());
            assert_eq!(sqlstate(postgres.create_restore_point(&"x".repeat(64)).await), "22023");
        }
        (true, true) => assert!(matches!(point, Err(PostgresError::IsInRecovery)), "{point:?}"),
        (false, _) => assert_eq!(sqlstate(point), "42501"),
    }

    let checkpoint = postgres.checkpoint().await;
    if postgres.has_checkpoint_privileges().await.unwrap() {
        checkpoint.unwrap();
    } else {
        assert!(matches!(checkpoint, Err(PostgresError::CheckpointPrivilegesRequired)), "{checkpoint:?}");
    }
    postgres.close().await;
}

#[test]
fn a_member_runs_one_statement_and_the_version_none() {
    servers::for_each(|server| block_on(statement_counts(server)));
}

/// Checks and prints how many statements each member runs, beside the number that Barman 3.19.1 runs on
/// PostgreSQL 15 to 18.
async fn statement_counts(server: &Server) {
    let cluster = primary(server);
    let mut options = options();
    options.slot_name = Some("there".into());
    let postgres = PostgreSQLConnection::with_options(conninfo(&cluster, "backup"), options).unwrap();
    let count = || {
        let is_statement =
            |line: &&str| line.contains("LOG:  statement: ") || line.contains("LOG:  execute ");
        cluster.log().lines().filter(is_statement).count()
    };
    let mut table = Vec::new();
    let mut before = count();
    let mut took = |member: &'static str, expected: usize, barman: &'static str| {
        let now = count();
        table.push(format!(
            "PostgreSQL {}: {member:<28} {:>2}  (Barman {barman})",
            server.major,
            now - before
        ));
        assert_eq!(now - before, expected, "{member}");
        before = now;
    };
    postgres.server_version().await.unwrap();
    postgres.server_txt_version().await.unwrap();
    postgres.name_map().await;
    took("connecting; server_version, name_map", 1, "1 each");
    let status = postgres.fetch_remote_status().await;
    assert_eq!(status.errors, []);
    took("fetch_remote_status", 1, "75");
    postgres.get_remote_status().await;
    took("get_remote_status", 1, "75");
    postgres.get_remote_status().await;
    took("get_remote_status again", 0, "0");
    postgres.current_size().await.unwrap();
    took("current_size", 1, "9");
    postgres.has_backup_privileges().await.unwrap();
    took("has_backup_privileges", 1, "7");
    postgres.get_replication_stats(ClientType::AnyStreamingClient).await.unwrap();
    took("get_replication_stats", 1, "7");
    postgres.current_xlog_info().await.unwrap();
    took("current_xlog_info", 1, "6");
    postgres.xlog_segment_size().await.unwrap();
    took("xlog_segment_size", 1, "3-4");
    postgres.get_configuration_files().await.unwrap();
    took("get_configuration_files", 1, "3");
    postgres.create_restore_point("counted").await.unwrap();
    took("create_restore_point", 1, "4");
    postgres.switch_wal().await.unwrap();
    took("switch_wal", 1, "18-19");
    if server.major >= 15 {
        postgres.checkpoint().await.unwrap();
        took("checkpoint", 1, "5");
    }
    postgres.set_immediate_checkpoint(true);
    postgres.start_concurrent_backup("counted").await.unwrap();
    took("start_concurrent_backup", 1, "6");
    postgres.stop_concurrent_backup().await.unwrap();
    took("stop_concurrent_backup", 1, "6");
    println!("{}", table.join("\n"));
}

/// Ends all sessions of a role, and waits until they are gone.
fn terminate(cluster: &Cluster, role: &str) {
    let sessions = format!("FROM pg_stat_activity WHERE usename = '{role}'");
    cluster.sql(&format!("SELECT pg_terminate_backend(pid) {sessions}")).unwrap();
    wait_until(PATIENCE, "the sessions are gone", || {
        cluster.sql(&format!("SELECT count(*) {sessions}")).as_deref() == Ok("0")
    });
}

#[test]
fn the_next_call_replaces_a_lost_connection_unless_that_is_forbidden() {
    servers::for_each(|server| {
        let cluster = primary(server);
        block_on(async {
            let postgres = connection(&cluster, "backup");
            assert!(!postgres.has_connection().await);
            assert!(matches!(postgres.send_heartbeat_query().await, Err(PostgresError::NoConnection)));
            assert!(!postgres.check_connection().await.unwrap());
            assert!(!postgres.is_in_recovery().await.unwrap());
            assert!(postgres.has_connection().await && postgres.check_connection().await.unwrap());
            postgres.send_heartbeat_query().await.unwrap();
            terminate(&cluster, "backup");
            assert!(!postgres.check_connection().await.unwrap() && !postgres.has_connection().await);

            // A failed transaction of the caller does not make later calls fail.
            let fail = async || {
                let mut connection = postgres.connect().await.unwrap();
                connection.simple_query("BEGIN; SELECT 1/0").await.unwrap_err()
            };
            fail().await;
            assert!(!postgres.is_in_recovery().await.unwrap());
            fail().await;
            assert!(!postgres.check_connection().await.unwrap());

            // A call that acts is never repeated. It need not be: the loss shows before the statement is
            // sent.
            terminate(&cluster, "backup");
            postgres.create_restore_point("after a loss").await.unwrap();
            // A loss that a heartbeat has noticed is known to all other calls.
            terminate(&cluster, "backup");
            let lost = postgres.send_heartbeat_query().await.unwrap_err();
            assert!(lost.is_connection_lost(), "{lost:?}");
            assert!(!postgres.is_in_recovery().await.unwrap());

            postgres.set_allow_reconnect(false);
            terminate(&cluster, "backup");
            for _ in 0..2 {
                let forbidden = postgres.is_in_recovery().await;
                let Err(PostgresError::ReconnectForbidden { reason }) = forbidden else {
                    panic!("{forbidden:?}")
                };
                assert!(reason.contains("terminating connection"), "{reason}");
                let forbidden = postgres.check_connection().await;
                assert!(matches!(forbidden, Err(PostgresError::ReconnectForbidden { .. })), "{forbidden:?}");
            }
            postgres.set_allow_reconnect(true);
            assert!(!postgres.is_in_recovery().await.unwrap());
            postgres.close().await;
            postgres.close().await;
            assert!(!postgres.has_connection().await);

            let replication = streaming(&cluster, "backup");
            assert_eq!(replication.fetch_remote_status().await.connection_error, None);
            terminate(&cluster, "backup");
            assert_eq!(replication.fetch_remote_status().await.connection_error, None);
        });
    });
}

#[test]
fn sessions_have_a_name_and_a_safe_search_path() {
    let cluster = primary(&servers::packaged());
    let setting = |text: &str, name: &str| {
        let mut parameters = conninfo(&cluster, "backup");
        for (keyword, value) in text.parse::<ConnInfo>().unwrap().iter() {
            parameters.set(keyword, value).unwrap();
        }
        let postgres = PostgreSQLConnection::with_options(parameters, options()).unwrap();
        block_on(postgres.get_setting(name)).unwrap()
    };
    assert_eq!(setting("", "application_name"), "barman");
    assert_eq!(setting("application_name='My app; --'", "application_name"), "My app; --");
    assert_eq!(setting("", "search_path"), "");
    assert_eq!(setting("options='-c search_path=mine -c work_mem=1MB'", "search_path"), "mine");
    assert_eq!(setting("options='-c work_mem=1MB'", "work_mem"), "1MB");
    assert_eq!(setting("options='-c work_mem=1MB'", "search_path"), "");

    let mut with_nul = options();
    with_nul.application_name = "a\0b".into();
    let refused = PostgreSQLConnection::with_options(conninfo(&cluster, "backup"), with_nul);
    assert!(matches!(refused, Err(PostgresError::AppName(_))), "{refused:?}");
}

#[test]
fn one_session_starts_and_stops_a_backup() {
    servers::for_each(|server| {
        let (primary, standby) = with_standby(server);
        block_on(backup(&primary));
        block_on(backup(&standby));
    });
}

async fn backup(cluster: &Cluster) {
    let postgres = connection(cluster, "backup");
    postgres.set_immediate_checkpoint(true);
    let major = cluster.major();
    let idle_timeout = async || postgres.get_setting("idle_session_timeout").await.unwrap();

    let without_start = postgres.stop_concurrent_backup().await.unwrap_err();
    let function = if major < 15 { "pg_stop_backup failed" } else { "pg_backup_stop failed" };
    assert_eq!((without_start.to_string().as_str(), without_start.class()), (function, "PostgresException"));
    assert_eq!(without_start.sqlstate(), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
    let too_long = postgres.start_concurrent_backup(&"x".repeat(1025)).await;
    assert_eq!(sqlstate(too_long), "22023");

    let before = if major >= 14 { idle_timeout().await } else { String::new() };
    let started = postgres.start_concurrent_backup("it's one").await.unwrap();
    assert!(started.timestamp <= started.finished, "{started:?}");
    assert_eq!(started.timeline.get(), 1);
    if major >= 14 {
        assert_eq!(idle_timeout().await, "0");
    }
    assert_eq!(sqlstate(postgres.start_concurrent_backup("two").await), "55000");
    // The session must not idle in a transaction that a caller has left open.
    let forgotten = postgres.connect().await.unwrap().simple_query("BEGIN").await;
    assert!(forgotten.is_ok());
    let stopped = postgres.stop_concurrent_backup().await.unwrap();
    let status = postgres.connect().await.unwrap().transaction_status();
    assert_eq!(status, TransactionStatus::Idle);
    assert!(stopped.location >= started.location && stopped.timestamp <= stopped.finished, "{stopped:?}");
    assert_eq!(stopped.timeline.get(), 1);
    let start = format!("START WAL LOCATION: {} (file 0000000100000000000000", started.location);
    let label = String::from_utf8(stopped.backup_label).unwrap();
    assert!(label.starts_with(&start) && label.contains("LABEL: it's one"), "{label}");
    assert_eq!(stopped.tablespace_map, b"");
    if major >= 14 {
        assert_eq!(idle_timeout().await, before);
    }
    postgres.start_concurrent_backup("two").await.unwrap();
    let stopped = postgres.stop_concurrent_backup_at_once().await.unwrap();
    let label = String::from_utf8_lossy(&stopped.backup_label);
    assert!(label.contains("LABEL: two"), "{label}");

    // If the session is lost, the backup is lost too.
    postgres.start_concurrent_backup("lost").await.unwrap();
    terminate(cluster, "backup");
    let lost = postgres.stop_concurrent_backup().await;
    assert!(matches!(lost, Err(PostgresError::ReconnectForbidden { .. })), "{lost:?}");
    postgres.close().await;
    assert_eq!(sqlstate(postgres.stop_concurrent_backup().await), "55000");

    let refused = connection(cluster, "nobody").start_concurrent_backup("no").await;
    assert_eq!(sqlstate(refused), "42501");
    if major >= 15 {
        let obsolete = postgres.start_exclusive_backup("x").await;
        assert!(matches!(obsolete, Err(PostgresError::ObsoleteFeature("15"))), "{obsolete:?}");
        let obsolete = postgres.stop_exclusive_backup().await;
        assert!(matches!(obsolete, Err(PostgresError::ObsoleteFeature("15"))), "{obsolete:?}");
        return;
    }
    let superuser = connection(cluster, "postgres");
    superuser.set_immediate_checkpoint(true);
    let started = superuser.start_exclusive_backup("exclusive").await;
    if superuser.is_in_recovery().await.unwrap() {
        assert_eq!(sqlstate(started), "55000");
        return;
    }
    let stopped = superuser.stop_exclusive_backup().await.unwrap();
    let started = started.unwrap();
    assert!(started.location < stopped.location && started.file_name <= stopped.file_name);
    assert!(started.file_offset > 0 && started.timestamp <= stopped.finished);
}

#[test]
fn a_tablespace_is_listed_and_in_the_map_of_a_backup() {
    servers::for_each(|server| {
        let cluster = primary(server);
        let location = cluster.socket_dir().join("over there");
        std::fs::create_dir(&location).unwrap();
        servers::give_to_server_user(&location);
        cluster.sql(&format!("CREATE TABLESPACE \"Sp ace\" LOCATION '{}'", location.display())).unwrap();
        block_on(async {
            let postgres = connection(&cluster, "backup");
            let tablespaces = postgres.get_tablespaces().await.unwrap();
            assert_eq!(tablespaces.len(), 1);
            assert_eq!(tablespaces[0].name, "Sp ace");
            assert_eq!(Path::new(&tablespaces[0].location), location);
            postgres.set_immediate_checkpoint(true);
            postgres.start_concurrent_backup("mapped").await.unwrap();
            let map = postgres.stop_concurrent_backup().await.unwrap().tablespace_map;
            assert_eq!(map, format!("{} {}\n", tablespaces[0].oid, location.display()).into_bytes());
        });
    });
}

#[test]
fn a_keep_alive_ends_the_work_when_the_session_is_killed() {
    servers::for_each(|server| {
        let cluster = primary(server);
        block_on(async {
            let postgres = connection(&cluster, "backup");
            postgres.set_immediate_checkpoint(true);
            let interval = Duration::from_millis(200);
            let keep_alive = PostgresKeepAlive::new(&postgres, interval, true);
            // The keep-alive makes no connection, and a missing connection is no loss.
            keep_alive.run(tokio::time::sleep(interval * 2)).await.unwrap();
            assert!(!postgres.has_connection().await);

            postgres.start_concurrent_backup("kept alive").await.unwrap();
            // The keep-alive does not disturb a statement of the work, however long that takes.
            let long = keep_alive.run(async {
                let mut connection = postgres.connect().await.unwrap();
                connection.simple_query("SELECT pg_sleep(1)").await.map(|sets| sets.len())
            });
            assert_eq!(long.await.unwrap().unwrap(), 1);

            let mut killed = None;
            let work = async {
                terminate(&cluster, "backup");
                killed = Some(std::time::Instant::now());
                core::future::pending::<()>().await;
            };
            let lost = keep_alive.run(work).await.unwrap_err();
            assert!(matches!(lost, PostgresError::ConnectionLost { .. }), "{lost:?}");
            assert_eq!(lost.class(), "PostgresConnectionLost");
            assert_eq!(lost.sqlstate(), Some(SqlState::ADMIN_SHUTDOWN));
            let took = killed.expect("the work began").elapsed();
            assert!(took < interval * 5, "{took:?}");
            let stop = postgres.stop_concurrent_backup().await;
            assert!(matches!(stop, Err(PostgresError::ReconnectForbidden { .. })), "{stop:?}");
            // Another call has noticed the loss already.
            let lost = keep_alive.run(core::future::pending::<()>()).await.unwrap_err();
            assert!(matches!(lost, PostgresError::ConnectionLost { .. }), "{lost:?}");

            postgres.close().await;
            postgres.is_in_recovery().await.unwrap();
            let ignoring = PostgresKeepAlive::new(&postgres, interval, false);
            let done = ignoring.run(async {
                terminate(&cluster, "backup");
                tokio::time::sleep(interval * 3).await;
                7
            });
            assert_eq!(done.await.unwrap(), 7);
            assert_eq!(
                PostgresKeepAlive::new(&postgres, Duration::ZERO, true).run(async { 8 }).await.unwrap(),
                8
            );
        });
    });
}

#[test]
fn a_frozen_server_is_lost_after_the_deadline() {
    let cluster = primary(&servers::packaged());
    block_on(async {
        let postgres = connection(&cluster, "backup");
        let pid = {
            let mut connection = postgres.connect().await.unwrap();
            let sets = connection.simple_query("SELECT pg_backend_pid()").await.unwrap();
            sets[0].row(0).unwrap().parse::<u32>(0).unwrap()
        };
        signal(pid, "STOP");
        let keep_alive = PostgresKeepAlive::new(&postgres, Duration::from_millis(100), true);
        let lost =
            keep_alive.with_deadline(Duration::from_millis(300)).run(core::future::pending::<()>()).await;
        signal(pid, "CONT");
        let Err(PostgresError::ConnectionLost { silent, .. }) = lost else { panic!("{lost:?}") };
        assert!(silent >= Duration::from_millis(300), "{silent:?}");
    });
}

fn standby_connection(standby: &Cluster, primary: ConnInfo, wait: Duration) -> StandbyPostgreSQLConnection {
    let mut options = StandbyOptions::default();
    options.standby = self::options();
    options.standby.immediate_checkpoint = true;
    (options.times, options.wait) = (3, wait);
    StandbyPostgreSQLConnection::with_options(conninfo(standby, "backup"), primary, options).unwrap()
}

#[test]
fn the_stop_of_a_standby_gets_its_wal_from_an_idle_primary() {
    servers::for_each(|server| {
        let primary = primary(server);
        let settings = [("archive_mode", "always"), ("archive_command", "true")];
        let standby = primary.standby_with(&settings);
        primary.sql("CHECKPOINT").unwrap();
        standby.wait_for_replay_of(&primary);
        block_on(async {
            let wait = Duration::from_secs(10);
            let both = standby_connection(&standby, conninfo(&primary, "backup"), wait);
            assert!(both.is_in_recovery().await.unwrap());
            both.start_concurrent_backup("of a standby").await.unwrap();
            let started = std::time::Instant::now();
            both.stop_concurrent_backup().await.unwrap();
            println!("PostgreSQL {}: the stop took {:?}", server.major, started.elapsed());
            assert!(started.elapsed() < wait, "{:?}", started.elapsed());
            primary.write_wal(100);
            assert!(both.switch_wal().await.unwrap().is_some());
            both.close().await;
            assert!(!both.has_connection().await && !both.primary().has_connection().await);
        });
    });
}

#[test]
fn the_stop_of_a_standby_ends_with_the_reason_when_the_primary_does_not_help() {
    servers::for_each(|server| {
        let primary = primary(server);
        // The stop waits for WAL that is never archived.
        let settings = [("archive_mode", "always"), ("archive_command", "false")];
        let standby = primary.standby_with(&settings);
        primary.write_wal(100_000);
        standby.wait_for_replay_of(&primary);
        block_on(async {
            let unreachable: ConnInfo = "host=127.0.0.1 port=1 user=u dbname=d".parse().unwrap();
            for (target, class) in [
                (unreachable, "PostgresConnectionError"),
                (conninfo(&primary, "nobody"), "BackupFunctionsAccessRequired"),
                (conninfo(&standby, "backup"), "PostgresIsInRecovery"),
            ] {
                let both = standby_connection(&standby, target, Duration::from_millis(300));
                both.start_concurrent_backup("in vain").await.unwrap();
                let started = std::time::Instant::now();
                let failed = both.stop_concurrent_backup().await;
                let Err(PostgresError::Standby { primary, source }) = failed else { panic!("{failed:?}") };
                assert_eq!(primary.class(), class);
                assert!(matches!(*source, PostgresError::StopTimeout(_)), "{source:?}");
                assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
                assert!(!both.has_connection().await);
            }
            let both = standby_connection(&standby, conninfo(&primary, "backup"), Duration::from_millis(300));
            both.start_concurrent_backup("in vain").await.unwrap();
            let failed = both.stop_concurrent_backup().await;
            assert!(matches!(failed, Err(PostgresError::StopTimeout(_))), "{failed:?}");

            both.start_concurrent_backup("promoted").await.unwrap();
            standby.promote();
            let failed = both.stop_concurrent_backup().await;
            assert_eq!(sqlstate(failed), "55000");
        });
    });
}

#[test]
fn the_stop_of_a_standby_lasts_as_long_as_the_standby_archives() {
    let primary = primary(&servers::packaged());
    let settings = [("archive_mode", "always"), ("archive_command", "sleep 0.5")];
    let standby = primary.standby_with(&settings);
    for _ in 0..14 {
        primary.write_wal(1000);
        primary.switch_wal();
    }
    standby.wait_for_replay_of(&primary);
    block_on(async {
        let mut options = StandbyOptions::default();
        options.standby = self::options();
        options.standby.immediate_checkpoint = true;
        (options.times, options.wait) = (1, Duration::from_millis(800));
        let parts = (conninfo(&standby, "backup"), conninfo(&primary, "backup"));
        let both = StandbyPostgreSQLConnection::with_options(parts.0, parts.1, options).unwrap();
        both.start_concurrent_backup("behind a slow archive").await.unwrap();
        both.stop_concurrent_backup().await.unwrap();
    });
}

#[test]
fn the_timeout_limits_how_long_a_server_may_be_silent() {
    let cluster = primary(&servers::packaged());
    let limit = Duration::from_millis(300);
    let began = std::time::Instant::now();
    block_on(async {
        let postgres = connection(&cluster, "backup");
        postgres.set_timeout(Some(limit));
        let pid = {
            let mut connection = postgres.connect().await.unwrap();
            let sets = connection.simple_query("SELECT pg_backend_pid()").await.unwrap();
            sets[0].row(0).unwrap().parse::<u32>(0).unwrap()
        };
        signal(pid, "STOP");
        let late = postgres.is_in_recovery().await.unwrap_err();
        assert!(late.error().is_some_and(tapster::Error::is_timeout), "{late:?}");
        signal(pid, "CONT");
        // The limit also holds while connecting to a server that accepts connections and stays silent.
        signal(cluster.postmaster_pid(), "STOP");
        let status = postgres.fetch_remote_status().await;
        let replication = streaming(&cluster, "backup");
        replication.set_timeout(Some(limit));
        let streaming = replication.fetch_remote_status().await;
        signal(cluster.postmaster_pid(), "CONT");
        assert!(status.connection_error.is_some() && streaming.connection_error.is_some());
    });
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn the_primary_is_asked_for_a_checkpoint_when_all_switches_were_in_vain() {
    let primary = primary(&servers::packaged());
    let settings = [("archive_mode", "always"), ("archive_command", "false")];
    let standby = primary.standby_with(&settings);
    primary.write_wal(1000);
    standby.wait_for_replay_of(&primary);
    let checkpoint = || primary.sql("SELECT checkpoint_lsn FROM pg_control_checkpoint()").unwrap();
    block_on(async {
        for (timeout, is_asked) in [(Duration::ZERO, false), (Duration::from_millis(200), true)] {
            let mut options = StandbyOptions::default();
            options.standby = self::options();
            options.standby.immediate_checkpoint = true;
            (options.times, options.wait) = (1, Duration::from_millis(200));
            options.primary_checkpoint_timeout = timeout;
            let parts = (conninfo(&standby, "backup"), conninfo(&primary, "backup"));
            let both = StandbyPostgreSQLConnection::with_options(parts.0, parts.1, options).unwrap();
            both.start_concurrent_backup("in vain").await.unwrap();
            let before = checkpoint();
            let failed = both.stop_concurrent_backup().await;
            assert!(matches!(failed, Err(PostgresError::StopTimeout(_))), "{failed:?}");
            assert_eq!(checkpoint() != before, is_asked, "{timeout:?}");
        }
    });
}

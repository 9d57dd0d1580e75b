//! Replication clients and slots as JSON and as tables.

use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use super::readable;
use tapster::postgres::{SlotStatus, WalSender};
use tapster::types::Lsn;

/// A client with the columns of `pg_stat_replication` as keys, and figures of our own.
pub(super) fn wal_sender(client: &WalSender) -> Value {
    json!({
        "pid": client.pid,
        "usename": client.usename,
        "application_name": client.application_name,
        "client_addr": client.client_addr,
        "client_port": client.client_port,
        "state": client.state,
        "sync_state": client.sync_state,
        "sent_lsn": position(client.sent_lsn),
        "write_lsn": position(client.write_lsn),
        "flush_lsn": position(client.flush_lsn),
        "replay_lsn": position(client.replay_lsn),
        "sent_lag_bytes": client.sent_lag_bytes,
        "flush_lag_bytes": client.flush_lag_bytes,
        "age_ms": client.age_s.map(|seconds| seconds.saturating_mul(1000)),
        "slot_name": client.slot_name,
    })
}

/// A slot with the columns of `pg_replication_slots` as keys, and a figure of our own.
pub(super) fn slot(slot: &SlotStatus) -> Value {
    json!({
        "slot_name": slot.slot_name,
        "slot_type": slot.slot_type,
        "plugin": slot.plugin,
        "database": slot.database,
        "active": slot.active,
        "active_pid": slot.active_pid,
        "restart_lsn": position(slot.restart_lsn),
        "confirmed_flush_lsn": position(slot.confirmed_flush_lsn),
        "wal_status": slot.wal_status,
        "safe_wal_size": slot.safe_wal_size,
        "retained_bytes": slot.retained_bytes,
    })
}

fn position(lsn: Option<Lsn>) -> Option<String> {
    lsn.map(|lsn| lsn.to_string())
}

pub(super) fn print_wal_senders(clients: &[WalSender]) -> Result<(), Failure> {
    // A client that has received more than a standby that was just restarted is not behind.
    let lag = |bytes: Option<i64>| bytes.map(|bytes| u64::try_from(bytes).unwrap_or_default());
    let headings = ["CLIENT", "user", "address", "state", "sync", "sent lag", "flush lag", "slot", "since"];
    let mut rows = Vec::from([headings.map(String::from).to_vec()]);
    rows.extend(clients.iter().map(|client| {
        Vec::from([
            or_dash(client.application_name.as_deref()),
            or_dash(client.usename.as_deref()),
            or_dash(client.client_addr.as_deref()),
            or_dash(client.state.as_deref()),
            or_dash(client.sync_state.as_deref()),
            or_dash(lag(client.sent_lag_bytes).map(readable::bytes)),
            or_dash(lag(client.flush_lag_bytes).map(readable::bytes)),
            or_dash(client.slot_name.as_deref()),
            or_dash(client.age_s.map(age)),
        ])
    }));
    output::print_table(&rows)
}

pub(super) fn print_slots(slots: &[SlotStatus]) -> Result<(), Failure> {
    let headings = ["SLOT", "type", "active", "keeps from", "keeps", "WAL"];
    let mut rows = Vec::from([headings.map(String::from).to_vec()]);
    rows.extend(slots.iter().map(|slot| {
        let kept = slot.retained_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        Vec::from([
            slot.slot_name.clone(),
            slot.slot_type.clone(),
            slot.active_pid.map_or_else(|| "no".to_string(), |pid| format!("pid {pid}")),
            or_dash(slot.restart_lsn),
            or_dash(kept.map(readable::bytes)),
            or_dash(slot.wal_status.as_deref()),
        ])
    }));
    output::print_table(&rows)
}

pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_string(), |value| value.to_string())
}

/// Seconds in the two largest units.
fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_its_two_largest_units() {
        let texts = [0, 59, 60, 3599, 3600, 86_399, 86_400, 9 * 86_400 + 3600].map(age);
        let expected =
            ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 0 h", "9 d 1 h"];
        assert_eq!(texts, expected);
    }
}

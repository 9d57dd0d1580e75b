//! What receiving WAL needs.

use serde_json::json;

use super::super::output;
use super::facts::Facts;
use super::hints::{RELOAD, RESTART, hba_line};
use super::render::Check;
use tapster::postgres::{PostgresStatus, StreamingStatus};
use tapster::types::{ServerVersion, SqlState};

/// How many WAL senders and slots PostgreSQL has unless told.
const DEFAULT: u32 = 10;

pub(super) fn checks(
    slot: Option<&str>,
    status: &PostgresStatus,
    streaming: &StreamingStatus,
    facts: &Facts,
    version: ServerVersion,
    checks: &mut Vec<Check>,
) {
    checks.push(replication_login(streaming, facts));
    match (status.postgres_systemid, streaming.streaming_systemid) {
        (Some(one), Some(other)) if one != other => checks.push(Check::failed(
            "system identifier",
            format!("{one}, but {other} over the replication connection"),
            ["both connections must reach the same server: look at the list of hosts, or the pooler"],
        )),
        _ => {}
    }
    let most = status.max_wal_senders.unwrap_or_default();
    let in_use = format!("{} of {most} in use", facts.senders);
    let more = format!("ALTER SYSTEM SET max_wal_senders = {};", (most.max(facts.senders) + 5).max(DEFAULT));
    let hints = [more.as_str(), RESTART];
    let senders = match facts.senders {
        _ if most == 0 => Check::failed("wal senders", "none are allowed", hints),
        used if used >= most => Check::failed("wal senders", in_use, hints),
        _ => Check::ok("wal senders", in_use),
    };
    checks.push(senders.with(json!({ "used": facts.senders, "max": most })));
    checks.push(match slot {
        Some(slot) => slot_check(slot, status, facts, version),
        None => slots_check(status, facts),
    });
    let milliseconds = facts.wal_sender_timeout_ms.unwrap_or_default();
    let text = format!("{} s (receive-wal reports every 10 s)", milliseconds / 1000);
    checks.push(match milliseconds {
        0 => Check::warning(
            "wal_sender_timeout",
            "0: the server never notices a receiver that is gone",
            ["ALTER SYSTEM SET wal_sender_timeout = '60s';", RELOAD],
        ),
        1..=20_000 => {
            let hint = "receive with --status-interval of less than half of it";
            Check::warning("wal_sender_timeout", text, [hint])
        }
        _ => Check::ok("wal_sender_timeout", text),
    });
}

fn replication_login(streaming: &StreamingStatus, facts: &Facts) -> Check {
    const NAME: &str = "replication login";
    let Some(error) = &streaming.connection_error else {
        return match streaming.streaming {
            Some(true) => Check::ok(NAME, ""),
            _ => Check::failed(
                NAME,
                "what answers is no WAL sender",
                ["connect to the server, not to a pooler"],
            ),
        };
    };
    let role = &facts.role;
    let mut hints = Vec::new();
    // pg_hba.conf is looked at before the role's attribute.
    if error.sqlstate == Some(SqlState::INVALID_AUTHORIZATION) {
        hints.push(hba_line("replication", role, facts.client.as_deref(), facts.password_method));
        hints.push(RELOAD.into());
    }
    if !facts.may_replicate {
        hints.push(format!("ALTER ROLE {role} REPLICATION;"));
    }
    if hints.is_empty() {
        hints.push(match error.sqlstate {
            Some(SqlState::TOO_MANY_CONNECTIONS) => "all WAL senders are in use: see max_wal_senders".into(),
            Some(SqlState::INVALID_PASSWORD) => "in ~/.pgpass: a line for the database replication".into(),
            _ => "the server's log says more".into(),
        });
    }
    Check::failed(NAME, error.message.clone(), hints)
}

fn slot_check(name: &str, status: &PostgresStatus, facts: &Facts, version: ServerVersion) -> Check {
    let slot = status.replication_slot.as_ref();
    judge_slot(name, status, facts, version).with(json!({
        "slot": name,
        "active": slot.map(|slot| slot.active),
        "restart_lsn": slot.and_then(|slot| slot.restart_lsn).map(|lsn| lsn.to_string()),
        "wal_status": facts.wal_status,
        "safe_wal_size": facts.safe_wal_size,
    }))
}

fn judge_slot(name: &str, status: &PostgresStatus, facts: &Facts, version: ServerVersion) -> Check {
    const NAME: &str = "slot";
    let Some(slot) = &status.replication_slot else {
        let hint = format!("tapster slot create {name}");
        return Check::failed(NAME, format!("there is no physical slot {name}"), [hint]);
    };
    let left = facts.safe_wal_size.and_then(|bytes| u64::try_from(bytes).ok()).map(output::bytes);
    match facts.wal_status.as_deref() {
        Some("lost") => {
            let hint = format!("WAL is missing: drop {name}, create it again, and take a new backup");
            return Check::failed(NAME, format!("{name} is lost"), [hint]);
        }
        Some("unreserved") => {
            let left = left.unwrap_or_else(|| "0 B".into());
            let text = format!("{name} is unreserved, {left} until its WAL is removed");
            return Check::warning(
                NAME,
                text,
                ["let the receiver catch up, or raise max_slot_wal_keep_size"],
            );
        }
        _ => {}
    }
    match (slot.active, slot.restart_lsn) {
        (true, _) => Check::ok(NAME, format!("{name} is active")),
        (false, None) => {
            let hint = format!("tapster receive-wal -S {name}, or create it without --no-reserve-wal");
            Check::warning(NAME, format!("{name} keeps no WAL, as nobody has used it yet"), [hint])
        }
        (false, Some(lsn)) => {
            let mut hint = format!("tapster receive-wal -S {name}");
            if version >= ServerVersion::release(13) && facts.safe_wal_size.is_none() {
                hint.push_str("; until then WAL piles up, without a limit in max_slot_wal_keep_size");
            }
            Check::warning(NAME, format!("nobody uses {name}, which keeps WAL from {lsn} on"), [hint])
        }
    }
}

fn slots_check(status: &PostgresStatus, facts: &Facts) -> Check {
    let most = status.max_replication_slots.unwrap_or_default();
    let text = format!("{} of {most} in use", facts.slots);
    if facts.slots < most {
        return Check::ok("slots", text);
    }
    let more = format!("ALTER SYSTEM SET max_replication_slots = {};", (facts.slots + 5).max(DEFAULT));
    Check::warning("slots", text, [more.as_str(), RESTART])
}

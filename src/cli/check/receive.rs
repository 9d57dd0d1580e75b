//! What receiving WAL needs.

use serde_json::json;

use super::super::advice::{RELOAD, hba_line, remedy};
use super::super::given::{Given, for_shell};
use super::super::readable;
use super::hints::{RESTART, password_method};
use super::render::Check;
use tapster::postgres::{PostgresStatus, Readiness, SlotAvailability, SlotStatus, StreamingStatus};
use tapster::types::{Advice, ServerVersion};

/// How many WAL senders and slots PostgreSQL has unless told.
const DEFAULT: u32 = 10;
const LOGICAL: &str = "logical";

pub(super) fn checks(
    given: &Given,
    status: &PostgresStatus,
    streaming: &StreamingStatus,
    readiness: &Readiness,
    slots: &[SlotStatus],
    version: ServerVersion,
    checks: &mut Vec<Check>,
) {
    checks.push(replication_login(given, streaming, readiness));
    match (status.postgres_systemid, streaming.streaming_systemid) {
        (Some(one), Some(other)) if one != other => checks.push(Check::failed(
            "system identifier",
            format!("{one}, but {other} over the replication connection"),
            ["both connections must reach the same server: look at the list of hosts, or the pooler"],
        )),
        _ => {}
    }
    let most = status.max_wal_senders.unwrap_or_default();
    let in_use = format!("{} of {most} in use", readiness.wal_senders);
    let more =
        format!("ALTER SYSTEM SET max_wal_senders = {};", (most.max(readiness.wal_senders) + 5).max(DEFAULT));
    let hints = [more.as_str(), RESTART];
    let senders = match readiness.wal_senders {
        _ if most == 0 => Check::failed("wal senders", "none are allowed", hints),
        used if used >= most => Check::failed("wal senders", in_use, hints),
        _ => Check::ok("wal senders", in_use),
    };
    let detail = json!({ "used": readiness.wal_senders, "max": most });
    checks.push(senders.with(detail).measured(Some(readiness.wal_senders.into())));
    checks.push(match &given.slot {
        Some(name) if slots.iter().any(|slot| slot.slot_name == *name && slot.slot_type == LOGICAL) => {
            Check::failed(
                "slot",
                format!("{name} is a logical slot"),
                ["leave it to the program that uses it, and name another slot with -S"],
            )
        }
        Some(slot) => slot_check(slot, given, status, readiness, version),
        None => slots_check(status, slots),
    });
    let milliseconds = readiness.wal_sender_timeout_ms.unwrap_or_default();
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

fn replication_login(given: &Given, streaming: &StreamingStatus, readiness: &Readiness) -> Check {
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
    let role = &readiness.login_role;
    let mut hints = Vec::new();
    // pg_hba.conf is looked at before the role's attribute.
    match error.advice {
        // What is known over the other connection is more: the role's name as the server quotes it, the address that the
        // server sees, and how it stores passwords.
        Some(Advice::AddHbaLine { .. } | Advice::MapUser { .. } | Advice::AllowLogin) => {
            let client = readiness.client_addr.as_deref();
            hints.push(hba_line("replication", role, client, password_method(readiness)));
            hints.push(RELOAD.into());
        }
        Some(Advice::CheckPassword) => hints.push("in ~/.pgpass: a line for the database replication".into()),
        // The next lines say what to do.
        Some(Advice::AllowReplication | Advice::FreeWalSender) | None => {}
        Some(advice) => hints.extend(remedy(advice, given).unwrap_or_default()),
    }
    if !readiness.may_replicate {
        hints.push(format!("ALTER ROLE {role} REPLICATION;"));
    }
    if hints.is_empty() {
        hints.push("the server's log says more".into());
    }
    Check::failed(NAME, error.message.clone(), hints)
}

fn slot_check(
    name: &str,
    given: &Given,
    status: &PostgresStatus,
    readiness: &Readiness,
    version: ServerVersion,
) -> Check {
    let slot = status.replication_slot.as_ref();
    let availability = readiness.slot.as_ref();
    let safe_wal_size = availability.and_then(|availability| availability.safe_wal_size);
    let detail = json!({
        "slot_name": name,
        "active": slot.map(|slot| slot.active),
        "restart_lsn": slot.and_then(|slot| slot.restart_lsn).map(|lsn| lsn.to_string()),
        "wal_status": availability.and_then(|availability| availability.wal_status.as_deref()),
        "safe_wal_size": safe_wal_size,
    });
    judge_slot(name, given, status, readiness, version).with(detail).measured(safe_wal_size)
}

fn judge_slot(
    name: &str,
    given: &Given,
    status: &PostgresStatus,
    readiness: &Readiness,
    version: ServerVersion,
) -> Check {
    const NAME: &str = "slot";
    let word = for_shell(name);
    let Some(slot) = &status.replication_slot else {
        let hint = given.tapster("slot create", &word);
        return Check::failed(NAME, format!("there is no physical slot {name}"), [hint]);
    };
    let (wal_status, safe_wal_size) = match &readiness.slot {
        Some(SlotAvailability { wal_status, safe_wal_size, .. }) => (wal_status.as_deref(), *safe_wal_size),
        None => (None, None),
    };
    let left = safe_wal_size.and_then(|bytes| u64::try_from(bytes).ok()).map(readable::bytes);
    match wal_status {
        Some("lost") => {
            let again = ["slot drop", "slot create"].map(|command| given.tapster(command, &word));
            let hint = String::from("WAL is missing: drop the slot, create it again, and take a new backup");
            return Check::failed(NAME, format!("{name} is lost"), [hint].into_iter().chain(again));
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
            let hint = "start the receiver, DIR being the archive; a slot made without --no-reserve-wal keeps WAL at once";
            let receive = given.tapster("receive-wal", &format!("-S {word} -D DIR"));
            let text = format!("{name} keeps no WAL, as nobody has used it yet");
            Check::warning(NAME, text, [hint.into(), receive])
        }
        (false, Some(lsn)) => {
            let mut hint = String::from("start the receiver, DIR being the archive");
            if version >= ServerVersion::release(13) && safe_wal_size.is_none() {
                hint.push_str("; until then WAL piles up, without a limit in max_slot_wal_keep_size");
            }
            let receive = given.tapster("receive-wal", &format!("-S {word} -D DIR"));
            Check::warning(
                NAME,
                format!("nobody uses {name}, which keeps WAL from {lsn} on"),
                [hint, receive],
            )
        }
    }
}

/// All slots: whether there is room for another, and whether one keeps WAL for nobody or has lost it.
fn slots_check(status: &PostgresStatus, slots: &[SlotStatus]) -> Check {
    let most = status.max_replication_slots.unwrap_or_default();
    let used = u32::try_from(slots.len()).unwrap_or(u32::MAX);
    let mut texts = Vec::from([format!("{used} of {most} in use")]);
    let mut hints = Vec::new();
    if used >= most {
        hints.push(format!(
            "ALTER SYSTEM SET max_replication_slots = {};",
            used.saturating_add(5).max(DEFAULT)
        ));
        hints.push(RESTART.into());
    }
    let troubles: Vec<_> = slots.iter().filter_map(trouble).collect();
    if !troubles.is_empty() {
        hints.push("start what uses such a slot; drop it only if nobody does; check -S NAME says more of a physical one".into());
    }
    texts.extend(troubles);
    let detail = json!({ "used": used, "max": most });
    let check = match hints.is_empty() {
        true => Check::ok("slots", texts.join("; ")),
        false => Check::warning("slots", texts.join("; "), hints),
    };
    check.with(detail)
}

/// What is wrong with a slot. Every invalidated one counts as lost.
fn trouble(slot: &SlotStatus) -> Option<String> {
    let kept = slot.retained_bytes.and_then(|bytes| u64::try_from(bytes).ok()).map(readable::bytes);
    let kept = kept.unwrap_or_else(|| "WAL".into());
    let kind = if slot.slot_type == LOGICAL { "logical slot" } else { "slot" };
    let what = match (slot.wal_status.as_deref(), slot.active, slot.restart_lsn) {
        (Some("lost"), ..) => "is lost".into(),
        (Some("unreserved"), ..) => format!("is unreserved: the next checkpoint may remove its WAL ({kept})"),
        (_, false, Some(_)) => format!("keeps {kept} for nobody"),
        (Some("extended"), ..) => format!("is extended: it keeps {kept}, more than max_wal_size"),
        _ => return None,
    };
    Some(format!("{kind} {} {what}", slot.slot_name))
}

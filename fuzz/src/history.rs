//! Properties of timeline history files.

use tapster::types::{Lsn, TimelineId};
use tapster::wal::TimelineHistory;

/// The input is a timeline, as one byte, and its history file.
pub fn timeline_history(input: &[u8]) {
    let Some((&timeline, file)) = input.split_first() else { return };
    let Some(timeline) = TimelineId::new(timeline.into()) else { return };
    match TimelineHistory::parse(timeline, file) {
        Ok(history) => {
            check_bounds_and_order(&history, file);
            check_written_lines(&history);
            check_owners_of_bytes(&history);
        }
        Err(error) => assert!(error.line <= 1 + file.iter().filter(|&&byte| byte == b'\n').count()),
    }
}

fn check_bounds_and_order(history: &TimelineHistory, file: &[u8]) {
    let entries = history.entries();
    // The shortest line is `1 0/1` and a newline.
    assert!(entries.len() <= file.len().div_ceil(6));
    // Replacing a byte that is not UTF-8 makes three bytes of one.
    assert!(entries.iter().map(|entry| entry.reason.len()).sum::<usize>() <= 3 * file.len());
    let mut last = None;
    for parent in entries.iter().map(|entry| entry.parent) {
        assert!(last < Some(parent) && parent < history.timeline());
        last = Some(parent);
    }
    assert_eq!(history.began_at(), entries.last().map(|entry| entry.switchpoint));
}

/// Checks that the history is the same when it is written as a server writes it, with blank lines and
/// comments.
fn check_written_lines(history: &TimelineHistory) {
    let mut file = String::from("# 9\t0/0\tof nobody\n");
    for entry in history.entries() {
        file.push_str(&format!("{}\t{}\t{}\n\n", entry.parent, entry.switchpoint, entry.reason));
    }
    assert_eq!(TimelineHistory::parse(history.timeline(), file.as_bytes()).as_ref(), Ok(history));
}

/// Checks that each byte belongs to one timeline, that `contains` agrees up to that byte, and that a plain
/// search finds the same timeline.
fn check_owners_of_bytes(history: &TimelineHistory) {
    let entries = history.entries();
    let mut positions: Vec<_> = entries.iter().map(|entry| entry.switchpoint.get()).collect();
    positions.extend([0, u64::MAX - 1]);
    let is_ordered = entries.is_sorted_by_key(|entry| entry.switchpoint);
    for position in positions.iter().flat_map(|&at| [at.saturating_sub(1), at, at.saturating_add(1)]) {
        let lsn = Lsn::new(position);
        let owner = history.timeline_of(lsn);
        let after = Lsn::new(position.saturating_add(1));
        assert!(history.contains(owner, lsn));
        assert!(history.contains(owner, after), "{owner} does not own {lsn}");
        if is_ordered {
            let first = entries.iter().find(|entry| lsn < entry.switchpoint);
            assert_eq!(owner, first.map_or_else(|| history.timeline(), |entry| entry.parent));
        }
        for entry in entries {
            let switchpoint = history.switchpoint_of(entry.parent).expect("an ancestor");
            assert!(switchpoint <= entry.switchpoint);
            assert_eq!(history.contains(entry.parent, lsn), lsn <= switchpoint);
        }
    }
    assert_eq!(history.switchpoint_of(history.timeline()), None);
    assert!(history.contains(history.timeline(), Lsn::new(u64::MAX)));
}

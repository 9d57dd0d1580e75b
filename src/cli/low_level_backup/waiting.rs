//! What is told while the backup waits.

use core::pin::pin;
use core::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::output;
use tapster::postgres::{ArchiverStats, PostgreSQL as _, PostgreSQLConnection};
use tapster::types::Printable;

/// What is done within this time needs no text.
const QUIET: Duration = Duration::from_millis(500);
/// The time between two texts.
const EVERY: Duration = Duration::from_secs(10);
/// How long the server may take to say how far it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does `work`. While that takes its time, `text` says what it waits for, and for how long it has waited.
pub(super) async fn told<T>(
    work: impl Future<Output = T>,
    mut text: impl AsyncFnMut(Duration) -> String,
) -> T {
    let began = Instant::now();
    let mut work = pin!(work);
    let mut pause = QUIET;
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep(pause) => {}
        }
        tokio::select! {
            biased;
            done = &mut work => return done,
            line = text(began.elapsed()) => output::note(&line),
        }
        pause = EVERY;
    }
}

/// `waiting for`, or after the first text `still waiting (20 s) for`.
pub(super) fn waiting(waited: Duration) -> String {
    match waited.as_secs() {
        0 => "waiting for".into(),
        seconds => format!("still waiting ({seconds} s) for"),
    }
}

/// The checkpoint that a backup starts with.
pub(super) struct Checkpoint {
    is_fast: bool,
    /// `checkpoint_timeout` in seconds, and `checkpoint_completion_target`.
    settings: Option<(u64, f64)>,
}

impl Checkpoint {
    pub(super) async fn of(is_fast: bool, postgres: &PostgreSQLConnection) -> Self {
        let target = postgres.get_setting("checkpoint_completion_target").await.ok();
        let target = target.and_then(|target| target.parse().ok());
        let timeout = postgres.fetch_remote_status().await.checkpoint_timeout;
        Self { is_fast, settings: timeout.zip(target) }
    }

    pub(super) fn text(&self, waited: Duration) -> String {
        let waiting = waiting(waited);
        if self.is_fast {
            return format!("{waiting} a fast checkpoint of the server");
        }
        let Some((timeout, target)) = self.settings else {
            return format!("{waiting} a checkpoint of the server; --fast makes it as fast as possible");
        };
        // Settings of hours are exact in a float.
        let limit = Duration::from_secs(timeout).mul_f64(target.clamp(0.0, 1.0)).as_secs();
        format!(
            "{waiting} a checkpoint of the server, which takes up to {limit} s (checkpoint_timeout {timeout} s x \
             checkpoint_completion_target {target}), or longer if another one is under way; --fast makes it as fast as \
             possible"
        )
    }
}

/// A server that archives the WAL of the backup, asked over a connection of its own: the backup's is busy.
pub(super) struct Archiver<'a> {
    pub(super) postgres: &'a PostgreSQLConnection,
    /// A segment that the backup needs, close to the last one or the last itself, if that is known.
    pub(super) segment: Option<String>,
    has_advised: bool,
}

impl<'a> Archiver<'a> {
    pub(super) fn new(postgres: &'a PostgreSQLConnection, segment: Option<String>) -> Self {
        Self { postgres, segment, has_advised: false }
    }

    pub(super) async fn text(&mut self, waited: Duration) -> String {
        let waiting = waiting(waited);
        let what = match &self.segment {
            Some(segment) => format!("WAL segment {segment} to be archived by the server"),
            None => "the last WAL segment to be archived by the server".into(),
        };
        let Ok(Some((trouble, state))) = timeout(PATIENCE, state(self.postgres)).await else {
            return format!("{waiting} {what}");
        };
        let mut text = format!("{waiting} {what}: {state}");
        if trouble && !self.has_advised {
            self.has_advised = true;
            text.push_str(
                "\nhint: as soon as the server archives, the wait ends by itself; Ctrl-C abandons the backup; the next one may \
                 take --wal-archive DIR, which waits for a receiver's archive instead",
            );
        }
        text
    }
}

/// Whether something is wrong with the server's archiving, and how it goes; `None` if the server does not tell.
async fn state(postgres: &PostgreSQLConnection) -> Option<(bool, String)> {
    if archives_nothing(postgres).await {
        return Some((true, "its archive_command is empty, so nothing is archived".into()));
    }
    let stats = postgres.get_archiver_stats().await.ok()?;
    Some((!stats.is_archiving, archiver_progress(&stats)))
}

/// Whether neither a command nor a library archives what `archive_mode` collects.
pub(in crate::cli) async fn archives_nothing(postgres: &PostgreSQLConnection) -> bool {
    let command = postgres.get_setting("archive_command").await;
    // Servers before 15 have no such setting.
    let library = postgres.get_setting("archive_library").await.unwrap_or_default();
    command.is_ok_and(|command| command.is_empty()) && library.is_empty()
}

/// How far a server is, by its statistics.
pub(in crate::cli) fn archiver_progress(stats: &ArchiverStats) -> String {
    let archived = match &stats.last_archived_wal {
        Some(last) => format!("{} was archived last", Printable(last)),
        None => "nothing was archived so far".into(),
    };
    match (stats.is_archiving, &stats.last_failed_wal, stats.last_failed_time) {
        (false, Some(failed), Some(time)) => format!(
            "archiving failed {} times, last for {} at {time}, and the server's log says why; {archived}",
            stats.failed_count,
            Printable(failed)
        ),
        _ => archived,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_told_from_the_first_second_and_then_now_and_then() {
        let mut told_at = Vec::new();
        let began = Instant::now();
        told(sleep(Duration::from_secs(25)), async |waited| {
            told_at.push(waited.as_millis());
            waiting(waited)
        })
        .await;
        assert_eq!(told_at, [500, 10_500, 20_500]);
        assert_eq!(began.elapsed(), Duration::from_secs(25), "the texts hold nothing up");
        let quick = told(async { 7 }, async |_| unreachable!()).await;
        assert_eq!(quick, 7);
        assert_eq!(waiting(Duration::from_millis(20_500)), "still waiting (20 s) for");
    }

    #[test]
    fn a_checkpoint_takes_as_long_as_the_settings_say() {
        let checkpoint = Checkpoint { is_fast: false, settings: Some((300, 0.9)) };
        let text = checkpoint.text(QUIET);
        assert!(
            text.starts_with("waiting for a checkpoint of the server, which takes up to 270 s"),
            "{text}"
        );
        assert!(text.contains("--fast"), "{text}");
        let fast = Checkpoint { is_fast: true, ..checkpoint }.text(QUIET);
        assert_eq!(fast, "waiting for a fast checkpoint of the server");
    }
}

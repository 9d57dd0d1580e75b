//! `--metrics-file`: figures in Prometheus' text format, for a collector that reads files.

use core::time::Duration;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::registry::Shown;
use super::report::Reporter;
use tapster::storage::{Directory, FsyncFigures};

/// How long the last figures may take to be written.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// The metrics file. A thread of its own writes it, so that a slow or full disk never delays the receivers.
#[derive(Debug)]
pub(super) struct MetricsFile {
    path: PathBuf,
    interval: Duration,
    written_at: Option<Instant>,
    /// The running write, at most one; later figures wait for the next.
    writing: Option<oneshot::Receiver<io::Result<()>>>,
    /// Whether the last write failed, and was reported.
    has_failed: bool,
}

impl MetricsFile {
    pub(super) fn new(path: PathBuf, interval: Duration) -> Self {
        Self { path, interval, written_at: None, writing: None, has_failed: false }
    }

    /// When [`poll`](Self::poll) is due.
    pub(super) fn due(&self) -> Instant {
        match self.written_at {
            Some(at) => at + self.interval,
            // New figures are waiting for the previous write to finish.
            None if self.writing.is_some() => Instant::now() + Duration::from_millis(100),
            None => Instant::now(),
        }
    }

    /// Writes the figures if it is time, or if they have `changed`.
    pub(super) fn poll(&mut self, servers: &[Shown], changed: bool, report: &Reporter) {
        let now = Instant::now();
        if changed {
            self.written_at = None;
        }
        if self.written_at.is_some_and(|at| now < at + self.interval) {
            return;
        }
        if let Some(writing) = &mut self.writing {
            match writing.try_recv() {
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Closed) => {}
                Ok(result) => self.take_over(&result, report),
            }
        }
        self.writing = Some(write(&self.path, servers));
        self.written_at = Some(now);
    }

    /// Writes the last figures, unless that takes too long.
    pub(super) async fn finish(&mut self, servers: &[Shown], report: &Reporter) {
        let last = async {
            if let Some(writing) = self.writing.take() {
                let _ = writing.await;
            }
            if let Ok(result) = write(&self.path, servers).await {
                self.take_over(&result, report);
            }
        };
        let _ = tokio::time::timeout(LAST_WRITE, last).await;
    }

    fn take_over(&mut self, result: &io::Result<()>, report: &Reporter) {
        if let Err(error) = result
            && !self.has_failed
        {
            let text = format!("could not write metrics to \"{}\": {error}", self.path.display());
            report.warning("metrics", &text);
        }
        self.has_failed = result.is_err();
    }
}

/// Writes on a thread that may block.
fn write(path: &Path, servers: &[Shown]) -> oneshot::Receiver<io::Result<()>> {
    let (done, result) = oneshot::channel();
    let (path, text) = (path.to_path_buf(), render(servers, SystemTime::now()));
    tokio::task::spawn_blocking(move || drop(done.send(replace(&path, &text))));
    result
}

/// Replaces the file as a whole: a reader finds the old or the new figures, never a part. It is not synced, as a crash
/// makes the figures outdated anyway.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let (directory, name) = Directory::of_file(path)?;
    // A file that cannot be removed does no harm.
    let _ = directory.remove_left_over(|left| Some(left) == name.to_str());
    let new = directory.new_file(name, FILE_MODE)?;
    new.file().write_all(text.as_bytes())?;
    Ok(new.publish()?)
}

/// Less what the umask takes away: a collector that runs as another user reads it.
const FILE_MODE: u32 = 0o666;

/// A metric, with a value for each server.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// None where it is not known.
    value: fn(&Shown) -> Option<f64>,
}

const METRICS: &[Metric] = &[
    Metric {
        name: "tapster_up",
        kind: "gauge",
        help: "Whether WAL is streamed.",
        value: |server| Some(f64::from(u8::from(server.is_up()))),
    },
    Metric {
        name: "tapster_exit_code",
        kind: "gauge",
        help: "The exit code of receiving; absent while it runs. Codes other than 0 and 3 need attention.",
        value: |server| server.ended.map(f64::from),
    },
    Metric {
        name: "tapster_timeline",
        kind: "gauge",
        help: "The timeline that is received.",
        value: |server| Some(f64::from(server.figures.timeline?.get())),
    },
    Metric {
        name: "tapster_received_lsn",
        kind: "gauge",
        help: "Everything before this byte of the log was received.",
        value: |server| position(server, server.figures.received.get()),
    },
    Metric {
        name: "tapster_written_lsn",
        kind: "gauge",
        help: "Everything before this byte of the log is in a file.",
        value: |server| position(server, server.figures.written.get()),
    },
    Metric {
        name: "tapster_flushed_lsn",
        kind: "gauge",
        help: "Everything before this byte of the log is durable.",
        value: |server| position(server, server.figures.flushed.get()),
    },
    Metric {
        name: "tapster_server_lsn",
        kind: "gauge",
        help: "The server's own end of the log, as of its last message.",
        value: |server| position(server, server.figures.server_end.get()),
    },
    Metric {
        name: "tapster_lag_bytes",
        kind: "gauge",
        help: "Bytes that the server has and that are in no file here.",
        value: |server| position(server, server.figures.lag_bytes()),
    },
    Metric {
        name: "tapster_flush_lag_bytes",
        kind: "gauge",
        help: "Bytes that the server has and that are not durable here.",
        value: |server| position(server, server.figures.flush_lag_bytes()),
    },
    Metric {
        name: "tapster_lag_seconds",
        kind: "gauge",
        help: "How long ago a file here had all WAL that the server had announced.",
        value: |server| server.figures.since_message.map(|_| server.figures.behind.as_secs_f64()),
    },
    Metric {
        name: "tapster_last_message_age_seconds",
        kind: "gauge",
        help: "How long before this was written the server's last message came.",
        value: |server| server.figures.since_message.map(|since| since.as_secs_f64()),
    },
    Metric {
        name: "tapster_received_bytes_total",
        kind: "counter",
        help: "Bytes of WAL received.",
        value: |server| Some(server.figures.bytes as f64),
    },
    Metric {
        name: "tapster_segments_total",
        kind: "counter",
        help: "Segments completed.",
        value: |server| Some(server.figures.segments as f64),
    },
    Metric {
        name: "tapster_reconnects_total",
        kind: "counter",
        help: "Connections made after the first.",
        value: |server| Some(server.figures.connections.saturating_sub(1) as f64),
    },
    Metric {
        name: "tapster_connection_losses_total",
        kind: "counter",
        help: "Connections that were lost, and attempts to connect again that failed.",
        value: |server| Some(server.figures.losses as f64),
    },
    Metric {
        name: "tapster_damage_total",
        kind: "counter",
        help: "How many times the server sent damaged WAL.",
        value: |server| Some(server.figures.damages as f64),
    },
    Metric {
        name: "tapster_out_of_space",
        kind: "gauge",
        help: "Whether there is no space for WAL.",
        value: |server| Some(f64::from(u8::from(server.state() == "out_of_space"))),
    },
    Metric {
        name: "tapster_fsync_longest_seconds",
        kind: "gauge",
        help: "The longest fsync of a segment.",
        value: |server| Some(server.figures.fsyncs.longest.as_secs_f64()),
    },
];

/// None before the first stream.
fn position(server: &Shown, bytes: u64) -> Option<f64> {
    server.figures.timeline.map(|_| bytes as f64)
}

/// All figures as one document.
fn render(servers: &[Shown], now: SystemTime) -> String {
    let mut text = Text(String::new());
    text.head("tapster_info", "gauge", "The program that wrote this.");
    text.sample("tapster_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    text.head("tapster_written_at_seconds", "gauge", "When this was written, as Unix time.");
    let written_at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    text.sample("tapster_written_at_seconds", &[], written_at);
    for metric in METRICS {
        text.head(metric.name, metric.kind, metric.help);
        for server in servers {
            if let Some(value) = (metric.value)(server) {
                text.sample(metric.name, &[("server", &server.label)], value);
            }
        }
    }
    text.head("tapster_state", "gauge", "What is done about the server: one of these is 1.");
    for server in servers {
        for state in Shown::STATES {
            let is = f64::from(u8::from(state == server.state()));
            text.sample("tapster_state", &[("server", &server.label), ("state", state)], is);
        }
    }
    text.head("tapster_fsync_seconds", "histogram", "How long it took to make WAL durable.");
    for server in servers {
        text.histogram("tapster_fsync_seconds", ("server", &server.label), &server.figures.fsyncs);
    }
    text.0
}

/// Prometheus' text format.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let begin = if index == 0 { '{' } else { ',' };
            self.0.push_str(&format!("{begin}{label}=\"{text}\""));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.0.push_str(&format!("{end} {value}\n"));
    }

    fn histogram(&mut self, name: &str, label: (&str, &str), fsyncs: &FsyncFigures) {
        let bounds = FsyncFigures::BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string());
        let mut count = 0;
        for (bound, n) in bounds.chain(["+Inf".into()]).zip(fsyncs.counts) {
            count += n;
            self.sample(&format!("{name}_bucket"), &[label, ("le", &bound)], count as f64);
        }
        self.sample(&format!("{name}_sum"), &[label], fsyncs.total.as_secs_f64());
        self.sample(&format!("{name}_count"), &[label], count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Registry;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_manual_has_every_metric() {
        let page = include_str!("../../../docs/operating.md");
        let registry = Registry::default();
        let entry = registry.add("a".into(), Arc::default());
        registry.ended(&entry, 5);
        let text = render(&registry.show(), UNIX_EPOCH);
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = line.split(' ').next().unwrap();
            assert!(name == "tapster_info" || page.contains(&format!("`{name}")), "{name} is not there");
        }
        for state in Shown::STATES {
            assert!(page.contains(state), "{state} is not there");
        }
    }

    #[test]
    fn the_file_is_replaced_and_a_link_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("x.prom"), dir.path().join("precious"));
        std::fs::write(&precious, "untouched").unwrap();
        let guessed = dir.path().join(format!("x.prom.{}.tmp", std::process::id()));
        for link in [&path, &guessed] {
            std::os::unix::fs::symlink(&precious, link).unwrap();
        }
        std::fs::write(dir.path().join("x.prom.0123456789abcdef.tmp"), "left by a crash").unwrap();
        replace(&path, "figures").unwrap_err();
        assert_eq!(std::fs::read_link(&path).unwrap(), precious);
        std::fs::write(dir.path().join("y.prom"), "old").unwrap();
        replace(&dir.path().join("y.prom"), "figures").unwrap();
        assert_eq!(std::fs::read(&precious).unwrap(), b"untouched");
        assert_eq!(std::fs::read(dir.path().join("y.prom")).unwrap(), b"figures");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_label_may_have_any_character() {
        let mut text = Text(String::new());
        text.sample("x", &[("a", "q\"b\\s\nn"), ("b", "")], 1.5);
        text.sample("y", &[], 0.0);
        assert_eq!(text.0, "x{a=\"q\\\"b\\\\s\\nn\",b=\"\"} 1.5\ny 0\n");
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let mut text = Text(String::new());
        let mut fsyncs = FsyncFigures::default();
        (fsyncs.counts[0], fsyncs.counts[6]) = (2, 3);
        text.histogram("x", ("server", "a"), &fsyncs);
        let bucket = |bound: &str, n: u64| format!("x_bucket{{server=\"a\",le=\"{bound}\"}} {n}\n");
        assert!(text.0.starts_with(&(bucket("0.0001", 2) + &bucket("0.001", 2))), "{}", text.0);
        assert!(text.0.ends_with(&(bucket("+Inf", 5) + "x_sum{server=\"a\"} 0\nx_count{server=\"a\"} 5\n")));
    }
}

//! Prints the checks: for people, as JSON, for monitoring.

use serde_json::{Map, Value, json};

use super::super::about::About;
use super::super::failure::Failure;
use super::super::output;
use super::super::rows::or_dash;
use tapster::types::TimelineId;

/// The server that was checked; with nothing but its address if there is no connection.
#[derive(Debug, Default)]
pub(in crate::cli) struct Server {
    pub(in crate::cli) about: About,
    pub(in crate::cli) in_recovery: Option<bool>,
    pub(in crate::cli) timeline: Option<TimelineId>,
}

impl Server {
    /// The `server` of a document, with what this command finds out beyond others.
    pub(in crate::cli) fn to_json(&self) -> Value {
        let mut value = self.about.to_json();
        value["in_recovery"] = self.in_recovery.into();
        value["timeline"] = self.timeline.map(TimelineId::get).into();
        value
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Warning,
    Failed,
}

impl Outcome {
    /// The word for people, and the one in documents.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("ok", "ok"),
            Self::Warning => ("WARNING", "warning"),
            Self::Failed => ("FAILED", "failed"),
        }
    }
}

/// One line of the answer.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    pub(super) text: String,
    /// The same for programs: an object, or nothing.
    detail: Value,
    /// The number that monitoring draws over time.
    measured: Option<i64>,
    /// What mends it: statements, settings, lines of files.
    pub(super) hints: Vec<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            outcome: Outcome::Ok,
            text: text.into(),
            detail: Value::Null,
            measured: None,
            hints: Vec::new(),
        }
    }

    pub(super) fn warning<H: Into<String>>(
        name: &'static str,
        text: impl Into<String>,
        hints: impl IntoIterator<Item = H>,
    ) -> Self {
        let hints = hints.into_iter().map(Into::into).collect();
        Self { outcome: Outcome::Warning, hints, ..Self::ok(name, text) }
    }

    pub(super) fn failed<H: Into<String>>(
        name: &'static str,
        text: impl Into<String>,
        hints: impl IntoIterator<Item = H>,
    ) -> Self {
        Self { outcome: Outcome::Failed, ..Self::warning(name, text, hints) }
    }

    pub(super) fn with(self, detail: Value) -> Self {
        Self { detail, ..self }
    }

    pub(super) fn measured(self, measured: Option<i64>) -> Self {
        Self { measured, ..self }
    }
}

fn count(checks: &[Check], outcome: Outcome) -> usize {
    checks.iter().filter(|check| check.outcome == outcome).count()
}

pub(super) fn text(server: &Server, checks: &[Check]) -> Result<(), Failure> {
    if server.about.version.is_some() {
        output::print(&format!(
            "{}: PostgreSQL {}, {}, timeline {}, system {}",
            server.about.address(),
            or_dash(server.about.version),
            if server.in_recovery == Some(true) { "standby" } else { "primary" },
            or_dash(server.timeline),
            or_dash(server.about.system_id),
        ))?;
    }
    let mut rows = Vec::new();
    for check in checks {
        let mut texts = check.text.lines();
        let first = texts.next().unwrap_or_default().to_string();
        rows.push(Vec::from([format!("  {}", check.name), check.outcome.words().0.into(), first]));
        let below = texts.chain(check.hints.iter().flat_map(|hint| hint.lines()));
        rows.extend(below.map(|line| Vec::from([String::new(), String::new(), line.to_string()])));
    }
    output::print_table(&rows)?;
    let [failed, warnings, ok] = [Outcome::Failed, Outcome::Warning, Outcome::Ok].map(|o| count(checks, o));
    let plural = if warnings == 1 { "" } else { "s" };
    output::print(&format!("{failed} failed, {warnings} warning{plural}, {ok} ok"))
}

pub(super) fn json(server: &Server, checks: &[Check]) -> Result<(), Failure> {
    let check = |check: &Check| {
        let mut value = Map::new();
        value.insert("name".into(), check.name.replace(' ', "_").into());
        value.insert("status".into(), check.outcome.words().1.into());
        value.insert("text".into(), check.text.as_str().into());
        if !check.detail.is_null() {
            value.insert("detail".into(), check.detail.clone());
        }
        if !check.hints.is_empty() {
            value.insert("hint".into(), check.hints.join("\n").into());
        }
        Value::Object(value)
    };
    output::print_json(&json!({
        "schema": "tapster.check/1",
        "ok": count(checks, Outcome::Failed) == 0,
        "server": server.to_json(),
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
        "counts": {
            "ok": count(checks, Outcome::Ok),
            "warning": count(checks, Outcome::Warning),
            "failed": count(checks, Outcome::Failed),
        },
    }))
}

pub(super) fn nagios(server: &Server, checks: &[Check]) -> Result<(), Failure> {
    let (word, told) = match (count(checks, Outcome::Failed), count(checks, Outcome::Warning)) {
        (0, 0) => ("OK", Outcome::Ok),
        (0, _) => ("WARNING", Outcome::Warning),
        _ => ("CRITICAL", Outcome::Failed),
    };
    let texts: Vec<String> = checks
        .iter()
        .filter(|check| check.outcome == told && told != Outcome::Ok)
        .map(|check| format!("{}: {}", check.name, plugin_text(&check.text)))
        .collect();
    let text = if texts.is_empty() { format!("{} checks", checks.len()) } else { texts.join("; ") };
    let is_connected = server.about.version.is_some();
    let server = if is_connected { format!("{}: ", server.about.address()) } else { String::new() };
    let text = plugin_text(&format!("{server}{text}"));
    output::print(format!("TAPSTER {word} - {text} | {}", numbers(checks)).trim_end_matches(" | "))
}

/// The numbers that monitoring draws over time.
fn numbers(checks: &[Check]) -> String {
    let known = [
        ("connection", "connect_ms", ""),
        ("wal senders", "wal_senders", ""),
        ("slot", "slot_safe_wal", "B"),
    ];
    let number = |(name, label, unit)| {
        let check = checks.iter().find(|check: &&Check| check.name == name)?;
        Some(format!("{label}={}{unit}", check.measured?))
    };
    known.into_iter().filter_map(number).collect::<Vec<_>>().join(" ")
}

/// The first line, with bars replaced: in a plugin's output a bar begins the numbers.
pub(super) fn plugin_text(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('|', "/")
}

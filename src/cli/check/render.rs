//! The answer: for people, for programs, for monitoring.

use serde_json::{Map, Value, json};

use super::super::output;

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
    pub(super) detail: Value,
    /// What mends it: statements, settings, lines of files.
    pub(super) hints: Vec<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, text: text.into(), detail: Value::Null, hints: Vec::new() }
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
}

fn count(checks: &[Check], outcome: Outcome) -> usize {
    checks.iter().filter(|check| check.outcome == outcome).count()
}

/// `db1:5432`, of a server that was reached.
fn address(server: &Value) -> Option<String> {
    Some(format!("{}:{}", server["host"].as_str()?, server["port"].as_u64()?))
}

pub(super) fn text(server: &Value, checks: &[Check]) {
    if let Some(address) = address(server) {
        let role = if server["in_recovery"] == true { "standby" } else { "primary" };
        let system = server["system_identifier"].as_str().unwrap_or("-");
        let version = server["version"].as_str().unwrap_or("-");
        let timeline = server["timeline"].as_u64().map_or_else(|| "-".into(), |number| number.to_string());
        output::print(&format!(
            "{address}: PostgreSQL {version}, {role}, timeline {timeline}, system {system}"
        ));
    }
    let mut rows = Vec::new();
    for check in checks {
        let mut texts = check.text.lines();
        let first = texts.next().unwrap_or_default().to_string();
        rows.push(Vec::from([format!("  {}", check.name), check.outcome.words().0.into(), first]));
        let below = texts.chain(check.hints.iter().flat_map(|hint| hint.lines()));
        rows.extend(below.map(|line| Vec::from([String::new(), String::new(), line.to_string()])));
    }
    output::print_table(&rows);
    let [failed, warnings, ok] = [Outcome::Failed, Outcome::Warning, Outcome::Ok].map(|o| count(checks, o));
    let plural = if warnings == 1 { "" } else { "s" };
    output::print(&format!("{failed} failed, {warnings} warning{plural}, {ok} ok"));
}

pub(super) fn json(server: &Value, checks: &[Check]) {
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
        "server": server,
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
        "counts": {
            "ok": count(checks, Outcome::Ok),
            "warning": count(checks, Outcome::Warning),
            "failed": count(checks, Outcome::Failed),
        },
    }));
}

pub(super) fn nagios(server: &Value, checks: &[Check]) {
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
    let server = address(server).map_or_else(String::new, |address| format!("{address}: "));
    let text = plugin_text(&format!("{server}{text}"));
    output::print(format!("TAPSTER {word} - {text} | {}", numbers(checks)).trim_end_matches(" | "));
}

/// What is drawn over time.
fn numbers(checks: &[Check]) -> String {
    let known = [
        ("connection", "ms", "connect_ms", ""),
        ("wal senders", "used", "wal_senders", ""),
        ("slot", "safe_wal_size", "slot_safe_wal", "B"),
    ];
    let number = |(name, key, label, unit)| {
        let check = checks.iter().find(|check: &&Check| check.name == name)?;
        Some(format!("{label}={}{unit}", check.detail[key].as_i64()?))
    };
    known.into_iter().filter_map(number).collect::<Vec<_>>().join(" ")
}

/// The first line; a bar would begin the numbers.
pub(super) fn plugin_text(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('|', "/")
}

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
    /// What mends it: statements, settings, lines of files.
    pub(super) hints: Vec<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, text: text.into(), hints: Vec::new() }
    }

    pub(super) fn warning(name: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warning, text: text.into(), hints: Vec::from([hint.into()]) }
    }

    pub(super) fn failed(name: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Failed, text: text.into(), hints: Vec::from([hint.into()]) }
    }
}

fn count(checks: &[Check], outcome: Outcome) -> usize {
    checks.iter().filter(|check| check.outcome == outcome).count()
}

pub(super) fn text(server: &Value, checks: &[Check]) {
    if let Some(host) = server["host"].as_str() {
        let role = if server["in_recovery"] == true { "standby" } else { "primary" };
        let system = server["system_identifier"].as_str().unwrap_or("-");
        let version = server["version"].as_str().unwrap_or("-");
        output::print(&format!("{host}: PostgreSQL {version}, {role}, system {system}"));
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

pub(super) fn nagios(checks: &[Check], elapsed_ms: u128) {
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
    output::print(&format!("TAPSTER {word} - {text} | connect_ms={elapsed_ms}"));
}

/// The first line; a bar would begin the numbers.
pub(super) fn plugin_text(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('|', "/")
}

//! Compares the connection parameters with libpq's: the meaning of strings, the values filled in from files
//! and variables, and the text of every error.
//!
//! The installed libpq decides how much can be compared: parameters that it does not have yet are left out.
//! `LD_LIBRARY_PATH` selects another libpq.
#![cfg(feature = "conninfo")]

mod inputs;
mod peer;
mod resolved;

use std::collections::BTreeMap;

use inputs::{CHECKED, Random, STRINGS, generate};
use peer::{Answer, Libpq, libpq};
use tapster::conninfo::{ConnInfo, KEYWORDS};

/// Why the two answers for a string may differ. Any other difference fails the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// libpq before 18 accepts blanks in URIs; 18 trims or refuses them, and so does tapster.
    BlankInUri,
    /// This libpq does not have the parameter yet. (`servicefile` came with 19.)
    YoungerKeyword,
    /// libpq passes on any bytes. tapster's values are text, so it refuses `%ff`.
    NotUtf8,
}

/// Compares the answers for one string. Returns the difference if it is a permitted one, and an error for any
/// other.
fn compare(libpq: &Libpq, string: &str, answer: &Answer) -> Result<Option<Difference>, String> {
    let ours = string.parse::<ConnInfo>();
    let wrong = || Err(format!("{string:?}\n  libpq {}\n  ours  {ours:?}", show(answer)));
    if let Some(theirs) = answer.get("error") {
        let theirs = String::from_utf8_lossy(theirs);
        let theirs = theirs.trim_end_matches('\n');
        let is_younger =
            |keyword: &str| KEYWORDS.iter().any(|known| known.name == keyword && known.since > libpq.version);
        let quoted = theirs.strip_suffix('"').and_then(|text| text.rsplit_once('"')).map(|(_, word)| word);
        if theirs.starts_with("invalid ") && quoted.is_some_and(is_younger) {
            return Ok(Some(Difference::YoungerKeyword));
        }
        if let Err(error) = &ours
            && same_words(theirs, &error.to_string())
        {
            return Ok(None);
        }
    } else if let Ok(conninfo) = &ours {
        let values: Answer = conninfo.iter().map(|(keyword, value)| (keyword.into(), value.into())).collect();
        if values == *answer {
            return Ok(None);
        }
    }
    if libpq.version < 18 && string.contains("://") && string.contains(' ') {
        return Ok(Some(Difference::BlankInUri));
    }
    match &ours {
        Err(error) if error.to_string().contains("not valid UTF-8") => Ok(Some(Difference::NotUtf8)),
        _ => wrong(),
    }
}

/// Whether the two texts are equal, except that ours has `***` where libpq shows what may be a password, and
/// a whole character where libpq shows its first byte.
fn same_words(theirs: &str, ours: &str) -> bool {
    let mut ours = ours.to_string();
    if let Some((before, after)) = ours.split_once("unexpected character \"") {
        let rest = after.trim_start_matches(|c: char| !c.is_ascii());
        if rest.len() < after.len() {
            ours = format!("{before}unexpected character \"\u{fffd}{rest}");
        }
    }
    let mut rest = theirs;
    let mut pieces = ours.split("***");
    let Some(tail) = pieces.next().and_then(|first| rest.strip_prefix(first)) else { return false };
    rest = tail;
    let mut hides = false;
    for piece in pieces {
        hides = true;
        let Some(at) = rest.rfind(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.is_empty() || (hides && ours.ends_with("***"))
}

fn show(answer: &Answer) -> String {
    let pairs = answer.iter().map(|(name, value)| format!("{name}={:?}", String::from_utf8_lossy(value)));
    pairs.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_table_of_keywords_equals_libpqs() {
    let libpq = libpq();
    let expected: Vec<_> = KEYWORDS.iter().filter(|keyword| keyword.since <= libpq.version).collect();
    let ours: Vec<_> = expected.iter().map(|keyword| keyword.name).collect();
    let theirs: Vec<_> = libpq.table.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(ours, theirs);
    for (keyword, row) in expected.iter().zip(&libpq.table) {
        assert_eq!(keyword.variable, row.variable.as_deref(), "{row:?}");
        // A libpq that is built with GSSAPI has the default `prefer`.
        if keyword.name != "gssencmode" {
            assert_eq!(keyword.default, row.default.as_deref(), "{row:?}");
        }
        assert!(keyword.secret || row.display != "*", "{row:?}");
    }
}

#[test]
fn strings_have_the_same_meaning_as_for_libpq() {
    const SEED: u64 = 0x7a_95_7e_12;
    println!("seed {SEED:#x}");
    let libpq = libpq();
    let keywords: Vec<_> = libpq.table.iter().map(|row| row.name.as_str()).collect();
    let mut random = Random::new(SEED);
    let mut strings: Vec<String> = STRINGS.iter().chain(CHECKED).map(|&string| string.into()).collect();
    strings.extend((0..4000).map(|_| generate(&mut random, &keywords)));

    let run = libpq.ask("parse", &[], &strings);
    let mut wrong = Vec::new();
    let mut differences = BTreeMap::new();
    let (mut accepted, mut refused) = (0, 0);
    for (string, answer) in strings.iter().zip(&run.answers) {
        match compare(libpq, string, answer) {
            Ok(None) if answer.contains_key("error") => refused += 1,
            Ok(None) => accepted += 1,
            Ok(Some(difference)) => *differences.entry(difference).or_insert(0) += 1,
            Err(message) => wrong.push(message),
        }
    }
    println!("libpq {}: {accepted} accepted, {refused} refused alike; {differences:?}", libpq.version);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(accepted >= 500 && refused >= 500, "too little was compared");
}

#[test]
fn libpq_parses_encoded_strings_to_the_same_values() {
    let libpq = libpq();
    let keywords: Vec<_> = libpq.table.iter().map(|row| row.name.as_str()).collect();
    let mut random = Random::new(2);
    let parsed: Vec<ConnInfo> =
        (0..2000).filter_map(|_| generate(&mut random, &keywords).parse().ok()).collect();
    let encoded: Vec<String> = parsed.iter().map(ConnInfo::encode).collect();
    assert!(encoded.len() >= 500);
    let run = libpq.ask("parse", &[], &encoded);
    for ((conninfo, encoded), answer) in parsed.iter().zip(&encoded).zip(&run.answers) {
        let ours: Answer = conninfo.iter().map(|(keyword, value)| (keyword.into(), value.into())).collect();
        assert_eq!(ours, *answer, "{encoded}");
        assert_eq!(encoded.parse(), Ok(conninfo.clone()));
    }
}

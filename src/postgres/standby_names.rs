use std::prelude::v1::*;

/// The names in a displayed `synchronous_standby_names`: the list in the parentheses of `FIRST n (...)`,
/// `ANY n (...)` and `n (...)`, or else the whole text.
///
/// `*` is a name like the others. A name in double quotes may contain commas, parentheses, blanks and doubled
/// quotes. Letters keep their case, which the server ignores in comparisons.
pub(super) fn parse(setting: &str) -> Vec<String> {
    let list = in_parentheses(setting).unwrap_or(setting);
    let mut names = Vec::new();
    let mut start = 0;
    for (at, c) in unquoted(list).chain([(list.len(), ',')]) {
        if c == ',' {
            names.push(unquote(list.get(start..at).unwrap_or_default().trim()));
            start = at + 1;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn in_parentheses(text: &str) -> Option<&str> {
    let (open, _) = unquoted(text).find(|&(_, c)| c == '(')?;
    let (close, _) = unquoted(text).filter(|&(_, c)| c == ')').last()?;
    text.get(open + 1..close)
}

/// The characters outside of double quotes. A doubled quote ends one quotation and begins another.
fn unquoted(text: &str) -> impl Iterator<Item = (usize, char)> {
    text.char_indices()
        .scan(false, |quoted, (at, c)| {
            *quoted ^= c == '"';
            Some((!*quoted && c != '"').then_some((at, c)))
        })
        .flatten()
}

fn unquote(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_setting_is_parsed() {
        for (setting, names) in [
            ("", &[][..]),
            (" ", &[]),
            ("*", &["*"]),
            ("a", &["a"]),
            ("a, B ,c", &["a", "B", "c"]),
            ("FIRST 2 (a, b)", &["a", "b"]),
            ("ANY 1 (a, b)", &["a", "b"]),
            ("2(a,b)", &["a", "b"]),
            ("(a)", &["a"]),
            ("1(a, \"b-c\")", &["a", "b-c"]),
            ("2 (\"a,b\", c)", &["a,b", "c"]),
            ("\"we\"\"ird\"", &["we\"ird"]),
            ("\"a(b\"", &["a(b"]),
            ("\"x)y\", z", &["x)y", "z"]),
            ("ANY 1 (\"x)y\", \"p(q\")", &["x)y", "p(q"]),
            ("\" blank \"", &[" blank "]),
            ("é, \"ü,\"", &["é", "ü,"]),
        ] {
            assert_eq!(parse(setting), names, "{setting:?}");
        }
    }
}

/// The number of rows in a server's command tag: 5 in `INSERT 0 5`, `UPDATE 5`, `DELETE 5`, `MERGE 5`, `COPY 5`,
/// `SELECT 5`, `FETCH 5` and `MOVE 5`. `None` for the tag of a command that counts no rows, such as
/// `CREATE TABLE`.
///
/// ```
/// use tapster::codec::affected_rows;
/// assert_eq!(affected_rows(b"INSERT 0 5"), Some(5));
/// assert_eq!(affected_rows(b"CREATE TABLE"), None);
/// ```
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>, `CommandComplete`
#[must_use]
pub fn affected_rows(tag: &[u8]) -> Option<u64> {
    let mut words = core::str::from_utf8(tag).ok()?.split(' ');
    let count = match words.next()? {
        "INSERT" => {
            // The first number was the row's OID, while rows had some.
            words.next().filter(|oid| is_number(oid))?;
            words.next()?
        }
        "UPDATE" | "DELETE" | "MERGE" | "COPY" | "SELECT" | "FETCH" | "MOVE" => words.next()?,
        _ => return None,
    };
    if words.next().is_some() || !is_number(count) { None } else { count.parse().ok() }
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_that_count_rows_have_a_number() {
        for (tag, rows) in [
            ("INSERT 0 5", Some(5)),
            ("INSERT 16385 1", Some(1)),
            ("UPDATE 0", Some(0)),
            ("DELETE 18446744073709551615", Some(u64::MAX)),
            ("MERGE 3", Some(3)),
            ("COPY 7", Some(7)),
            ("SELECT 1", Some(1)),
            ("FETCH 2", Some(2)),
            ("MOVE 9", Some(9)),
            ("DELETE 18446744073709551616", None),
            ("INSERT 5", None),
            ("INSERT x 5", None),
            ("UPDATE +5", None),
            ("UPDATE 5 6", None),
            ("UPDATE  5", None),
            ("UPDATE", None),
            ("COPY", None),
            ("CREATE TABLE", None),
            ("DECLARE CURSOR", None),
            ("TRUNCATE TABLE 5", None),
            ("", None),
        ] {
            assert_eq!(affected_rows(tag.as_bytes()), rows, "{tag}");
        }
        assert_eq!(affected_rows(b"SELECT \xff"), None);
    }
}

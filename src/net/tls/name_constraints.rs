//! Name constraints of authorities, applied to a host that only the common name of a certificate names.

use std::vec::Vec;

use super::certificate::Certificate;
use super::der::{BadDer, Der, SEQUENCE, explicit, implicit};

/// The name constraints of all authorities on the path from a server's certificate to a trusted one.
///
/// webpki compares them with the alternative names of the certificate. libpq's rules also accept a common name,
/// so an authority that may only vouch for `good.example` could issue a certificate for any other host by
/// leaving out the alternative names. OpenSSL therefore compares the common name too.
#[derive(Debug, Default)]
pub(super) struct NameConstraints(Vec<Subtrees>);

/// The constraints of one authority (RFC 5280, 4.2.1.10), for names of hosts.
#[derive(Debug, Default)]
struct Subtrees {
    /// The host has to be in one of them, unless there is none.
    permitted: Vec<Vec<u8>>,
    /// The host may be in none of them.
    excluded: Vec<Vec<u8>>,
}

/// `dNSName` as a `GeneralName`.
const DNS_NAME: u8 = implicit(2);

impl NameConstraints {
    /// Adds the constraints of an authority on the path, if it has any.
    pub(super) fn add_authority(&mut self, der: &[u8]) -> Result<(), BadDer> {
        match Certificate::parse(der)?.name_constraints()? {
            Some(contents) => self.add(contents),
            None => Ok(()),
        }
    }

    /// Adds constraints: `SEQUENCE { permitted [0], excluded [1] }` without its head.
    pub(super) fn add(&mut self, contents: &[u8]) -> Result<(), BadDer> {
        let mut lists = Der::new(contents);
        let permitted = lists.take_if(explicit(0))?.map_or(Ok(Vec::new()), host_names)?;
        let excluded = lists.take_if(explicit(1))?.map_or(Ok(Vec::new()), host_names)?;
        if !lists.is_empty() {
            return Err(BadDer);
        }
        self.0.push(Subtrees { permitted, excluded });
        Ok(())
    }

    /// Whether every authority may vouch for this host by a common name.
    ///
    /// The host itself is compared and not the common name, so a `*` in the name never reaches too far. An
    /// address is no name that the constraints could be compared with, so any constraint refuses it.
    pub(super) fn allow_common_name(&self, host: &str, host_is_ip: bool) -> bool {
        let host = host.as_bytes();
        self.0.iter().all(|Subtrees { permitted, excluded }| {
            !host_is_ip
                && (permitted.is_empty() || permitted.iter().any(|subtree| is_within(host, subtree)))
                && !excluded.iter().any(|subtree| is_within(host, subtree))
        })
    }
}

/// The subtrees of host names in a list of `GeneralSubtree`.
fn host_names(list: &[u8]) -> Result<Vec<Vec<u8>>, BadDer> {
    let mut list = Der::new(list);
    let mut found = Vec::new();
    while !list.is_empty() {
        let base = list.enter(SEQUENCE)?.any()?;
        if base.tag == DNS_NAME {
            found.push(base.contents.to_vec());
        }
    }
    Ok(found)
}

/// Whether a host is the subtree's name or below it. With a dot at its beginning, the subtree has only what is
/// below; an empty subtree has every name.
fn is_within(host: &[u8], subtree: &[u8]) -> bool {
    let Some(split) = host.len().checked_sub(subtree.len()) else { return false };
    let (before, end) = host.split_at(split);
    let at_label =
        before.is_empty() || subtree.is_empty() || subtree.first() == Some(&b'.') || before.ends_with(b".");
    at_label && end.eq_ignore_ascii_case(subtree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
        let mut whole = super::super::der::sequence(contents);
        whole[0] = tag;
        whole
    }

    fn list(number: u8, names: &[(u8, &[u8])]) -> Vec<u8> {
        let subtrees = names.iter().flat_map(|&(tag, name)| element(SEQUENCE, &element(tag, name)));
        element(explicit(number), &subtrees.collect::<Vec<u8>>())
    }

    fn constraints(permitted: &[&str], excluded: &[&str]) -> NameConstraints {
        let lists = [(0, permitted), (1, excluded)];
        let contents: Vec<u8> = lists
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .flat_map(|(number, names)| {
                let names: Vec<_> = names.iter().map(|name| (DNS_NAME, name.as_bytes())).collect();
                list(*number, &names)
            })
            .collect();
        let mut found = NameConstraints::default();
        found.add(&contents).unwrap();
        found
    }

    #[test]
    fn a_host_is_in_a_subtree_by_whole_labels() {
        for (host, subtree, is_in) in [
            ("good.example", "good.example", true),
            ("db1.good.example", "good.example", true),
            ("db1.GOOD.example", "good.EXAMPLE", true),
            ("notgood.example", "good.example", false),
            ("example", "good.example", false),
            ("good.example.test", "good.example", false),
            ("db1.good.example", ".good.example", true),
            ("good.example", ".good.example", false),
            ("db1", "", true),
        ] {
            assert_eq!(is_within(host.as_bytes(), subtree.as_bytes()), is_in, "{host} {subtree}");
        }
    }

    #[test]
    fn a_host_has_to_be_permitted_and_not_excluded() {
        for (permitted, excluded, host, allowed) in [
            (&["good.example"][..], &[][..], "db1.good.example", true),
            (&["good.example"], &[], "victim.test", false),
            (&["a.example", "b.example"], &[], "db1.b.example", true),
            (&[], &["victim.test"], "db1.victim.test", false),
            (&[], &["victim.test"], "db1.good.example", true),
            (&["good.example"], &["db1.good.example"], "db1.good.example", false),
        ] {
            let constraints = constraints(permitted, excluded);
            assert_eq!(
                constraints.allow_common_name(host, false),
                allowed,
                "{permitted:?} {excluded:?} {host}"
            );
        }
    }

    #[test]
    fn every_authority_on_the_path_counts() {
        let mut both = constraints(&["example"], &[]);
        both.0.extend(constraints(&["good.example"], &[]).0);
        assert!(both.allow_common_name("db1.good.example", false));
        assert!(!both.allow_common_name("db1.example", false));
        assert!(NameConstraints::default().allow_common_name("db1", false));
    }

    #[test]
    fn an_address_is_allowed_only_without_constraints() {
        assert!(!constraints(&["good.example"], &[]).allow_common_name("192.0.2.1", true));
        assert!(NameConstraints::default().allow_common_name("192.0.2.1", true));
    }

    #[test]
    fn constraints_of_other_kinds_do_not_count_and_unreadable_ones_are_errors() {
        let mut found = NameConstraints::default();
        found.add(&list(0, &[(implicit(7), &[192, 0, 2, 0, 255, 255, 255, 0])])).unwrap();
        assert!(found.allow_common_name("db1.good.example", false));
        let whole = list(0, &[(DNS_NAME, b"good.example")]);
        for len in 1..whole.len() {
            assert_eq!(NameConstraints::default().add(&whole[..len]), Err(BadDer), "{len}");
        }
        assert_eq!(NameConstraints::default().add(&[&whole[..], &[5, 0]].concat()), Err(BadDer));
    }
}

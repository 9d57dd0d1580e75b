//! Parses command lines as `getopt_long` of the GNU C library does, with its error messages. Scripts that call
//! PostgreSQL's programs rely on both, and clap differs.
//!
//! Options and operands may be mixed, long options may be abbreviated, short ones combined. A value is the rest of the
//! argument or the next argument. `--` ends the options.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// An option of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec<T> {
    /// The caller's identifier of the option.
    pub(super) id: T,
    /// `D` for `-D`.
    pub(super) short: Option<u8>,
    /// `directory` for `--directory`.
    pub(super) long: &'static str,
    pub(super) takes_value: bool,
}

/// The options of a command line, in order, each with its value; or a complaint about one.
#[derive(Debug)]
pub(super) struct Getopt<'a, T> {
    specs: &'a [Spec<T>],
    program: &'a OsStr,
    arguments: core::slice::Iter<'a, OsString>,
    /// The rest of an argument with several short options.
    shorts: &'a [u8],
    operands: Vec<&'a OsStr>,
}

impl<'a, T: Copy> Getopt<'a, T> {
    /// `arguments` begin with the program's name, which complaints repeat.
    pub(super) fn new(specs: &'a [Spec<T>], arguments: &'a [OsString]) -> Self {
        let mut arguments = arguments.iter();
        let program = arguments.next().map_or_else(|| OsStr::new(""), OsString::as_os_str);
        Self { specs, program, arguments, shorts: &[], operands: Vec::new() }
    }

    /// The arguments that are not options; complete once the iterator has ended.
    pub(super) fn operands(&self) -> &[&'a OsStr] {
        &self.operands
    }

    fn short(&mut self, short: u8) -> Result<(T, &'a OsStr), String> {
        let Some(spec) = self.specs.iter().find(|spec| spec.short == Some(short)) else {
            return Err(self.complaint(&format!("invalid option -- '{}'", short.escape_ascii())));
        };
        if !spec.takes_value {
            return Ok((spec.id, OsStr::new("")));
        }
        let rest = core::mem::take(&mut self.shorts);
        let value = if rest.is_empty() { self.next_argument() } else { Some(OsStr::from_bytes(rest)) };
        match value {
            Some(value) => Ok((spec.id, value)),
            None => Err(self.complaint(&format!("option requires an argument -- '{}'", char::from(short)))),
        }
    }

    /// `argument` without the dashes.
    fn long(&mut self, argument: &'a [u8]) -> Result<(T, &'a OsStr), String> {
        let (name, value) = match argument.iter().position(|&byte| byte == b'=') {
            Some(at) => (&argument[..at], Some(OsStr::from_bytes(&argument[at + 1..]))),
            None => (argument, None),
        };
        let spec = self.spec_of(name, argument)?;
        let said = |what| format!("option '--{}' {what} an argument", spec.long);
        match (spec.takes_value, value) {
            (false, None) => Ok((spec.id, OsStr::new(""))),
            (true, Some(value)) => Ok((spec.id, value)),
            (false, Some(_)) => Err(self.complaint(&said("doesn't allow"))),
            (true, None) => match self.next_argument() {
                Some(value) => Ok((spec.id, value)),
                None => Err(self.complaint(&said("requires"))),
            },
        }
    }

    /// The option of that name, or else the only one whose name begins so.
    fn spec_of(&self, name: &[u8], argument: &[u8]) -> Result<&'a Spec<T>, String> {
        if let Some(exact) = self.specs.iter().find(|spec| spec.long.as_bytes() == name) {
            return Ok(exact);
        }
        let candidates = || self.specs.iter().filter(|spec| spec.long.as_bytes().starts_with(name));
        let argument = String::from_utf8_lossy(argument);
        match (candidates().next(), candidates().nth(1)) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(self.complaint(&format!("unrecognized option '--{argument}'"))),
            (Some(_), Some(_)) => {
                let possibilities: String = candidates().map(|spec| format!(" '--{}'", spec.long)).collect();
                Err(self
                    .complaint(&format!("option '--{argument}' is ambiguous; possibilities:{possibilities}")))
            }
        }
    }

    fn next_argument(&mut self) -> Option<&'a OsStr> {
        self.arguments.next().map(OsString::as_os_str)
    }

    fn complaint(&self, what: &str) -> String {
        format!("{}: {what}", self.program.display())
    }
}

impl<'a, T: Copy> Iterator for Getopt<'a, T> {
    type Item = Result<(T, &'a OsStr), String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((&short, rest)) = self.shorts.split_first() {
                self.shorts = rest;
                return Some(self.short(short));
            }
            let argument = self.next_argument()?;
            match argument.as_bytes() {
                b"--" => self.operands.extend(self.arguments.by_ref().map(OsString::as_os_str)),
                [b'-', b'-', long @ ..] => return Some(self.long(long)),
                [b'-', shorts @ ..] if !shorts.is_empty() => self.shorts = shorts,
                _ => self.operands.push(argument),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [Spec<&str>; 4] = [
        Spec { id: "dir", short: Some(b'D'), long: "directory", takes_value: true },
        Spec { id: "loop", short: Some(b'n'), long: "no-loop", takes_value: false },
        Spec { id: "sync", short: None, long: "no-sync", takes_value: false },
        Spec { id: "no", short: Some(b'N'), long: "no", takes_value: false },
    ];

    /// The options as `id=value`, the first complaint, and the operands.
    fn parse(arguments: &str) -> String {
        let arguments: Vec<OsString> =
            ["p"].into_iter().chain(arguments.split(' ')).map(Into::into).collect();
        let mut getopt = Getopt::new(&SPECS, &arguments);
        let mut found = Vec::new();
        for option in getopt.by_ref() {
            match option {
                Ok((id, value)) => found.push(format!("{id}={}", value.display())),
                Err(complaint) => return complaint,
            }
        }
        found.extend(getopt.operands().iter().map(|operand| operand.display().to_string()));
        found.join(" ")
    }

    #[test]
    fn options_are_found_however_they_are_written() {
        for (arguments, options) in [
            ("-D x -n", "dir=x loop="),
            ("-nDx", "loop= dir=x"),
            ("-nD x", "loop= dir=x"),
            ("--directory=x --dir y --d=", "dir=x dir=y dir="),
            ("-D -n", "dir=-n"),
            ("--directory --", "dir=--"),
            ("a -n b", "loop= a b"),
            ("-n -- -n", "loop= -n"),
            ("- -n", "loop= -"),
            ("--no --no-l", "no= loop="),
        ] {
            assert_eq!(parse(arguments), options, "{arguments}");
        }
    }

    #[test]
    fn complaints_name_the_program_as_it_was_called() {
        for (arguments, complaint) in [
            ("-x", "p: invalid option -- 'x'"),
            ("-nx", "p: invalid option -- 'x'"),
            ("-D", "p: option requires an argument -- 'D'"),
            ("--dir", "p: option '--directory' requires an argument"),
            ("--no-loop=1", "p: option '--no-loop' doesn't allow an argument"),
            ("--nope=1", "p: unrecognized option '--nope=1'"),
            ("--no-", "p: option '--no-' is ambiguous; possibilities: '--no-loop' '--no-sync'"),
        ] {
            assert_eq!(parse(arguments), complaint, "{arguments}");
        }
    }
}

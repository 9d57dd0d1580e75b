//! The C program that asks libpq.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// One row of libpq's own table of parameters.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) variable: Option<String>,
    pub(crate) default: Option<String>,
    pub(crate) display: String,
}

/// The installed libpq.
pub(crate) struct Libpq {
    program: PathBuf,
    /// The major version.
    pub(crate) version: u8,
    pub(crate) table: Vec<Row>,
    /// The operating system's user, as libpq looks it up.
    pub(crate) user: String,
}

/// The names and values of one answer; values are bytes.
pub(crate) type Answer = BTreeMap<String, Vec<u8>>;

/// The answers of one run, and what libpq wrote to stderr meanwhile.
pub(crate) struct Run {
    pub(crate) answers: Vec<Answer>,
    pub(crate) stderr: String,
}

const HINT: &str = "this test compares with libpq: apt-get install gcc libpq-dev";

/// Compiles the program, once for all tests.
pub(crate) fn libpq() -> &'static Libpq {
    static LIBPQ: OnceLock<Libpq> = OnceLock::new();
    LIBPQ.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conninfo_peer");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conninfo_differential/peer.c");
        let status = Command::new("cc")
            .args(["-std=c99", "-Wall", "-Werror", "-o"])
            .args([&program, &source])
            .arg(format!("-I{}", pg_config("--includedir")))
            .arg(format!("-L{}", pg_config("--libdir")))
            .arg("-lpq")
            .status()
            .unwrap_or_else(|error| panic!("cc: {error}; {HINT}"));
        assert!(status.success(), "cc failed; {HINT}");
        Libpq::describe(program)
    })
}

fn pg_config(argument: &str) -> String {
    let output = Command::new("pg_config")
        .arg(argument)
        .output()
        .unwrap_or_else(|error| panic!("pg_config: {error}; {HINT}"));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

impl Libpq {
    fn describe(program: PathBuf) -> Self {
        let mut libpq = Self { program, version: 0, table: Vec::new(), user: String::new() };
        let (head, _) = libpq.output(&[], &[]);
        for line in head.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["version", number] => libpq.version = (number.parse::<u32>().unwrap() / 10_000) as u8,
                ["keyword", name, variable, default, display] => libpq.table.push(Row {
                    name: name.into(),
                    variable: Some(variable.into()).filter(|text| text != "-"),
                    default: Some(default.into()).filter(|text| text != "-"),
                    display: display.into(),
                }),
                ["user", name] => libpq.user = name.into(),
                _ => assert_eq!(line, "."),
            }
        }
        libpq
    }

    /// Whether this libpq has the parameter.
    pub(crate) fn knows(&self, keyword: &str) -> bool {
        self.table.iter().any(|row| row.name == keyword)
    }

    /// Asks about many strings in one run, with nothing but `variables` in the environment.
    pub(crate) fn ask(&self, question: &str, variables: &[(&str, &str)], strings: &[String]) -> Run {
        let questions: Vec<_> =
            strings.iter().map(|string| format!("{question} {}\n", hex(string.as_bytes()))).collect();
        let (stdout, stderr) = self.output(variables, &questions);
        let mut answers: Vec<Answer> = Vec::new();
        let mut answer = Answer::new();
        // Skips the first answer, which is the table.
        for line in stdout.lines().skip_while(|&line| line != ".").skip(1) {
            match line.split_once(' ') {
                Some((name, value)) => drop(answer.insert(name.into(), unhex(value))),
                None => answers.push(core::mem::take(&mut answer)),
            }
        }
        assert_eq!(answers.len(), strings.len(), "libpq did not answer everything");
        Run { answers, stderr }
    }

    fn output(&self, variables: &[(&str, &str)], questions: &[String]) -> (String, String) {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(variables.iter().copied());
        // Lets the test run against another libpq than the linked one.
        command.envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the peer starts");
        let mut stdin = child.stdin.take().unwrap();
        let input = questions.concat();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success(), "the peer failed: {:?}", output.status);
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

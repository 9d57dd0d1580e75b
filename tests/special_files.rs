//! What the program writes to: regular files only, and standard output where it is asked for by `-`.
#![cfg(feature = "cli")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::{Archive, Cluster, Program, servers, tapster};
use tempfile::TempDir;

const HISTORY: &str = "00000002.history";
const CONTENT: &str = "1\t0/50000A0\tno recovery target specified\n";

/// A file of each kind that is not regular, by name, in one directory; and a regular one that one of them leads to.
struct Special {
    dir: TempDir,
    _socket: UnixListener,
}

const NAMES: [&str; 6] = ["pipe", "link", "dangling", "directory", "socket", "null"];

impl Special {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        fs::write(path("file"), "untouched").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("missing", path("dangling")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        symlink("/dev/null", path("null")).unwrap();
        let socket = UnixListener::bind(path("socket")).unwrap();
        Self { dir, _socket: socket }
    }

    /// The names, and what each of them is.
    fn contents(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(Result::unwrap);
        let mut found: Vec<_> = entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), format!("{:?}", entry.file_type().unwrap()))
            })
            .collect();
        found.sort();
        found
    }
}

fn archive() -> Archive {
    let archive = Archive::new();
    fs::write(archive.file(HISTORY), CONTENT).unwrap();
    archive
}

#[test]
fn wal_get_replaces_no_special_file_and_waits_for_none() {
    let (special, archive) = (Special::new(), archive());
    let before = special.contents();
    for name in NAMES {
        let path = special.dir.path().join(name);
        let output = tapster(&[
            "wal".as_ref(),
            "get".as_ref(),
            HISTORY.as_ref(),
            path.as_os_str(),
            "--from".as_ref(),
            archive.path().as_os_str(),
        ]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(255), "{name}: {stderr}");
        assert!(stderr.contains("is not a regular file and is left alone"), "{name}: {stderr}");
    }
    assert_eq!(special.contents(), before);
    assert_eq!(fs::read(special.dir.path().join("file")).unwrap(), b"untouched");
    let is = |path: &str| format!("{:?}", fs::symlink_metadata(path).unwrap().file_type());
    for device in ["/dev/stdout", "/dev/null", "/dev/full", "/dev/fd/1"] {
        let before = is(device);
        let output = tapster(&["wal", "get", HISTORY, device, "--from", archive.path().to_str().unwrap()]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(255), "{device}: {stderr}");
        assert!(output.stdout.is_empty() && stderr.contains("- is standard output"), "{stderr}");
        assert_eq!(is(device), before);
    }
}

/// `wal get NAME - --from ARCHIVE` with this standard output.
fn get_into(stdout: Stdio, name: &str, archive: &Path) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tapster"));
    program.args(["wal", "get", name, "-", "--from"]).arg(archive);
    let child = program.stdout(stdout).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn standard_output_gets_all_of_a_file_or_the_exit_code_says_that_it_did_not() {
    let cluster = Cluster::builder(&servers::packaged()).archive().start();
    let segment = cluster.write_segments(1);
    let (archive, dir) = (Archive::new(), tempfile::tempdir().unwrap());
    let content = fs::read(cluster.archive_dir().join(&segment)).unwrap();
    fs::write(archive.file(&segment), &content).unwrap();

    let whole = get_into(Stdio::piped(), &segment, archive.path());
    assert_eq!((whole.status.code(), whole.stdout.len()), (Some(0), content.len()), "{whole:?}");
    assert_eq!(whole.stdout, content);
    let target = dir.path().join("segment");
    assert_eq!(
        get_into(File::create(&target).unwrap().into(), &segment, archive.path()).status.code(),
        Some(0)
    );
    assert_eq!(fs::read(&target).unwrap(), content);

    let missing = get_into(Stdio::piped(), HISTORY, archive.path());
    assert_eq!((missing.status.code(), missing.stdout.len()), (Some(1), 0), "{missing:?}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = get_into(writer.into(), &segment, archive.path());
    assert_eq!(gone.status.code(), Some(255), "{gone:?}");
    let device = |path: &str| File::options().write(true).open(path).unwrap();
    for path in ["/dev/full", "/dev/null"] {
        let lost = get_into(device(path).into(), &segment, archive.path());
        assert_eq!(lost.status.code(), Some(255), "{path}: {lost:?}");
    }
    // A shell that gives the program no standard output, and one that limits the size of files.
    let shell = |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", line, env!("CARGO_BIN_EXE_tapster"), &segment]);
        shell.arg(archive.path()).arg(dir.path().join("cut")).output().unwrap()
    };
    let closed = shell("\"$0\" wal get \"$1\" - --from \"$2\" >&-");
    assert_eq!(closed.status.code(), Some(255), "{closed:?}");
    let cut = shell("ulimit -f 100; trap '' XFSZ; \"$0\" wal get \"$1\" - --from \"$2\" > \"$3\"");
    assert_eq!(cut.status.code(), Some(255), "{cut:?}");

    // Nothing of a damaged file.
    fs::write(archive.file(&segment), &content[..content.len() - 8192]).unwrap();
    let damaged = get_into(Stdio::piped(), &segment, archive.path());
    assert_eq!((damaged.status.code(), damaged.stdout.len()), (Some(255), 0), "{damaged:?}");
    let json = tapster(&["wal", "get", &segment, "-", "--json", "--from", archive.path().to_str().unwrap()]);
    assert_eq!(json.status.code(), Some(255), "{json:?}");
    assert!(!dir.path().join("-").exists());
}

#[test]
fn metrics_and_the_files_of_a_backup_replace_no_special_file() {
    let (special, archive) = (Special::new(), Archive::new());
    let before = special.contents();
    let directory = archive.path().to_str().unwrap();
    for name in NAMES.map(|name| special.dir.path().join(name)).iter().map(|path| path.to_str().unwrap()) {
        let args = ["receive-wal", "host=/nowhere", "-D", directory, "--metrics-file", name];
        let output = Program::tapster().args(&args).run();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(6) && stderr.contains("is left alone"), "{name}: {stderr}");
        for file in ["backup_label", "tablespace_map"] {
            let copy = tempfile::tempdir().unwrap();
            fs::create_dir(copy.path().join("copy")).unwrap();
            symlink(name, copy.path().join("copy").join(file)).unwrap();
            let to = copy.path().join("copy");
            let args = ["low-level-backup", "host=/nowhere", "-l", "x", "-D", to.to_str().unwrap()];
            let output = Program::tapster().args(&args).args(&["--", "true"]).run();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(6) && stderr.contains("is left alone"), "{name}: {stderr}");
        }
    }
    assert_eq!(special.contents(), before);
}

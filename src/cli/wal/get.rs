use std::io::{self, IsTerminal as _, stdout};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use serde_json::json;
use tapster::archive::{FetchError, Fetched, Fetcher};
use tapster::types::text_of;

use crate::cli::failure::{Failure, with_causes};
use crate::cli::output;

pub(super) const AFTER_HELP: &str = "Examples:
  restore_command = 'tapster wal get %f %p --from /wal --partial'
  restore_command = 'ssh backup tapster wal get %f - --from /wal --partial > %p'
  tapster wal get 00000001000000000000002A /tmp/2A --from /wal --from /backup/wal

NAME is that of a segment, of a timeline's history or of a backup's history. Compressed files
are decompressed. DEST appears in one step, whole and durable; a file of the wrong size is never
handed out. A partial segment is handed out only if its segment is nowhere complete, nothing
follows it, and every archive could be searched. What is at DEST and is no regular file, such as a
device, a pipe or a symbolic link, is left alone and the exit code is 255.

With the DEST -, the content goes to standard output, which has to be a pipe, a socket or a file.
Nothing is written before the whole content was found and examined, in a temporary file without a
name ($TMPDIR). With any exit code but 0 the reader throws away what it has got. ./- is a file.

Every line on stderr begins with \"tapster:\", as the server writes it into its log. Every recovery
asks for files that do not exist; each such question is one line \"tapster: NAME is not in DIR\".

Exit codes:
  0    the file is at DEST, or all of its content was written to standard output
  1    surely no archive has it: to a recovery, a segment that is missing is the end of the log
  255  could not tell, or not write: an archive that cannot be read, a damaged file, a link to a
       file that is not there, a file in an unknown form (NAME.xz), a NAME of no WAL file, a mistake
       in the options; PostgreSQL then stops, where 1 would end the recovery";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The file that recovery wants, %f
    name: String,
    /// Where to put it, %p; - for standard output
    #[arg(value_name = "DEST")]
    destination: PathBuf,
    /// The archive; of several, the first that has the file gives it
    #[arg(long = "from", value_name = "DIR", required = true)]
    archives: Vec<PathBuf>,
    /// If a segment is nowhere complete, hand out a partial one with zeros for what never came
    #[arg(long)]
    partial: bool,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

/// As the destination, standard output.
const STDOUT: &str = "-";

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Args { name, destination, archives, partial, json } = args;
    let restore = Fetcher { archives: archives.clone(), partial: *partial };
    let fetched = if destination == Path::new(STDOUT) {
        if *json {
            return Err(Failure::usage("--json: the document would be in the middle of the file's content")
                .with_hint("leave --json out, or give a file instead of -"));
        }
        fetch_to_stdout(&restore, name)?
    } else {
        restore.fetch(name, destination).map_err(|error| {
            let failure = Failure::other(with_causes(&error));
            match &error {
                FetchError::Destination { path, .. } if path.starts_with("/dev") => {
                    failure.with_hint("- is standard output")
                }
                _ => failure,
            }
        })?
    };
    let Some(restored) = fetched else {
        let shown: Vec<String> = archives.iter().map(|archive| archive.display().to_string()).collect();
        return Err(Failure::missing(format!("{name} is not in {}", shown.join(", "))));
    };
    for problem in &restored.passed_over {
        output::note(&format!("tapster: warning: {}", with_causes(problem)));
    }
    let source = restored.source.display();
    if let Some(bytes) = restored.partial {
        output::note(&format!(
            "tapster: {source} is partial: {bytes} bytes of WAL, and zeros for what never came"
        ));
    }
    if *json {
        return output::print_json(&json!({
            "schema": "tapster.wal-get/1",
            "ok": true,
            "name": name,
            "source": text_of(restored.source.as_os_str().as_bytes()),
            "partial": restored.partial.is_some(),
            "partial_bytes": restored.partial,
            "warnings": restored.passed_over.iter().map(|problem| with_causes(problem)).collect::<Vec<_>>(),
        }));
    }
    Ok(())
}

fn fetch_to_stdout(restore: &Fetcher, name: &str) -> Result<Option<Fetched>, Failure> {
    let out = stdout();
    if out.is_terminal() {
        return Err(Failure::usage("standard output is a terminal, and the file's content is binary")
            .with_hint("redirect it, as in: tapster wal get NAME - --from DIR > FILE"));
    }
    let unwritten =
        |source: io::Error| Failure::other(format!("could not write to standard output: {source}"));
    let kind = fstat(&out).map(|status| FileType::from_raw_mode(status.st_mode));
    let kind = kind.map_err(|error| unwritten(error.into()))?;
    // A closed standard output is /dev/null to the program: the content would be lost, and nobody told.
    if kind == FileType::CharacterDevice {
        return Err(Failure::usage("standard output is closed, or a device such as /dev/null"));
    }
    let fetched = restore.fetch_into(name, &mut out.lock()).map_err(|error| match error {
        FetchError::Output(source) => unwritten(source),
        error => Failure::other(with_causes(&error)),
    })?;
    if fetched.is_some() && kind == FileType::RegularFile {
        // Some file systems tell only now that there was no room.
        match rustix::fs::fsync(&out) {
            Ok(()) | Err(Errno::INVAL | Errno::ROFS | Errno::NOTSUP) => {}
            Err(error) => return Err(unwritten(error.into())),
        }
    }
    Ok(fetched)
}

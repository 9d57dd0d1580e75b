//! Fetches files for a server's `restore_command`.

mod error;
mod staged;

use std::ffi::OsStr;
use std::format;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::prelude::v1::*;

pub use error::{FetchError, FileDamage};

use crate::archive::{ArchiveError, ArchiveFileName, SegmentFile};
use crate::compression::Compression;
use crate::storage::{Directory, target_of};
use crate::types::{TimelineId, WalSegmentSize};
use crate::wal::{SegmentIdentity, TimelineHistory, WalSegment, parse_hex};
use staged::{Destination, Staged, stage};

/// Fetches files from archives, each from the first archive that has it.
///
/// ```no_run
/// # fn example() -> Result<(), tapster::archive::FetchError> {
/// use tapster::archive::Fetcher;
///
/// let restore = Fetcher { archives: vec!["/wal".into()], partial: true };
/// match restore.fetch("00000001000000000000002A", "pg_wal/RECOVERYXLOG".as_ref())? {
///     Some(restored) => println!("from {}", restored.source.display()),
///     None => println!("it is in none of them"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetcher {
    /// The directories to look in, in order.
    pub archives: Vec<PathBuf>,
    /// Whether a segment that is nowhere complete may be made up from a partial one: of several the one with
    /// most WAL, with zeros for what never came.
    pub partial: bool,
}

/// A file that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The archive's file.
    pub source: PathBuf,
    /// If it is partial: how many bytes of it are WAL, up to the last that is not zero.
    pub partial: Option<u64>,
    /// What was wrong in the archives that came first.
    pub passed_over: Vec<FetchError>,
}

impl Fetcher {
    /// Writes the file of this name to `destination`; it is durable there when this returns. `None` if surely
    /// no archive has it.
    ///
    /// What is at `destination` is replaced in one step by a whole file, or left as it is. A segment has the
    /// size that its first page says, and is the one that it is called. Nothing more is checked: recovery
    /// itself checks every record. All calls block.
    ///
    /// # Errors
    /// If no archive gave it and one could not be read, has a damaged file of that name, or something else whose
    /// name begins with it: a link to a file that is not there, a file in an unknown form. And if the file cannot be
    /// written, or something is at `destination` that is no regular file: a device, a pipe, a symbolic link.
    pub fn fetch(&self, name: &str, destination: &Path) -> Result<Option<Fetched>, FetchError> {
        let destination = Destination::new(destination);
        let found = self.find(name, &destination)?;
        found.map(|(staged, problems)| staged.deliver(problems)).transpose()
    }

    /// Writes the content of the file of this name to `out`. The file is whole and examined before the first byte is
    /// written: until then it lies in a file without a name in the directory for temporary files. `None` if surely no
    /// archive has it; then nothing is written.
    ///
    /// # Errors
    /// Those of [`fetch`](Self::fetch), and [`FetchError::Output`] if `out` did not take all of it.
    pub fn fetch_into(&self, name: &str, out: &mut dyn Write) -> Result<Option<Fetched>, FetchError> {
        let temporary = std::env::temp_dir().join("tapster");
        let destination = Destination::unnamed(&temporary);
        let Some((staged, problems)) = self.find(name, &destination)? else { return Ok(None) };
        staged.copy_to(out)?;
        staged.deliver(problems).map(Some)
    }

    /// The file of this name, with what was wrong in the archives that came first.
    fn find<'a>(
        &self,
        name: &str,
        destination: &'a Destination<'a>,
    ) -> Result<Option<(Staged<'a>, Vec<FetchError>)>, FetchError> {
        let wanted = Wanted::parse(name).ok_or_else(|| FetchError::Name(name.into()))?;
        let mut problems = Vec::new();
        let mut archives = Vec::new();
        for path in &self.archives {
            let archive = match Directory::open(path) {
                Ok(archive) => archive,
                Err(error) => {
                    problems.push(error.into());
                    continue;
                }
            };
            match complete_or_unclear(&archive, &wanted, destination, &mut problems)? {
                Some(found) => return Ok(Some((found, problems))),
                None => archives.push(archive),
            }
        }
        // With a problem in one archive, a partial segment of another may hold less than the damaged file.
        if self.partial && problems.is_empty() && wanted.is_segment {
            let mut best: Option<Staged<'_>> = None;
            for archive in &archives {
                let found = partial(archive, &wanted, destination)?;
                best = fuller(best, found);
            }
            if let Some(best) = best {
                return Ok(Some((best, problems)));
            }
        }
        match problems.into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(None),
        }
    }
}

/// What is asked for.
struct Wanted<'a> {
    name: &'a str,
    is_segment: bool,
    /// The largest size that it can have, in bytes.
    limit: u64,
}

const SIZES: core::ops::RangeInclusive<u32> = 20..=30;

impl<'a> Wanted<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        // Which names are valid depends on the segment size, which is not known before a segment is read.
        let sizes = SIZES.filter_map(|bits| WalSegmentSize::new(1 << bits).ok());
        let is_segment = match sizes.into_iter().find_map(|size| ArchiveFileName::parse(name, size))? {
            ArchiveFileName::Segment(file) if file == SegmentFile::plain(file.segment) => true,
            ArchiveFileName::History { compression: Compression::None, .. }
            | ArchiveFileName::BackupHistory { .. } => false,
            _ => return None,
        };
        let limit = if is_segment { 1 << SIZES.end() } else { TimelineHistory::MAX_LEN as u64 };
        Some(Self { name, is_segment, limit })
    }

    /// The names under which it may be stored.
    fn stored(&self, suffix: &str) -> [(String, Compression); 4] {
        [Compression::None, Compression::Gzip, Compression::Lz4, Compression::Zstd]
            .map(|compression| (format!("{}{}{suffix}", self.name, compression.suffix()), compression))
    }

    /// What is wrong with a whole file of this name.
    fn examine(&self, staged: &Staged<'_>) -> Result<(), FetchError> {
        let damaged = |damage| staged.damaged(damage);
        if self.is_segment {
            let size =
                u64::from(self.segment_size(staged)?.ok_or_else(|| damaged(FileDamage::Header))?.bytes());
            if staged.len != size {
                return Err(damaged(FileDamage::Size { actual: staged.len, expected: size }));
            }
        } else if let Some(timeline) = self.name.strip_suffix(".history") {
            let content = staged.read().map_err(|source| staged.failed(source))?;
            let timeline = u32::from_str_radix(timeline, 16).ok().and_then(TimelineId::new);
            if timeline.is_none_or(|timeline| TimelineHistory::parse(timeline, &content).is_err()) {
                return Err(damaged(FileDamage::History));
            }
        }
        Ok(())
    }

    /// The size of the cluster's segments, by the first page; `None` if there is none.
    fn segment_size(&self, staged: &Staged<'_>) -> Result<Option<WalSegmentSize>, FetchError> {
        let mut header = [0; SegmentIdentity::LEN];
        if staged.content < header.len() as u64 {
            return Ok(None);
        }
        staged.file().read_exact_at(&mut header, 0).map_err(|source| staged.failed(source))?;
        let Some(identity) = SegmentIdentity::parse(&header) else { return Ok(None) };
        let Some(size) = identity.size() else { return Ok(None) };
        match WalSegment::parse(self.name, size) {
            Some(segment) if identity.start == segment.start() => Ok(Some(size)),
            _ => Err(staged.damaged(FileDamage::OtherSegment)),
        }
    }
}

/// How often a file is looked for that is listed and then not found.
const ATTEMPTS: usize = 8;

/// As [`complete`]. If the file is not found, the archive's list of names has to show that it is surely not there;
/// otherwise the reason is added to `problems`.
fn complete_or_unclear<'a>(
    archive: &Directory,
    wanted: &Wanted<'_>,
    destination: &'a Destination<'a>,
    problems: &mut Vec<FetchError>,
) -> Result<Option<Staged<'a>>, FetchError> {
    let before = problems.len();
    for attempt in 1.. {
        let found = complete(archive, wanted, destination, problems)?;
        if found.is_some() || problems.len() > before {
            return Ok(found);
        }
        let mut is_listed = false;
        let mut unknown = Vec::new();
        let listed = archive.for_each_raw_name(|name| match wanted.form_of(name) {
            Form::Complete if attempt < ATTEMPTS => is_listed = true,
            Form::Complete | Form::Unknown => unknown.push(archive.path_of(OsStr::from_bytes(name))),
            Form::Other => {}
        });
        match listed {
            Err(error) => problems.push(error.into()),
            // Another process renamed or compressed it between the two looks.
            Ok(()) if is_listed => continue,
            Ok(()) => {
                unknown.sort();
                let unclear = |path| FetchError::Damaged { path, damage: FileDamage::UnknownForm };
                problems.extend(unknown.into_iter().map(unclear));
            }
        }
        break;
    }
    Ok(None)
}

/// What a name in an archive means for the search for a file.
enum Form {
    /// It is that of the file, complete.
    Complete,
    /// It begins with the name of the file, and nothing is known about the rest.
    Unknown,
    /// It is that of another file, of a partial one, or of one in the making.
    Other,
}

impl Wanted<'_> {
    fn form_of(&self, name: &[u8]) -> Form {
        let Some(rest) = name.strip_prefix(self.name.as_bytes()) else { return Form::Other };
        // What a program of ours has not finished, the next one makes anew.
        let Ok(rest) = core::str::from_utf8(rest) else { return Form::Unknown };
        if target_of(&format!("{}{rest}", self.name)).is_some() {
            return Form::Other;
        }
        let (rest, is_partial) = match rest.strip_suffix(".partial") {
            Some(rest) if self.is_segment => (rest, true),
            _ => (rest, false),
        };
        match Compression::split_suffix(rest).0 {
            "" if is_partial => Form::Other,
            "" => Form::Complete,
            rest if self.is_segment && !is_partial && is_backup_history(rest) => Form::Other,
            _ => Form::Unknown,
        }
    }
}

/// Whether a segment's name is followed by `.OFFSET.backup`.
fn is_backup_history(rest: &str) -> bool {
    let offset = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".backup"));
    offset.and_then(parse_hex).is_some()
}

/// The complete file. A damaged one is added to `problems`, and the next form of storage tried.
fn complete<'a>(
    archive: &Directory,
    wanted: &Wanted<'_>,
    destination: &'a Destination<'a>,
    problems: &mut Vec<FetchError>,
) -> Result<Option<Staged<'a>>, FetchError> {
    for (name, compression) in wanted.stored("") {
        let staged = stage(archive, &name, compression, wanted.limit, destination)
            .and_then(|staged| staged.map(|staged| wanted.examine(&staged).map(|()| staged)).transpose());
        match staged {
            Ok(Some(staged)) => return Ok(Some(staged)),
            Ok(None) => {}
            Err(error @ FetchError::Destination { .. }) => return Err(error),
            Err(error) => problems.push(error),
        }
    }
    Ok(None)
}

/// The segment as far as it was received, with zeros behind that.
fn partial<'a>(
    archive: &Directory,
    wanted: &Wanted<'_>,
    destination: &'a Destination<'a>,
) -> Result<Option<Staged<'a>>, FetchError> {
    let mut best: Option<Staged<'_>> = None;
    for (name, compression) in wanted.stored(".partial") {
        let Some(mut staged) = stage(archive, &name, compression, wanted.limit, destination)? else {
            continue;
        };
        staged.is_partial = true;
        match wanted.segment_size(&staged)? {
            Some(size) if staged.len <= size.bytes().into() => {
                staged.fill_up(size.bytes().into())?;
                best = fuller(best, Some(staged));
            }
            Some(size) => {
                let size = FileDamage::Size { actual: staged.len, expected: size.bytes().into() };
                return Err(staged.damaged(size));
            }
            // Nothing was received into it yet.
            None if staged.content == 0 => {}
            None => return Err(staged.damaged(FileDamage::Header)),
        }
    }
    // A receiver may have completed it meanwhile, and begun the next one.
    let mut problems = Vec::new();
    if let Some(whole) = complete(archive, wanted, destination, &mut problems)? {
        return Ok(Some(whole));
    }
    if let Some(problem) = problems.pop() {
        return Err(problem);
    }
    if let Some(best) = &best
        && has_later(archive, wanted.name)?
    {
        return Err(best.damaged(FileDamage::Hole));
    }
    Ok(best)
}

/// The one with more content; a complete one has most.
fn fuller<'a>(first: Option<Staged<'a>>, second: Option<Staged<'a>>) -> Option<Staged<'a>> {
    let content =
        |staged: &Option<Staged<'_>>| staged.as_ref().map(|staged| (!staged.is_partial, staged.content));
    if content(&second) > content(&first) { second } else { first }
}

/// Whether the archive has later segments of the same timeline.
fn has_later(archive: &Directory, segment: &str) -> Result<bool, ArchiveError> {
    let mut found = false;
    archive.for_each_name(|name| {
        let is_segment = |name: &str| name.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
        found |= name.get(..WalSegment::NAME_LEN).is_some_and(|other| {
            is_segment(other)
                && other[..8] == segment[..8]
                && other > segment
                && !ArchiveFileName::is_temporary(name)
        });
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_at_the_destination_is_left_alone_and_what_crashes_left_is_removed() {
        let (archive, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let history = b"1\t0/50000A0\treason\n";
        fs::write(archive.path().join("00000002.history"), history).unwrap();
        let (wanted, precious) = (to.path().join("RECOVERYHISTORY"), to.path().join("precious"));
        fs::write(&precious, "untouched").unwrap();
        let guessed = format!("RECOVERYHISTORY.{}-0.tmp", std::process::id());
        for link in [&wanted, &to.path().join(guessed)] {
            symlink(&precious, link).unwrap();
        }
        fs::write(to.path().join("RECOVERYHISTORY.0123456789abcdef.tmp"), "half").unwrap();
        let fetcher = Fetcher { archives: std::vec![archive.path().into()], partial: false };
        let error = fetcher.fetch("00000002.history", &wanted).unwrap_err();
        assert!(matches!(error, FetchError::Destination { .. }), "{error}");
        assert_eq!(fs::read(&precious).unwrap(), b"untouched");
        assert_eq!(fs::read_link(&wanted).unwrap(), precious);
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 3);
        let mut content = Vec::new();
        assert!(fetcher.fetch_into("00000002.history", &mut content).unwrap().is_some());
        assert_eq!(content, history);
    }

    #[test]
    fn names_that_begin_with_the_wanted_one_are_known_or_stand_in_the_way() {
        let form = |wanted: &str, rest: &[u8]| {
            let name = [wanted.as_bytes(), rest].concat();
            match Wanted::parse(wanted).unwrap().form_of(&name) {
                Form::Complete => "complete",
                Form::Unknown => "unknown",
                Form::Other => "other",
            }
        };
        let (segment, history) = ("000000010000000000000005", "00000002.history");
        for rest in ["", ".gz", ".lz4", ".zst"] {
            assert_eq!([segment, history].map(|name| form(name, rest.as_bytes())), ["complete"; 2], "{rest}");
        }
        for rest in
            [".partial", ".gz.partial", ".00000028.backup", ".00000028.backup.gz", ".gz.0123456789abcdef.tmp"]
        {
            assert_eq!(form(segment, rest.as_bytes()), "other", "{rest}");
        }
        assert_eq!(form(history, b".0123456789abcdef.tmp"), "other");
        for rest in [
            &b".xz"[..],
            b".bz2",
            b".tmp",
            b".gz.tmp",
            b".partial.gz",
            b".gz.enc",
            b"-8f3a.lz",
            b"0",
            b".",
            b".\xff",
            b".partial.tmp",
            b".ready",
            b".28.backup",
            b".0123456789ABCDEF.tmp",
        ] {
            assert_eq!(form(segment, rest), "unknown", "{rest:?}");
        }
        assert_eq!(form(history, b".partial"), "unknown");
    }

    #[test]
    fn a_short_partial_segment_has_its_whole_size_in_either_output() {
        let (archive, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = "000000010000000000000005";
        // The header of a segment of 1 MiB, and something.
        let mut header = std::vec![7_u8; 300];
        header[..40].fill(0);
        header[..4].copy_from_slice(&[0x10, 0xd1, 2, 0]);
        header[4] = 1;
        header[8..12].copy_from_slice(&0x50_0000_u32.to_le_bytes());
        header[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        fs::write(archive.path().join(format!("{name}.partial")), &header).unwrap();
        let fetcher = Fetcher { archives: std::vec![archive.path().into()], partial: true };
        let wanted = to.path().join("RECOVERYXLOG");
        assert!(fetcher.fetch(name, &wanted).unwrap().is_some_and(|fetched| fetched.partial == Some(300)));
        let mut copied = Vec::new();
        assert!(fetcher.fetch_into(name, &mut copied).unwrap().is_some());
        header.resize(1 << 20, 0);
        assert!(fs::read(wanted).unwrap() == header);
        assert!(copied == header, "{} bytes", copied.len());
    }

    #[test]
    fn a_missing_destination_matters_only_where_there_is_a_file() {
        let archive = tempfile::tempdir().unwrap();
        let fetcher = Fetcher { archives: std::vec![archive.path().into()], partial: true };
        let nowhere = archive.path().join("missing/a");
        assert!(fetcher.fetch("00000002.history", &nowhere).unwrap().is_none());
        fs::write(archive.path().join("00000002.history"), "1\t0/50000A0\treason\n").unwrap();
        let error = fetcher.fetch("00000002.history", &nowhere).unwrap_err();
        assert!(matches!(&error, FetchError::Destination { path, .. } if *path == nowhere), "{error}");
    }
}

//! Checks that do not use the code under test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Compares an archive with the server's own copies ([`Builder::archive`](super::cluster::Builder::archive)).
///
/// Every complete segment of the archive must equal the server's, byte for byte. Between the first and the
/// last segment of a timeline the archive must have all segments that the server has. Returns the number of
/// segments compared; the error says which segment differs, and where.
pub fn compare_segments(archive: &Path, servers: &Path) -> Result<usize, String> {
    let ours = segments(archive)?;
    for name in &ours {
        let read = |dir: &Path| {
            fs::read(dir.join(name)).map_err(|error| format!("{}: {error}", dir.join(name).display()))
        };
        let (our, their) = (read(archive)?, read(servers)?);
        if our.len() != their.len() {
            return Err(format!("{name}: {} bytes, the server's has {}", our.len(), their.len()));
        }
        if let Some(at) = our.iter().zip(&their).position(|(our, their)| our != their) {
            return Err(format!("{name}: differs from the server's at byte {at}"));
        }
    }
    for name in segments(servers)? {
        let timeline = |other: &&String| other[..8] == name[..8];
        let first = ours.iter().find(timeline);
        let last = ours.iter().rev().find(timeline);
        if !ours.contains(&name) && first < Some(&name) && Some(&name) < last {
            return Err(format!("{name}: missing between {first:?} and {last:?}"));
        }
    }
    Ok(ours.len())
}

/// The names of complete segments in a directory, in order.
pub fn segments(dir: &Path) -> Result<BTreeSet<String>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| is_segment_name(name)).collect())
}

fn is_segment_name(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
}

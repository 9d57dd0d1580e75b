//! The check of what is received.

use std::string::ToString as _;
use std::vec;

use super::{ReceiveError, Receiver, ReceiverEvent, on_disk};
use crate::types::ServerVersion;
use crate::wal::{Archive, ArchiveFileName, Compression, WalChecker, WalDamage, WalSegment};

const READ_BYTES: usize = 256 * 1024;

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// The check of WAL from `first` on, if this server's WAL can be checked.
    pub(super) async fn checker(
        &mut self,
        version: ServerVersion,
        archive: &Archive,
        first: WalSegment,
    ) -> Result<Option<WalChecker>, ReceiveError> {
        if !self.options.check_wal {
            return Ok(None);
        }
        if !(10..=18).contains(&version.major()) {
            (self.on_event)(ReceiverEvent::Unchecked(version));
            return Ok(None);
        }
        let (archive, system_id) = (archive.clone(), self.system_id);
        let (checker, damaged) = on_disk(move || {
            let history = archive.read_history(first.timeline())?;
            let switchpoint = history.and_then(|history| history.began_at());
            let begin_at = |segment: WalSegment| {
                let checker = WalChecker::new(segment.size(), system_id, segment.timeline(), segment.start());
                match switchpoint {
                    Some(switchpoint) => checker.with_switchpoint(switchpoint),
                    None => checker,
                }
            };
            // A record that reaches into the first segment can be checked if its beginning is here.
            if let Some(before) = first.previous() {
                match pass(&archive, before, begin_at(before)) {
                    Some(Ok(checker)) => return Ok((checker, None)),
                    Some(Err(damage)) => return Ok((begin_at(first), Some((before, damage)))),
                    None => {}
                }
            }
            Ok((begin_at(first), None))
        })
        .await?;
        if let Some((segment, damage)) = damaged {
            (self.on_event)(ReceiverEvent::ArchiveDamage { segment, damage });
        }
        Ok(Some(checker))
    }
}

/// The check behind a segment of the archive, or what is wrong with it; `None` if not all of it is here, or not to be
/// read now: that is no reason not to receive.
fn pass(
    archive: &Archive,
    segment: WalSegment,
    mut checker: WalChecker,
) -> Option<Result<WalChecker, WalDamage>> {
    let mut reader = Compression::ALL.into_iter().find_map(|compression| {
        let name = ArchiveFileName::Segment { segment, compression, partial: false };
        archive.open_segment(&name.to_string()).ok()
    })?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = reader.fill(&mut buffer).ok()?;
        if read == 0 {
            break;
        }
        if let Err(damage) = checker.check(checker.position(), buffer.get(..read)?) {
            return Some(Err(damage));
        }
    }
    (checker.position() == segment.end()).then_some(Ok(checker))
}

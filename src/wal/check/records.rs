use super::pages::{CutOff, PageBegin};
use super::{WalDamage, WalDamageKind};
use crate::types::Lsn;
use crate::wal::crc;
use crate::wal::header::{PageHeader, RecordHeader, SegmentHeader};

/// The check of records, which are what stands between the page headers.
#[derive(Clone, Debug)]
pub(super) struct Records {
    state: State,
    /// Where the record begins that is being read.
    start: Lsn,
    /// Its header, unless all of the record came at once.
    header: [u8; RecordHeader::LEN],
    /// Where the last complete record begins, if it is known.
    previous: Option<Lsn>,
    /// The last complete record's last byte + 1.
    last_end: Lsn,
    /// A short record as its checksum takes it, body first. It is here so that it need not be cleared each time.
    short: [u8; SHORT + RecordHeader::CHECKED_LEN],
}

/// Most records have bodies of at most so many bytes.
const SHORT: usize = 112;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The first page will tell.
    Unknown,
    /// Padding, a record's header, or the empty rest of a segment.
    Between,
    /// A record's header, of which some bytes have come.
    Header { filled: usize },
    /// A record of which `remaining` bytes are to come, never 0; `crc` is over those after its header.
    Body { remaining: u32, crc: u32 },
    /// A record that began before the first page, of which `remaining` bytes are to come, never 0.
    Tail { remaining: u32 },
    /// The rest of a segment, which is zero.
    Empty,
}

/// Bytes of a record's header that hold its length. The end of a page never parts them.
const LENGTH_LEN: usize = 4;

/// Records begin at multiples of it; the bytes up to there are zero.
const ALIGNMENT: u64 = 8;

impl Records {
    pub(super) const fn new(start: Lsn) -> Self {
        Self {
            state: State::Unknown,
            start,
            header: [0; RecordHeader::LEN],
            previous: None,
            last_end: start,
            short: [0; SHORT + RecordHeader::CHECKED_LEN],
        }
    }

    pub(super) const fn last_end(&self) -> Lsn {
        self.last_end
    }

    /// Where the record begins of which only a part has come, if it can be checked at its end.
    pub(super) const fn under_way(&self) -> Option<Lsn> {
        match self.state {
            State::Header { .. } | State::Body { .. } => Some(self.start),
            State::Unknown | State::Between | State::Tail { .. } | State::Empty => None,
        }
    }

    /// Whether nothing follows the last record, which was no WAL switch: that one alone has a header and no body.
    pub(super) fn is_empty_behind_record(&self) -> bool {
        let len = self.previous.map(|start| self.last_end.saturating_sub(start));
        // The header of a page may part the record's own.
        let parted = [PageHeader::LEN, SegmentHeader::LEN].map(|page| (page + RecordHeader::LEN) as u64);
        let is_switch = len.is_some_and(|len| len == RecordHeader::LEN as u64 || parted.contains(&len));
        matches!(self.state, State::Empty) && !is_switch
    }

    /// Whether the log may end here: no record is under way.
    pub(super) const fn may_end(&self) -> bool {
        matches!(self.state, State::Between | State::Empty)
    }

    /// Goes on with a page that is empty.
    pub(super) const fn begin_empty_page(&mut self) {
        self.state = State::Empty;
    }

    /// Goes on with a page that begins so.
    pub(super) fn begin_page(&mut self, begin: PageBegin) -> Result<(), WalDamageKind> {
        let expected = match self.state {
            State::Unknown => begin.remaining,
            State::Between | State::Empty => 0,
            State::Header { filled } => self.header_len_field().saturating_sub(filled as u32),
            State::Body { remaining, .. } | State::Tail { remaining } => remaining,
        };
        self.state = match (self.state, begin.cut_off) {
            (State::Between | State::Empty, CutOff::Certain) => return Err(WalDamageKind::NothingCutOff),
            (_, CutOff::Certain) => State::Between,
            (_, CutOff::Possible) if begin.remaining == 0 && expected > 0 => {
                self.previous = None;
                State::Between
            }
            _ if expected != begin.remaining => {
                return Err(WalDamageKind::RemainingLength { expected, found: begin.remaining });
            }
            (State::Unknown, _) if expected > 0 => State::Tail { remaining: expected },
            (State::Unknown, _) => State::Between,
            (State::Empty, _) if begin.of_segment => State::Between,
            (state, _) => state,
        };
        Ok(())
    }

    /// Checks the bytes that begin at `lsn`, all of one page and none of its header.
    pub(super) fn take(&mut self, mut lsn: Lsn, mut run: &[u8]) -> Result<(), WalDamage> {
        while !run.is_empty() {
            let taken = match self.state {
                State::Between => self.take_from_start(lsn, run)?,
                State::Header { filled } => self.take_header(lsn, filled, run)?,
                State::Body { remaining, crc } => self.take_body(lsn, remaining, crc, run)?,
                State::Tail { remaining } => {
                    let taken = run.len().min(remaining as usize);
                    self.state = match remaining - taken as u32 {
                        0 => State::Between,
                        remaining => State::Tail { remaining },
                    };
                    taken
                }
                State::Unknown => run.len(),
                State::Empty => expect_zeros(lsn, run)?,
            };
            lsn = after(lsn, taken);
            run = run.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Takes padding, or a record from its first byte: all of it if it is there, for speed.
    fn take_from_start(&mut self, lsn: Lsn, run: &[u8]) -> Result<usize, WalDamage> {
        let padding = (lsn.get().wrapping_neg() % ALIGNMENT) as usize;
        if padding > 0 {
            // The common case by one comparison, without a call.
            if let Some(word) = run.first_chunk()
                && u64::from_le_bytes(*word) << (8 * (ALIGNMENT as usize - padding)) == 0
            {
                return Ok(padding);
            }
            return expect_zeros(lsn, &run[..run.len().min(padding)]);
        }
        self.start = lsn;
        let Some((bytes, rest)) = run.split_first_chunk() else { return self.take_header(lsn, 0, run) };
        let header = RecordHeader::parse(bytes);
        if header.total_len == 0 {
            self.state = State::Empty;
            return Ok(0);
        }
        self.check_len(header.total_len)?;
        self.check_previous(&header)?;
        let total_len = header.total_len as usize;
        if let Some(crc) = self.checksum(bytes, rest, total_len - RecordHeader::LEN) {
            self.complete(header.crc, crc, after(lsn, total_len))?;
            return Ok(total_len);
        }
        self.header = *bytes;
        self.state = State::Body { remaining: (total_len - run.len()) as u32, crc: crc::append(0, rest) };
        Ok(run.len())
    }

    /// Takes bytes of a header that comes in parts.
    fn take_header(&mut self, lsn: Lsn, filled: usize, run: &[u8]) -> Result<usize, WalDamage> {
        // The length first: it is 0 where the log ends, and has to be known where a page ends.
        let goal = if filled < LENGTH_LEN { LENGTH_LEN } else { RecordHeader::LEN };
        let taken = run.len().min(goal - filled);
        let end = filled + taken;
        self.header[filled..end].copy_from_slice(&run[..taken]);
        self.state = State::Header { filled: end };
        match end {
            LENGTH_LEN if self.header_len_field() == 0 => self.state = State::Empty,
            LENGTH_LEN => self.check_len(self.header_len_field())?,
            RecordHeader::LEN => {
                let header = RecordHeader::parse(&self.header);
                self.check_previous(&header)?;
                match header.total_len - RecordHeader::LEN as u32 {
                    0 => self.complete_with_body(0, after(lsn, taken))?,
                    remaining => self.state = State::Body { remaining, crc: 0 },
                }
            }
            _ => {}
        }
        Ok(taken)
    }

    /// Takes bytes of a record after its header.
    fn take_body(&mut self, lsn: Lsn, remaining: u32, crc: u32, run: &[u8]) -> Result<usize, WalDamage> {
        let body = &run[..run.len().min(remaining as usize)];
        let crc = crc::append(crc, body);
        match remaining - body.len() as u32 {
            0 => self.complete_with_body(crc, after(lsn, body.len()))?,
            remaining => self.state = State::Body { remaining, crc },
        }
        Ok(body.len())
    }

    /// All of the record is here whose header was stored, and this is the checksum of its body.
    fn complete_with_body(&mut self, crc: u32, end: Lsn) -> Result<(), WalDamage> {
        let crc = crc::append(crc, &self.header[..RecordHeader::CHECKED_LEN]);
        self.complete(RecordHeader::parse(&self.header).crc, crc, end)
    }

    /// All of the record is here; it ends at `end`.
    fn complete(&mut self, expected_crc: u32, crc: u32, end: Lsn) -> Result<(), WalDamage> {
        if crc != expected_crc {
            return Err(WalDamageKind::RecordChecksum.at(self.start));
        }
        self.state = State::Between;
        self.previous = Some(self.start);
        self.last_end = end;
        Ok(())
    }

    /// The checksum of a record with this header and a body of the first `body_len` bytes of `rest`; `None` if
    /// they are not all there.
    #[inline(always)]
    fn checksum(&mut self, header: &[u8; RecordHeader::LEN], rest: &[u8], body_len: usize) -> Option<u32> {
        let header: &[u8; RecordHeader::CHECKED_LEN] = header.first_chunk()?;
        // For a short record the call costs more than the work, and so one call for body and header in a row is
        // worth a copy; one of a fixed length, which is a few moves of the widest kind. It makes a log of short
        // records faster by a third.
        if body_len <= SHORT
            && let Some(chunk) = rest.first_chunk::<SHORT>()
        {
            // In parts, each of which is a few moves and no call.
            *self.short.first_chunk_mut()? = *chunk.first_chunk::<64>()?;
            *self.short.get_mut(64..)?.first_chunk_mut()? =
                *chunk.get(64..)?.first_chunk::<{ SHORT - 64 }>()?;
            *self.short.get_mut(body_len..)?.first_chunk_mut()? = *header;
            return Some(crc::append(0, self.short.get(..body_len + header.len())?));
        }
        let body = rest.get(..body_len)?;
        Some(crc::append(crc::append(0, body), header))
    }

    fn check_len(&self, total_len: u32) -> Result<(), WalDamage> {
        if (total_len as usize) < RecordHeader::LEN {
            return Err(WalDamageKind::RecordLength { found: total_len }.at(self.start));
        }
        Ok(())
    }

    fn check_previous(&self, header: &RecordHeader) -> Result<(), WalDamage> {
        let (expected, found) = (self.previous, header.previous);
        if expected.map_or(found < self.start, |expected| found == expected) {
            return Ok(());
        }
        Err(WalDamageKind::PreviousRecord { expected, found }.at(self.start))
    }

    /// The length of the record whose header is being assembled, with its header, in bytes.
    fn header_len_field(&self) -> u32 {
        RecordHeader::parse(&self.header).total_len
    }
}

/// Takes all of `run` if it is zero.
fn expect_zeros(lsn: Lsn, run: &[u8]) -> Result<usize, WalDamage> {
    // Whole blocks without an early exit in them are compared many bytes at a time.
    let is_zero = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte) == 0;
    if run.chunks(256).all(is_zero) {
        return Ok(run.len());
    }
    let at = run.iter().take_while(|&&byte| byte == 0).count();
    Err(WalDamageKind::NotZero.at(after(lsn, at)))
}

fn after(lsn: Lsn, len: usize) -> Lsn {
    Lsn::new(lsn.get().saturating_add(len as u64))
}

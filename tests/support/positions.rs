//! Positions in a server's WAL, computed without the code under test.

use tapster::types::Lsn;

use super::cluster::Cluster;

impl Cluster {
    /// The value of a `pg_lsn` expression.
    #[track_caller]
    pub fn query_lsn(&self, expression: &str) -> Lsn {
        self.sql(&format!("SELECT {expression}")).unwrap().parse().expect("a position")
    }

    /// The position of the next byte of WAL.
    #[track_caller]
    pub fn position(&self) -> Lsn {
        self.query_lsn("pg_current_wal_lsn()")
    }

    /// The start of the segment that contains `position`.
    pub fn segment_start(&self, position: Lsn) -> Lsn {
        Lsn::new(position.get() / self.segment_size() * self.segment_size())
    }

    /// The name of the segment of `timeline` that contains `position`.
    pub fn segment_name(&self, timeline: u32, position: Lsn) -> String {
        let (high, low) = (position.get() >> 32, position.get() & 0xffff_ffff);
        format!("{timeline:08X}{high:08X}{:08X}", low / self.segment_size())
    }

    /// Writes the rest of the current segment and `count` - 1 whole segments. Returns the name of the last
    /// one.
    #[track_caller]
    pub fn write_segments(&self, count: u64) -> String {
        if count > 1 {
            self.write_wal(usize::try_from(self.segment_size() * (count - 1)).expect("some MiB"));
        }
        self.write_wal(1000);
        self.switch_wal()
    }
}

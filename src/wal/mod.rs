//! The archive directory and the WAL receiver.

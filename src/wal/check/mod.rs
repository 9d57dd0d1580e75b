//! The check of WAL bytes: page headers, and the checksum of every record.

mod checker;
mod damage;
mod header;
mod pages;
mod records;

pub use checker::WalChecker;
pub use damage::{WalDamage, WalDamageKind};

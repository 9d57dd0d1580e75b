//! The check of WAL bytes: page headers, and the checksum of every record.

mod checker;
mod damage;
mod header;
mod pages;
mod records;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use checker::WalChecker;
pub use damage::{WalDamage, WalDamageKind};

//! The check of WAL bytes: page headers, and the checksum of every record.

mod checker;
mod damage;
mod pages;
mod records;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;

pub use checker::WalChecker;
pub use damage::{WalDamage, WalDamageKind};

use core::iter;
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

use crate::auth::DerivedKeys;
use crate::conninfo::Config;

/// The keys derived from one host's user and password; `None` before the first login with SCRAM.
#[derive(Debug, Default)]
pub(super) struct KeySlot(Mutex<Option<DerivedKeys>>);

impl KeySlot {
    /// One empty slot for each host.
    pub(super) fn for_hosts(config: &Config) -> Vec<Self> {
        iter::repeat_with(Self::default).take(config.hosts.len()).collect()
    }

    pub(super) fn get(&self) -> Option<DerivedKeys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the newest keys; a login without SCRAM has none and changes nothing.
    pub(super) fn set(&self, keys: Option<DerivedKeys>) {
        if keys.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = keys;
        }
    }
}

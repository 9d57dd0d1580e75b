//! Reading the files that the parameters name.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::vec::Vec;

use rustls::pki_types::pem::PemObject;

/// Reads a whole file; `None` if it does not exist.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All items of one kind in a PEM file; without one, an error.
pub(super) fn pem<T: PemObject>(bytes: &[u8]) -> Result<Vec<T>, rustls::pki_types::pem::Error> {
    let items = T::pem_slice_iter(bytes).collect::<Result<Vec<T>, _>>()?;
    if items.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(items) }
}

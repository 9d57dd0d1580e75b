//! A program without the standard library, linked against libc alone, that decodes and encodes.
//!
//! It has a panic handler and an allocator of its own. Should anything below it bring the standard library
//! along, there would be two panic handlers, and it would not build.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_int, c_void};

use tapster::codec::{BackendFraming, BackendMessage, FrontendMessage, Need, TransactionStatus};

#[link(name = "c")]
unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
    fn abort() -> !;
    fn puts(text: *const core::ffi::c_char) -> c_int;
}

struct Malloc;

// SAFETY: malloc gives memory for every alignment that the codec asks for; a larger one is refused.
unsafe impl GlobalAlloc for Malloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > 16 {
            return core::ptr::null_mut();
        }
        unsafe { malloc(layout.size()).cast() }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        unsafe { free(memory.cast()) }
    }
}

#[global_allocator]
static ALLOCATOR: Malloc = Malloc;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: abort has no condition.
    unsafe { abort() }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    if decodes() != Some(()) || encodes() != Some(()) || checks_wal() != Some(()) {
        return 1;
    }
    // SAFETY: the text ends with a NUL.
    unsafe { puts(c"no_std: decoded and encoded".as_ptr()) };
    0
}

fn decodes() -> Option<()> {
    let mut input = &b"D\0\0\0\x0b\0\x01\0\0\0\x01aZ\0\0\0\x05I"[..];
    let mut messages = Vec::new();
    while let Need::Frame(len) = BackendFraming::READY.need(input).ok()? {
        let (frame, rest) = input.split_at_checked(len)?;
        messages.push(BackendFraming::READY.parse(frame).ok()?);
        input = rest;
    }
    match messages[..] {
        [BackendMessage::DataRow(row), BackendMessage::ReadyForQuery(TransactionStatus::Idle)] => {
            (row.values.get(0) == Some(Some(b"a"))).then_some(())
        }
        _ => None,
    }
}

fn encodes() -> Option<()> {
    let mut out = Vec::new();
    FrontendMessage::Query { query: b"SELECT 1" }.encode(&mut out).ok()?;
    (out == b"Q\0\0\0\x0dSELECT 1\0").then_some(())
}

/// Without the feature there is nothing to check.
#[cfg(not(feature = "wal"))]
fn checks_wal() -> Option<()> {
    Some(())
}

/// A page of zeros is no WAL.
#[cfg(feature = "wal")]
fn checks_wal() -> Option<()> {
    use tapster::types::{Lsn, TimelineId, WalSegmentSize};
    use tapster::wal::{WalChecker, WalDamageKind};

    let start = Lsn::new(5 << 20);
    let mut checker = WalChecker::new(WalSegmentSize::MIN, None, TimelineId::FIRST, start);
    let damage = checker.check(start, &[0; 8192]).err()?;
    (damage.kind == WalDamageKind::UnknownMagic { found: 0 }).then_some(())
}

//! Leaves out of the static program what only the linker can leave out: a seventh of it.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is =
        |variable, value| env::var(variable).is_ok_and(|values| values.split(',').any(|one| one == value));
    let is_static = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_FEATURE", "crt-static");
    if !is_static || !is("PROFILE", "release") {
        return;
    }
    // The tables by which a panic is unwound: with the release profile it ends the program. The compiler has no
    // switch for those of the standard library and of the C library. This adds to the linker's own script.
    let script = Path::new(&env::var_os("OUT_DIR").expect("cargo says")).join("no-unwinding.ld");
    fs::write(&script, "SECTIONS { /DISCARD/ : { *(.eh_frame) } } INSERT AFTER .text;\n")
        .expect("cargo's directory");
    link_with(&["-Wl,--no-eh-frame-hdr", "-T", &script.display().to_string()]);
    // One bit for a pointer to be relocated instead of 24 bytes.
    if is("CARGO_CFG_TARGET_ENV", "gnu")
        && env::var("HOST") == env::var("TARGET")
        && libc_reads_packed_relocations()
    {
        link_with(&["-Wl,-z,pack-relative-relocs"]);
    }
}

fn link_with(arguments: &[&str]) {
    for argument in arguments {
        println!("cargo::rustc-link-arg-bin=tapster={argument}");
    }
}

/// Whether a program of this machine's C library can relocate itself by such a list: from glibc 2.36 on, which
/// tells the dynamic linker so by a version of that name.
fn libc_reads_packed_relocations() -> bool {
    const VERSION: &[u8] = b"GLIBC_ABI_DT_RELR";
    let Ok(output) = Command::new("cc").arg("-print-file-name=libc.so.6").output() else { return false };
    let path = String::from_utf8_lossy(&output.stdout);
    fs::read(path.trim()).is_ok_and(|libc| libc.windows(VERSION.len()).any(|bytes| bytes == VERSION))
}

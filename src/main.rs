//! The `tapster` program.
fn main() {}

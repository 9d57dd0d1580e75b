//! What holds for the handshake, whoever is on the other side.

mod recorded;
mod scripted;
mod talk;

use talk::Setting;

/// The first byte says what the client was told and who the peer is: one that says the bytes that follow,
/// or one that says the words of a script, each spelt as two bytes.
pub fn handshake(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let setting = Setting::new(choice >> 1);
    if choice & 1 == 0 { recorded::check(setting, rest) } else { scripted::check(setting, rest) }
}

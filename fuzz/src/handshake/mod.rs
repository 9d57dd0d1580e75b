//! Properties of the handshake against every kind of peer.

mod recorded;
mod scripted;
mod talk;

use talk::Setting;

/// The first byte of the input chooses the client's settings and the peer. One peer sends the bytes that
/// follow; the other sends the messages of a script, each given by two bytes.
pub fn handshake(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let setting = Setting::new(choice >> 1);
    if choice & 1 == 0 { recorded::check(setting, rest) } else { scripted::check(setting, rest) }
}

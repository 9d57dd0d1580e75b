//! A relay between a client and a server. It records what the client sends, and may delay, change or drop
//! bytes.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A relay that listens on its own port for as long as the test process lives.
pub struct Proxy {
    port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    gate: Arc<Gate>,
}

/// Lets bytes pass, or holds them back while the sockets stay open.
#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, is_closed: bool) {
        *self.is_closed.lock().expect("no panic while locked") = is_closed;
        self.changed.notify_all();
    }

    fn wait_until_open(&self) {
        let is_closed = self.is_closed.lock().expect("no panic while locked");
        drop(self.changed.wait_while(is_closed, |is_closed| *is_closed).expect("no panic while locked"));
    }
}

/// Changes bytes of the server. Gets the number of bytes that the server has sent before on the connection,
/// and the new bytes.
type Change = dyn Fn(usize, &mut [u8]) + Send + Sync;

/// Decides whether the relay becomes deaf. Gets the number of pieces that the client has sent before on the
/// connection, and the new piece.
type Deaf = dyn Fn(usize, &[u8]) -> bool + Send + Sync;

/// How the relay treats bytes and connections.
struct Behaviour {
    /// How many connections are relayed.
    relayed: usize,
    /// The largest number of the server's bytes that is sent at once.
    piece: usize,
    /// The pause before each of these pieces.
    pause: Duration,
    change: Box<Change>,
    /// Whether this piece, and everything that the client sends after it on its first connection, is dropped.
    deaf: Box<Deaf>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            relayed: usize::MAX,
            piece: usize::MAX,
            pause: Duration::ZERO,
            change: Box::new(|_, _| {}),
            deaf: Box::new(|_, _| false),
        }
    }
}

impl Proxy {
    /// Relays the first `relayed` connections to the server at `port`. Later ones are accepted and never
    /// answered.
    pub fn start(port: u16, relayed: usize) -> Self {
        Self::with(port, Behaviour { relayed, ..Behaviour::default() })
    }

    /// Relays the server's bytes in pieces of 7, like the worst network.
    pub fn dribbling(port: u16) -> Self {
        Self::with(port, Behaviour { piece: 7, ..Behaviour::default() })
    }

    /// Relays pieces of at most `piece` bytes, each after `pause`, like a slow line.
    pub fn slow(port: u16, piece: usize, pause: Duration) -> Self {
        Self::with(port, Behaviour { piece, pause, ..Behaviour::default() })
    }

    /// On the first connection, passes on only the first `pieces` pieces that the client sends.
    pub fn deaf_after(port: u16, pieces: usize) -> Self {
        Self::with(
            port,
            Behaviour { deaf: Box::new(move |before, _| before >= pieces), ..Behaviour::default() },
        )
    }

    /// On the first connection, passes on nothing from the piece with the client's `words` on.
    pub fn deaf_to(port: u16, words: &'static str) -> Self {
        let is_said = move |piece: &[u8]| piece.windows(words.len()).any(|said| said == words.as_bytes());
        Self::with(port, Behaviour { deaf: Box::new(move |_, piece| is_said(piece)), ..Behaviour::default() })
    }

    /// Flips a bit of the byte at `offset` of the server's bytes, on the first `times` connections that get
    /// that far.
    pub fn flipping(port: u16, offset: usize, times: usize) -> Self {
        let flipped = AtomicUsize::new(0);
        let change = move |before, bytes: &mut [u8]| {
            if let Some(byte) = offset.checked_sub(before).and_then(|at| bytes.get_mut(at))
                && flipped.fetch_add(1, Ordering::SeqCst) < times
            {
                *byte ^= 0x10;
            }
        };
        Self::with(port, Behaviour { change: Box::new(change), ..Behaviour::default() })
    }

    fn with(port: u16, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let own_port = listener.local_addr().expect("it is bound").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&heard);
        let gate = Arc::new(Gate::default());
        let own_gate = Arc::clone(&gate);
        let behaviour = Arc::new(behaviour);
        thread::spawn(move || {
            for (index, client) in listener.incoming().map_while(Result::ok).enumerate() {
                record.lock().expect("no panic while locked").push(Vec::new());
                let server = (index < behaviour.relayed)
                    .then(|| TcpStream::connect(("127.0.0.1", port)).expect("a server"));
                let (record, behaviour) = (Arc::clone(&record), Arc::clone(&behaviour));
                if let Some(server) = &server {
                    let (from, to) =
                        (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                    let (behaviour, gate) = (Arc::clone(&behaviour), Arc::clone(&gate));
                    thread::spawn(move || {
                        let mut before = 0;
                        relay(from, Some(to), behaviour.piece, behaviour.pause, |bytes| {
                            gate.wait_until_open();
                            (behaviour.change)(before, bytes);
                            before += bytes.len();
                            true
                        });
                    });
                }
                let gate = Arc::clone(&gate);
                thread::spawn(move || {
                    let (mut before, mut is_deaf) = (0, false);
                    relay(client, server, usize::MAX, Duration::ZERO, |bytes| {
                        gate.wait_until_open();
                        record.lock().expect("no panic while locked")[index].extend_from_slice(bytes);
                        is_deaf |= index == 0 && (behaviour.deaf)(before, bytes);
                        before += 1;
                        !is_deaf
                    });
                });
            }
        });
        Self { port: own_port, heard, gate: own_gate }
    }

    /// Holds back all bytes in both directions from now on, and closes no socket.
    pub fn hold(&self) {
        self.gate.set(true);
    }

    /// Lets all bytes pass again, also those held back.
    pub fn release(&self) {
        self.gate.set(false);
    }

    /// The port of the relay at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The bytes that the client has sent on each connection so far.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().expect("no panic while locked").clone()
    }
}

/// Reads from `from` and writes to `to` what `passes` lets through.
fn relay(
    mut from: TcpStream,
    mut to: Option<TcpStream>,
    piece: usize,
    pause: Duration,
    mut passes: impl FnMut(&mut [u8]) -> bool,
) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        let passes = passes(&mut chunk[..n]);
        let Some(to) = to.as_mut().filter(|_| passes) else { continue };
        let mut send = |piece: &[u8]| {
            thread::sleep(pause);
            to.write_all(piece)
        };
        if chunk[..n].chunks(piece).any(|piece| send(piece).is_err()) {
            break;
        }
    }
    if let Some(to) = to {
        drop(to.shutdown(Shutdown::Write));
    }
}

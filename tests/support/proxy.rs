//! A relay between a client and a server, which hears what the client says and may change what it hears.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Listens at a port of its own, for as long as the test process lives.
pub struct Proxy {
    port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    gate: Arc<Gate>,
}

/// Lets bytes pass, or holds them back with the sockets open.
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

    fn pass(&self) {
        let is_closed = self.is_closed.lock().expect("no panic while locked");
        drop(self.changed.wait_while(is_closed, |is_closed| *is_closed).expect("no panic while locked"));
    }
}

/// Gets how many bytes the server said before on the connection, and those it says now.
type Change = dyn Fn(usize, &mut [u8]) + Send + Sync;

/// Gets how many pieces the client has said on the connection before, and the one that it says now.
type Deaf = dyn Fn(usize, &[u8]) -> bool + Send + Sync;

/// What becomes of the words on their way.
struct Way {
    /// How many connections are relayed.
    relayed: usize,
    /// The largest piece of the server's words that is sent at once, in bytes.
    piece: usize,
    /// How long each of them takes.
    pause: Duration,
    change: Box<Change>,
    /// Whether this, and what the client says after it on its first connection, is not passed on.
    deaf: Box<Deaf>,
}

impl Default for Way {
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
    /// Relays the first `relayed` connections to the server at `port`. Later ones are taken and never
    /// answered.
    pub fn start(port: u16, relayed: usize) -> Self {
        Self::with(port, Way { relayed, ..Way::default() })
    }

    /// Relays in pieces of a few bytes, as from a network that is as bad as can be.
    pub fn dribbling(port: u16) -> Self {
        Self::with(port, Way { piece: 7, ..Way::default() })
    }

    /// Relays pieces of `piece` bytes at most, each after `pause`, as a slow line does.
    pub fn slow(port: u16, piece: usize, pause: Duration) -> Self {
        Self::with(port, Way { piece, pause, ..Way::default() })
    }

    /// On the first connection, passes only the first `pieces` of what the client says.
    pub fn deaf_after(port: u16, pieces: usize) -> Self {
        Self::with(port, Way { deaf: Box::new(move |before, _| before >= pieces), ..Way::default() })
    }

    /// On the first connection, passes nothing from the client's `words` on.
    pub fn deaf_to(port: u16, words: &'static str) -> Self {
        let is_said = move |piece: &[u8]| piece.windows(words.len()).any(|said| said == words.as_bytes());
        Self::with(port, Way { deaf: Box::new(move |_, piece| is_said(piece)), ..Way::default() })
    }

    /// Flips a bit of the byte at `offset` of what the server says, on the first `times` connections that get
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
        Self::with(port, Way { change: Box::new(change), ..Way::default() })
    }

    fn with(port: u16, way: Way) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let own_port = listener.local_addr().expect("it is bound").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&heard);
        let gate = Arc::new(Gate::default());
        let own_gate = Arc::clone(&gate);
        let way = Arc::new(way);
        thread::spawn(move || {
            for (index, client) in listener.incoming().map_while(Result::ok).enumerate() {
                record.lock().expect("no panic while locked").push(Vec::new());
                let server =
                    (index < way.relayed).then(|| TcpStream::connect(("127.0.0.1", port)).expect("a server"));
                let (record, way) = (Arc::clone(&record), Arc::clone(&way));
                if let Some(server) = &server {
                    let (from, to) =
                        (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                    let (way, gate) = (Arc::clone(&way), Arc::clone(&gate));
                    thread::spawn(move || {
                        let mut before = 0;
                        relay(from, Some(to), way.piece, way.pause, |bytes| {
                            gate.pass();
                            (way.change)(before, bytes);
                            before += bytes.len();
                            true
                        });
                    });
                }
                let gate = Arc::clone(&gate);
                thread::spawn(move || {
                    let (mut before, mut is_deaf) = (0, false);
                    relay(client, server, usize::MAX, Duration::ZERO, |bytes| {
                        gate.pass();
                        record.lock().expect("no panic while locked")[index].extend_from_slice(bytes);
                        is_deaf |= index == 0 && (way.deaf)(before, bytes);
                        before += 1;
                        !is_deaf
                    });
                });
            }
        });
        Self { port: own_port, heard, gate: own_gate }
    }

    /// From now on nothing passes, in either direction, and no socket is closed.
    pub fn hold(&self) {
        self.gate.set(true);
    }

    /// Everything passes again, and what was held back.
    pub fn release(&self) {
        self.gate.set(false);
    }

    /// Where it listens, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the client has said on each connection so far.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().expect("no panic while locked").clone()
    }
}

/// Passes on what `passes`.
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

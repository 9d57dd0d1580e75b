//! A proxy between a client and a server, that does what networks do.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::Cluster;

/// Forwards connections to a cluster for as long as the process lives.
pub struct Proxy {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    /// Flips a bit of the byte at `offset` of what the server sends, on the first `times` connections that get
    /// that far.
    pub fn flipping(cluster: &Cluster, offset: usize, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let server = (cluster.host(), cluster.port());
        let connections = Arc::new(AtomicUsize::new(0));
        let flipped = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else {
                    continue;
                };
                let (Ok(to_server), from_server) = (server.try_clone(), server) else { continue };
                let flipped = Arc::clone(&flipped);
                thread::spawn(move || forward(from_client, to_server, |_, _| {}));
                thread::spawn(move || {
                    forward(from_server, to_client, |before, bytes| {
                        let at = offset.checked_sub(before).and_then(|at| bytes.get_mut(at));
                        if let Some(byte) = at
                            && flipped.fetch_add(1, Ordering::SeqCst) < times
                        {
                            *byte ^= 0x10;
                        }
                    });
                });
            }
        });
        Self { port, connections }
    }

    /// The connection string of a user through the proxy.
    pub fn conninfo(&self, cluster: &Cluster, user: &str) -> String {
        format!("{} hostaddr=127.0.0.1 port={}", cluster.conninfo(user), self.port)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Moves bytes until one side ends; `change` gets the number of bytes before these.
fn forward(mut from: TcpStream, mut to: TcpStream, mut change: impl FnMut(usize, &mut [u8])) {
    let mut buffer = vec![0; 64 * 1024];
    let mut before = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        change(before, &mut buffer[..read]);
        before += read;
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

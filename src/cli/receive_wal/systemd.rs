//! Notifications to the service manager: `sd_notify(3)`, datagrams to the socket that it names.

use core::time::Duration;
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use tapster::receiver::ReceiverState;

use super::registry::Shown;

/// How often the status text is updated.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// The service manager's socket.
#[derive(Debug)]
pub(super) struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// After so long without `WATCHDOG=1` the service manager restarts the service.
    watchdog: Option<Duration>,
    is_ready: bool,
    is_stopping: bool,
    status: String,
    status_at: Instant,
    fed_at: Option<Instant>,
}

impl ServiceManager {
    /// The service manager that started this process, if it wants notifications.
    pub(super) fn from_environment() -> Result<Option<Self>, io::Error> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let address = match name.as_encoded_bytes() {
            #[cfg(target_os = "linux")]
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(&name)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        // Never block on the service manager.
        socket.set_nonblocking(true)?;
        Ok(Some(Self {
            socket,
            address,
            watchdog: watchdog(),
            is_ready: false,
            is_stopping: false,
            status: String::new(),
            status_at: Instant::now(),
            fed_at: None,
        }))
    }

    /// How long a stream may be silent before the receiver asks its server for a sign of life, in time for the
    /// watchdog.
    pub(super) fn ask_after(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 4)
    }

    /// When [`poll`](Self::poll) is due.
    pub(super) fn due(&self) -> Instant {
        let status = self.status_at + STATUS_INTERVAL;
        match (self.watchdog, self.fed_at) {
            (Some(watchdog), Some(fed_at)) => status.min(fed_at + watchdog / 4),
            _ => status,
        }
    }

    /// Sends READY, WATCHDOG and STATUS where they are due.
    pub(super) fn poll(&mut self, servers: &[Shown]) {
        let now = Instant::now();
        if !self.is_ready && !self.is_stopping && servers.iter().all(has_begun) {
            // If the socket's buffer is full, it is sent again at the next call.
            self.is_ready = self.send("READY=1");
        }
        if let Some(watchdog) = self.watchdog {
            let is_due = self.fed_at.is_none_or(|at| now >= at + watchdog / 4);
            if is_due && servers.iter().all(|server| is_alive(server, watchdog)) && self.send("WATCHDOG=1") {
                self.fed_at = Some(now);
            }
        }
        self.status_at = now;
        let status = status(servers);
        if status != self.status && self.send(&format!("STATUS={status}")) {
            self.status = status;
        }
    }

    /// Announces that the configuration is being read again; call [`reloaded`](Self::reloaded) afterwards.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let us = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    pub(super) fn reloaded(&self) {
        if self.is_ready {
            self.send("READY=1");
        }
    }

    pub(super) fn stopping(&mut self) {
        self.is_stopping = true;
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Whether it was sent.
    fn send(&self, message: &str) -> bool {
        self.socket.send_to_addr(message.as_bytes(), &self.address).is_ok()
    }
}

/// The watchdog's time limit, if it watches this process.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|&us| us > 0 && is_ours).map(Duration::from_micros)
}

/// Whether the stream's first message has come, or none is expected: the server is unreachable, or has ended.
fn has_begun(server: &Shown) -> bool {
    server.figures.since_message.is_some() || server.unreachable || server.ended.is_some()
}

/// A stream is alive if messages arrive, not because our own loop runs. When none can arrive - the server is away, or
/// the disk is behind - the receiver has its own time limits, and a restart would not help.
fn is_alive(server: &Shown, watchdog: Duration) -> bool {
    let is_listening = server.is_up() && !server.figures.waits_for_disk;
    !is_listening || server.figures.since_message.is_some_and(|since| since < watchdog / 2)
}

fn status(servers: &[Shown]) -> String {
    if let [server] = servers {
        return server.to_string();
    }
    let streaming = servers.iter().filter(|server| server.is_up()).count();
    let lag: u64 = servers.iter().map(|server| server.figures.lag_bytes()).max().unwrap_or_default();
    let mut text = format!("{streaming} of {} streaming, largest lag {lag}", servers.len());
    for server in servers.iter().filter(|server| server.figures.state != ReceiverState::Streaming) {
        text.push_str(&format!("; {} {}", server.label, server.state().replace('_', " ")));
    }
    text
}

//! Two hosts and a wire between them, in network namespaces that belong to the test: breaking this network
//! breaks no other.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::{fs, io, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::PATIENCE;
use super::wait::wait_until;

/// The name of the network device at both ends of the wire.
const DEVICE: &str = "wire";
/// A link-layer address that no host has.
const UNUSED_ADDRESS: &str = "02:00:00:00:00:99";

/// Two hosts that reach each other until the test breaks the wire.
pub struct Wire {
    pub server: Host,
    pub client: Host,
}

/// One of the hosts.
pub struct Host {
    pub address: &'static str,
    namespace: File,
    /// A process that lives in the namespace, by which `ip` finds the namespace.
    holder: Child,
}

impl Wire {
    /// Makes the network. Where the tests are not permitted to, returns `None` and writes the reason to
    /// stderr.
    pub fn new() -> Option<Self> {
        if let Err(reason) = check_permission() {
            // Not by the macro, whose output the test runner hides while the tests pass.
            drop(writeln!(io::stderr(), "skipped, as there is no network to break: {reason}"));
            return None;
        }
        let (server, client) = (Host::new("10.0.0.1"), Host::new("10.0.0.2"));
        let peer = client.holder.id().to_string();
        server.ip(&["link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", &peer]);
        for host in [&server, &client] {
            host.ip(&["address", "add", &format!("{}/24", host.address), "dev", DEVICE]);
            host.ip(&["link", "set", "lo", "up"]);
            host.ip(&["link", "set", DEVICE, "up"]);
        }
        Some(Self { server, client })
    }

    /// From now on the server's packets are lost, and neither host is told.
    pub fn lose_what_the_server_says(&self) {
        self.server.lose_packets_to(&self.client);
    }

    /// From now on the client's packets are lost.
    pub fn lose_what_the_client_says(&self) {
        self.client.lose_packets_to(&self.server);
    }

    /// From now on no packets are lost.
    pub fn heal(&self) {
        self.server.stop_losing_packets_to(&self.client);
        self.client.stop_losing_packets_to(&self.server);
    }
}

impl Host {
    fn new(address: &'static str) -> Self {
        let mut command = Command::new("unshare");
        // The input of `cat` ends when this process ends, however that happens.
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let holder = command.spawn().expect("unshare runs");
        let namespace = format!("/proc/{}/ns/net", holder.id());
        let own = fs::read_link("/proc/self/ns/net").expect("/proc is mounted");
        wait_until(PATIENCE, "there is another network", || {
            fs::read_link(&namespace).is_ok_and(|other| other != own)
        });
        Self { address, namespace: File::open(&namespace).expect("it is there"), holder }
    }

    /// Runs `work` on this host; processes that it starts run there too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.namespace.as_fd(), network).expect("root may");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn lose_packets_to(&self, other: &Self) {
        let neighbour = ["neighbour", "replace", other.address, "lladdr", UNUSED_ADDRESS, "dev", DEVICE];
        self.ip(&[&neighbour[..], &["nud", "permanent"]].concat());
    }

    fn stop_losing_packets_to(&self, other: &Self) {
        // Fails if the host has no such entry.
        drop(self.run(|| {
            let mut ip = Command::new("ip");
            ip.args(["neighbour", "delete", other.address, "dev", DEVICE]).stderr(Stdio::null()).status()
        }));
    }

    fn ip(&self, arguments: &[&str]) {
        let status = self.run(|| Command::new("ip").args(arguments).status());
        assert!(status.as_ref().is_ok_and(|status| status.success()), "ip {arguments:?}: {status:?}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Checks that this process may make network namespaces; the error says why not.
fn check_permission() -> Result<(), String> {
    let output = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

//! Two hosts and a wire between them, in network namespaces of the test's own: what is done to this network, no
//! other one sees.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::{fs, io, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::PATIENCE;
use super::wait::wait_until;

/// The wire's device, on either side.
const DEVICE: &str = "wire";
/// An address of the link that nobody has.
const NOBODY: &str = "02:00:00:00:00:99";

/// Both hosts, which reach each other until told otherwise.
pub struct Wire {
    pub server: Host,
    pub client: Host,
}

/// One of the hosts.
pub struct Host {
    pub address: &'static str,
    namespace: File,
    /// Without it, the namespace would have no process by which `ip` finds it.
    holder: Child,
}

impl Wire {
    /// `None`, and a line on stderr, where the tests may not make such a network.
    pub fn new() -> Option<Self> {
        if let Err(reason) = possible() {
            // Not by the macro, of which nobody sees anything while all goes well.
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

    /// From now on the server's words are lost, without a word about it.
    pub fn lose_what_the_server_says(&self) {
        self.server.lose_what_is_for(&self.client);
    }

    /// From now on the client's words are lost.
    pub fn lose_what_the_client_says(&self) {
        self.client.lose_what_is_for(&self.server);
    }

    /// From now on all is well.
    pub fn heal(&self) {
        self.server.find(&self.client);
        self.client.find(&self.server);
    }
}

impl Host {
    fn new(address: &'static str) -> Self {
        let mut command = Command::new("unshare");
        // Its input ends with this process, however that ends.
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let holder = command.spawn().expect("unshare runs");
        let namespace = format!("/proc/{}/ns/net", holder.id());
        let own = fs::read_link("/proc/self/ns/net").expect("/proc is mounted");
        wait_until(PATIENCE, "there is another network", || {
            fs::read_link(&namespace).is_ok_and(|other| other != own)
        });
        Self { address, namespace: File::open(&namespace).expect("it is there"), holder }
    }

    /// Does this on the host, as does every process that is started by it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.namespace.as_fd(), network).expect("root may");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn lose_what_is_for(&self, other: &Self) {
        let neighbour = ["neighbour", "replace", other.address, "lladdr", NOBODY, "dev", DEVICE];
        self.ip(&[&neighbour[..], &["nud", "permanent"]].concat());
    }

    fn find(&self, other: &Self) {
        // There may be nothing to be forgotten.
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

/// Whether this process may have networks of its own, and if not why.
fn possible() -> Result<(), String> {
    let output = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

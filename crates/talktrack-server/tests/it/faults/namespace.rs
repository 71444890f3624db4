//! A separate network, joined to the host by one virtual cable. If the cable is unplugged, neither side is told.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{self, Command};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// The link-layer addresses of the two ends, set in advance: without ARP, a lost peer causes no "host unreachable"
/// error.
const ADDRESSES: [&str; 2] = ["02:00:00:00:54:01", "02:00:00:00:54:02"];

/// A network namespace with a pair of virtual interfaces. Dropping it removes both.
pub(crate) struct Namespace {
    name: String,
    /// The third byte of its IPv4 addresses.
    number: u8,
}

impl Namespace {
    /// Makes a namespace; `None` if this process may not make one.
    pub(crate) fn new() -> Option<Self> {
        let number = u8::try_from(process::id() % 250).expect("it is less than 250");
        let namespace = Self { name: format!("tt{number}"), number };
        let ip = |arguments: &str| run(&format!("ip {arguments}"));
        let Self { name, .. } = &namespace;
        let here = format!("{name}h");
        let there = format!("{name}t");
        let [near, far] = ADDRESSES;
        if !ip(&format!("netns add {name}")) {
            return None;
        }
        let made = [
            format!("link add {here} address {near} type veth peer name {there} address {far} netns {name}"),
            format!("addr add 10.213.{number}.1/30 dev {here}"),
            format!("link set {here} up"),
            format!("-n {name} addr add 10.213.{number}.2/30 dev {there}"),
            format!("neigh add 10.213.{number}.2 lladdr {far} dev {here} nud permanent"),
        ];
        let made = made.iter().all(|step| ip(step));
        made.then(|| namespace.plug()).map(|()| namespace)
    }

    /// Returns a socket that listens inside the namespace.
    pub(crate) fn listener(&self) -> TcpListener {
        let place = format!("/run/netns/{}", self.name);
        let address = Ipv4Addr::new(10, 213, self.number, 2);
        // A separate thread enters the namespace, because a thread cannot easily leave it. The socket stays in the
        // namespace.
        let listening = thread::spawn(move || {
            setns(File::open(place).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind((address, 0)).unwrap()
        });
        listening.join().unwrap()
    }

    /// Unplugs the cable: every packet in both directions is lost.
    pub(crate) fn pull(&self) {
        assert!(run(&format!("ip -n {0} link set {0}t down", self.name)), "the cable is pulled");
    }

    /// Plugs the cable in again.
    pub(crate) fn plug(&self) {
        let Self { name, number } = self;
        assert!(run(&format!("ip -n {name} link set {name}t up")), "the cable is plugged in");
        let neighbour = format!("10.213.{number}.1 lladdr {} dev {name}t nud permanent", ADDRESSES[0]);
        assert!(run(&format!("ip -n {name} neigh replace {neighbour}")), "its other end is known");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Removing the host's interface also removes its peer.
        run(&format!("ip netns del {}", self.name));
        run(&format!("ip link del {}h", self.name));
    }
}

/// Runs a command. True if it succeeded.
fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().expect("a command has a first word");
    Command::new(program).args(words).output().is_ok_and(|done| done.status.success())
}

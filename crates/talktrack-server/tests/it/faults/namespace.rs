//! A network of its own, joined to this one by a single cable that can be pulled: nobody is told that the other side is gone.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{self, Command};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// What each end of the cable answers to, so that nobody has to ask for it, and hears that nobody answers.
const ADDRESSES: [&str; 2] = ["02:00:00:00:54:01", "02:00:00:00:54:02"];

/// A network namespace with a pair of virtual interfaces. Gone when it is dropped.
pub(crate) struct Namespace {
    name: String,
    /// The third number of its addresses.
    number: u8,
}

impl Namespace {
    /// `None` where this process may not make one.
    pub(crate) fn new() -> Option<Self> {
        let number = u8::try_from(process::id() % 250).expect("it is less than 250");
        let namespace = Self { name: format!("tt{number}"), number };
        let ip = |arguments: &str| run(&format!("ip {arguments}"));
        let Self { name, .. } = &namespace;
        let (here, there) = (format!("{name}h"), format!("{name}t"));
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

    /// A socket that listens in there.
    pub(crate) fn listener(&self) -> TcpListener {
        let (place, address) = (format!("/run/netns/{}", self.name), Ipv4Addr::new(10, 213, self.number, 2));
        // A thread of its own: it never comes back from there, and the socket stays where it was made.
        let listening = thread::spawn(move || {
            setns(File::open(place).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind((address, 0)).unwrap()
        });
        listening.join().unwrap()
    }

    /// From now on every packet is lost, in both directions.
    pub(crate) fn pull(&self) {
        assert!(run(&format!("ip -n {0} link set {0}t down", self.name)), "the cable is pulled");
    }

    /// Packets pass again.
    pub(crate) fn plug(&self) {
        let Self { name, number } = self;
        assert!(run(&format!("ip -n {name} link set {name}t up")), "the cable is plugged in");
        let neighbour = format!("10.213.{number}.1 lladdr {} dev {name}t nud permanent", ADDRESSES[0]);
        assert!(run(&format!("ip -n {name} neigh replace {neighbour}")), "its other end is known");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with it.
        run(&format!("ip netns del {}", self.name));
        run(&format!("ip link del {}h", self.name));
    }
}

/// Runs the command; says whether that went well.
fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().expect("a command has a first word");
    Command::new(program).args(words).output().is_ok_and(|done| done.status.success())
}

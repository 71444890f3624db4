//! A network that can be broken: a TCP proxy that cuts, hangs and delays.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use link::{Direction, Link};
use switch::{Mode, Switch};

mod link;
mod switch;

/// How long the listener may take to hear that it is over.
const WAKE: Duration = Duration::from_secs(5);

/// Stands between clients and a server on this machine, and passes on every byte until told otherwise. Dropped, it closes
/// all connections and listens no more.
pub struct Proxy {
    address: SocketAddr,
    switch: Arc<Switch>,
    /// `None` only while being dropped.
    listener: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    /// A proxy in front of this port of 127.0.0.1.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
        Self::behind(listener, port)
    }

    /// The same for those who come in here.
    pub fn behind(listener: TcpListener, port: u16) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let switch = Arc::new(Switch::default());
        let switch_of_listener = Arc::clone(&switch);
        let listener = thread::spawn(move || listen(&listener, port, &switch_of_listener));
        Self { address, switch, listener: Some(listener) }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection, with whatever is on its way, and every new one as soon as it comes in.
    pub fn cut(&self) {
        self.switch.turn(Mode::Cut);
    }

    /// Cuts as soon as this many more bytes have gone to the server, counted over all connections. The next call of
    /// [`Proxy::cut`], [`Proxy::hang`], [`Proxy::mute`] or [`Proxy::mend`] calls it off.
    pub fn cut_after(&self, bytes: usize) {
        self.switch.cut_after(bytes);
    }

    /// Keeps connections open and takes new ones, but passes on nothing, not even that one side has closed.
    pub fn hang(&self) {
        self.switch.turn(Mode::Hanging);
    }

    /// Lets what clients send go to the server, and holds back what the server answers. A cut loses that for good.
    pub fn mute(&self) {
        self.switch.turn(Mode::Mute);
    }

    /// Lets everything pass again. What a hang held back goes on its way.
    pub fn mend(&self) {
        self.switch.turn(Mode::Open);
    }

    /// Keeps every byte this long on its way, in either direction, from now on. However many follow, none waits longer.
    pub fn delay(&self, each_way: Duration) {
        self.switch.set_delay(each_way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.switch.turn(Mode::Ended);
        // The listener looks at the switch only when somebody connects, which nobody can where its network is away.
        let woken = TcpStream::connect_timeout(&self.address, WAKE).is_ok();
        if let Some(listener) = self.listener.take().filter(|_| woken) {
            let _ = listener.join();
        }
    }
}

/// Takes connections until the switch says that it is over.
fn listen(listener: &TcpListener, port: u16, switch: &Arc<Switch>) {
    for client in listener.incoming().flatten() {
        match switch.mode() {
            Mode::Ended => return,
            Mode::Cut => drop(client),
            Mode::Open | Mode::Hanging | Mode::Mute => {
                let switch = Arc::clone(switch);
                // Of its own thread: the server may be slow to take it.
                thread::spawn(move || connect(client, port, &switch));
            }
        }
    }
}

/// Connects the client with the server. One that cannot be reached closes the connection, as a cut does.
fn connect(client: TcpStream, port: u16, switch: &Arc<Switch>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let link = Arc::new(Link { client, server });
    if switch.admit(&link) {
        Link::carry(&link, Direction::ToServer, switch);
        Link::carry(&link, Direction::ToClient, switch);
    }
}

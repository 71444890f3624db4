//! A network that can be broken: a TCP proxy that cuts, hangs and delays.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use link::Link;
use switch::{Direction, Mode, Switch};

mod link;
mod switch;

/// The longest time until the listener notices that the proxy has ended.
const WAKE: Duration = Duration::from_secs(5);

/// A proxy between clients and a server on this machine. It passes on every byte until told otherwise. When
/// dropped, it closes all connections and stops listening.
pub struct Proxy {
    address: SocketAddr,
    switch: Arc<Switch>,
    /// `None` only while the proxy is being dropped.
    listener: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of this port of 127.0.0.1.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
        Self::behind(listener, port)
    }

    /// Starts a proxy for clients that connect to this listener.
    pub fn behind(listener: TcpListener, port: u16) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let switch = Arc::new(Switch::default());
        let switch_of_listener = Arc::clone(&switch);
        let listener = thread::spawn(move || listen(&listener, port, &switch_of_listener));
        Self { address, switch, listener: Some(listener) }
    }

    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection, with all bytes in flight, and every new connection as soon as it is
    /// accepted.
    pub fn cut(&self) {
        self.switch.turn(Mode::Cut);
    }

    /// Cuts the network after this many more bytes have been sent to the server, counted over all
    /// connections. The next call of [`Proxy::cut`], [`Proxy::hang`], [`Proxy::mute`] or [`Proxy::fix`]
    /// cancels this.
    pub fn cut_after(&self, bytes: usize) {
        self.switch.cut_after(bytes);
    }

    /// Keeps connections open and accepts new ones, but passes on nothing, not even that one side has
    /// closed.
    pub fn hang(&self) {
        self.switch.turn(Mode::Hanging);
    }

    /// Passes on what clients send to the server, and holds back the server's answers. A cut loses these
    /// answers.
    pub fn mute(&self) {
        self.switch.turn(Mode::Mute);
    }

    /// Passes on everything again, including bytes that a hang held back.
    pub fn fix(&self) {
        self.switch.turn(Mode::Open);
    }

    /// From now on delays every byte by this time, in either direction. Further bytes do not add to the
    /// delay.
    pub fn delay(&self, each_way: Duration) {
        self.switch.set_delay(each_way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.switch.turn(Mode::Ended);
        // The listener checks the switch only when a client connects, which is impossible if its network is
        // down.
        let woken = TcpStream::connect_timeout(&self.address, WAKE).is_ok();
        if let Some(listener) = self.listener.take().filter(|_| woken) {
            let _ = listener.join();
        }
    }
}

/// Accepts connections until the switch says that the proxy has ended.
fn listen(listener: &TcpListener, port: u16, switch: &Arc<Switch>) {
    for client in listener.incoming().flatten() {
        match switch.mode() {
            Mode::Ended => return,
            Mode::Cut => drop(client),
            Mode::Open | Mode::Hanging | Mode::Mute => {
                let switch = Arc::clone(switch);
                // A thread per connection, because the server may be slow to accept it.
                thread::spawn(move || connect(client, port, &switch));
            }
        }
    }
}

/// Connects the client to the server. If the server cannot be reached, the client's connection is closed,
/// as by a cut.
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

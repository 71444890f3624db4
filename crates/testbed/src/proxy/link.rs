//! One client's connection to the server: two threads in each direction, so that a delayed byte holds up no
//! other.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Instant;

use super::switch::{Cuttable, Direction, Switch};

/// The most bytes in one parcel, and the most parcels in flight in one direction.
const PARCEL: usize = 64 * 1024;
const PARCELS: usize = 1024;

pub(super) struct Link {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
}

/// Bytes in flight. An empty parcel says that the sender has closed.
struct Parcel {
    due: Instant,
    bytes: Vec<u8>,
}

impl Link {
    /// Passes on what is sent in this direction until its sender closes or the link is closed.
    pub(super) fn carry(link: &Arc<Self>, direction: Direction, switch: &Arc<Switch>) {
        let (sender, receiver) = mpsc::sync_channel(PARCELS);
        let here = Arc::clone(link);
        let there = Arc::clone(link);
        let switch_here = Arc::clone(switch);
        let switch_there = Arc::clone(switch);
        thread::spawn(move || here.take_in(direction, &switch_here, &sender));
        thread::spawn(move || there.hand_out(direction, &switch_there, &receiver));
    }

    fn take_in(&self, direction: Direction, switch: &Switch, parcels: &SyncSender<Parcel>) {
        let (mut from, _) = self.ends(direction);
        let mut buffer = vec![0; PARCEL];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let parcel = Parcel { due: Instant::now() + switch.delay(), bytes: buffer[..length].to_vec() };
            if parcels.send(parcel).is_err() || length == 0 {
                return;
            }
        }
    }

    fn hand_out(&self, direction: Direction, switch: &Switch, parcels: &Receiver<Parcel>) {
        let (_, to) = self.ends(direction);
        for parcel in parcels {
            thread::sleep(parcel.due.saturating_duration_since(Instant::now()));
            switch.wait_to_pass(direction);
            let delivered = match (parcel.bytes.is_empty(), direction) {
                (true, _) => to.shutdown(Shutdown::Write),
                (false, Direction::ToClient) => send(to, &parcel.bytes),
                (false, Direction::ToServer) => send_within_quota(to, &parcel.bytes, switch),
            };
            if delivered.is_err() {
                return self.cut();
            }
        }
    }

    /// Returns the source and the destination of bytes in this direction.
    fn ends(&self, direction: Direction) -> (&TcpStream, &TcpStream) {
        match direction {
            Direction::ToServer => (&self.client, &self.server),
            Direction::ToClient => (&self.server, &self.client),
        }
    }
}

impl Cuttable for Link {
    fn cut(&self) {
        // The shutdown of a closed connection fails, which does not matter.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

fn send(mut to: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)
}

fn send_within_quota(to: &TcpStream, bytes: &[u8], switch: &Switch) -> io::Result<()> {
    let result = send(to, &bytes[..switch.spend(bytes.len())]);
    switch.cut_if_spent();
    result
}

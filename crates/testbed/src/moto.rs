//! An object store that speaks S3: the server of moto, a separate program.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::ports;
use crate::programs;
use crate::scratch::Scratch;

const PID_FILE: &str = "pid";

/// The longest time until it listens, and the pause between attempts to connect.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// An empty object store, without a bucket. It does not verify signatures. It is stopped when dropped.
pub struct Moto {
    port: u16,
    process: Child,
    /// Its watchdog ends the server even if this value is never dropped.
    _scratch: Scratch,
}

impl Moto {
    /// Starts an object store. If the program is not installed, prints that and returns `None`.
    pub fn start() -> Option<Self> {
        let Some(program) = programs::moto() else {
            eprintln!("moto_server is not installed: object stores are not tested (`make test` installs it)");
            return None;
        };
        let scratch = Scratch::new(PID_FILE, "KILL");
        let port = ports::free();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdin(Stdio::null());
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut process = process.expect("moto_server can be started");
        scratch.write(PID_FILE, &process.id().to_string());
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = process.try_wait().expect("our child can be waited for");
            assert!(ended.is_none() && Instant::now() < deadline, "moto_server did not start: {ended:?}");
            thread::sleep(PAUSE);
        }
        Some(Self { port, process, _scratch: scratch })
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // The watchdog kills the process too, but cannot wait for another process's child.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

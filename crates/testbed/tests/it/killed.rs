//! What happens to the servers when the tests' process is killed, which runs no destructor.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use talktrack_testbed::{PgBouncer, Postgres};

use crate::support::eventually;

/// The environment variable that is set in the process to be killed.
const TO_BE_KILLED: &str = "TESTBED_TO_BE_KILLED";

#[test]
fn nothing_survives_a_killed_process() {
    if env::var_os(TO_BE_KILLED).is_some() {
        return wait_to_be_killed();
    }
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed::nothing_survives_a_killed_process", "--nocapture"])
        .env(TO_BE_KILLED, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line =
        lines.find_map(|line| line.strip_prefix("started ").map(str::to_owned)).expect("it starts servers");
    let (ports, ca_file) = line.split_once(' ').unwrap();
    let ports: Vec<u16> = ports.split(',').map(|port| port.parse().unwrap()).collect();
    assert!(ports.iter().all(|port| listens(*port)));

    process.kill().unwrap();
    process.wait().unwrap();
    eventually("both servers and their files are gone", || {
        !ports.iter().any(|port| listens(*port)) && !Path::new(ca_file).parent().unwrap().exists()
    });
}

fn wait_to_be_killed() {
    let postgres = Postgres::shared();
    let pooler = PgBouncer::shared();
    // Starts a new line, because the test runner has not ended its own.
    println!("\nstarted {},{} {}", postgres.port(), pooler.port(), postgres.ca_file().display());
    thread::sleep(Duration::from_secs(60));
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

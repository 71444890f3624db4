//! The proxy that breaks the network.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use talktrack_testbed::Proxy;

use crate::support::PATIENCE;

/// The time to wait for bytes that must not come.
const A_WHILE: Duration = Duration::from_millis(100);

/// Starts a server that runs this for every connection, each in a separate thread, and returns its port.
/// The server runs until the tests end.
fn serve(connection: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = connection.clone();
            thread::spawn(move || connection(stream));
        }
    });
    port
}

/// Starts a server that echoes every byte.
fn echo() -> u16 {
    serve(|stream| drop(io::copy(&mut &stream, &mut &stream)))
}

/// Starts a server that only reads. When a connection ends, it sends the number of bytes that it received.
fn sink() -> (u16, Receiver<u64>) {
    let (sender, received) = mpsc::channel();
    let port = serve(move |stream| sender.send(read_all(stream)).unwrap());
    (port, received)
}

fn read_all(mut stream: TcpStream) -> u64 {
    let mut buffer = vec![0; 65_536];
    let mut total = 0;
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        total += length as u64;
    }
    total
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn read<const N: usize>(mut stream: &TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map(|()| bytes)
}

fn ask(mut stream: &TcpStream) -> io::Result<[u8; 4]> {
    stream.write_all(b"ping")?;
    read(stream)
}

fn is_closed(stream: &TcpStream) -> bool {
    ask(stream).is_err_and(|error| !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn bytes_pass_and_so_does_the_end() {
    let (port, received) = sink();
    let proxy = Proxy::to(port);
    connect(&proxy).write_all(&[7; 1_000_000]).unwrap();
    assert_eq!(received.recv_timeout(PATIENCE), Ok(1_000_000));
    let proxy = Proxy::to(echo());
    assert_eq!(ask(&connect(&proxy)).unwrap(), *b"ping");
}

#[test]
fn a_cut_closes_what_is_open_and_what_comes_until_mended() {
    let proxy = Proxy::to(echo());
    let before = connect(&proxy);
    ask(&before).unwrap();
    proxy.cut();
    assert!(is_closed(&before));
    assert!(is_closed(&connect(&proxy)));
    proxy.fix();
    assert!(ask(&connect(&proxy)).is_ok());
    assert!(is_closed(&before), "what was cut stays cut");
}

#[test]
fn a_hang_holds_bytes_back_until_mended() {
    let proxy = Proxy::to(echo());
    let before = connect(&proxy);
    ask(&before).unwrap();
    proxy.hang();
    let after = connect(&proxy);
    for mut stream in [&before, &after] {
        stream.set_read_timeout(Some(A_WHILE)).unwrap();
        stream.write_all(b"pong").unwrap();
        let error = read::<1>(stream).expect_err("nothing passes");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    proxy.fix();
    assert_eq!(read(&before).unwrap(), *b"pong");
    assert_eq!(read(&after).unwrap(), *b"pong");
}

#[test]
fn what_is_muted_reaches_the_server_and_its_answers_wait_or_are_lost_with_a_cut() {
    let (sender, received) = mpsc::channel();
    let port = serve(move |mut stream| {
        let mut bytes = [0; 4];
        while stream.read_exact(&mut bytes).is_ok() {
            sender.send(bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    let proxy = Proxy::to(port);
    let mut stream = connect(&proxy);
    for cut in [false, true] {
        proxy.mute();
        stream.write_all(b"pong").unwrap();
        assert_eq!(received.recv_timeout(PATIENCE), Ok(*b"pong"));
        stream.set_read_timeout(Some(A_WHILE)).unwrap();
        read::<1>(&stream).expect_err("nothing comes back");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if cut {
            proxy.cut();
            assert!(is_closed(&stream));
        } else {
            proxy.fix();
            assert_eq!(read(&stream).unwrap(), *b"pong");
        }
    }
}

#[test]
fn a_hanging_connection_can_be_cut() {
    let proxy = Proxy::to(echo());
    let stream = connect(&proxy);
    ask(&stream).unwrap();
    proxy.hang();
    (&stream).write_all(b"pong").unwrap();
    proxy.cut();
    assert!(is_closed(&stream));
}

#[test]
fn a_delay_is_each_bytes_own_and_holds_up_no_other() {
    let (port, received) = sink();
    let proxy = Proxy::to(port);
    proxy.delay(Duration::from_millis(100));
    let begun = Instant::now();
    // These are 256 parcels. If each waited for the one before it, they would take 25 s.
    connect(&proxy).write_all(&vec![7; 16 * 1024 * 1024]).unwrap();
    assert_eq!(received.recv_timeout(PATIENCE), Ok(16 * 1024 * 1024));
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_question_and_its_answer_are_each_delayed() {
    let proxy = Proxy::to(echo());
    let stream = connect(&proxy);
    proxy.delay(Duration::from_millis(50));
    let begun = Instant::now();
    ask(&stream).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    proxy.delay(Duration::ZERO);
    assert!(ask(&stream).is_ok());
}

#[test]
fn a_cut_comes_after_so_many_bytes() {
    let (port, received) = sink();
    let proxy = Proxy::to(port);
    proxy.cut_after(100_000);
    let mut stream = connect(&proxy);
    // The write may fail, because the cut can come while it is still running.
    let _ = stream.write_all(&[7; 300_000]);
    assert_eq!(received.recv_timeout(PATIENCE), Ok(100_000));
    assert!(is_closed(&stream));
    assert!(is_closed(&connect(&proxy)));
}

#[test]
fn a_dropped_proxy_closes_and_listens_no_more() {
    let proxy = Proxy::to(echo());
    let stream = connect(&proxy);
    ask(&stream).unwrap();
    let port = proxy.port();
    drop(proxy);
    assert!(is_closed(&stream));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

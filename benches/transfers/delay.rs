//! A TCP relay that is far away: all that it takes comes out later, and nothing of it is held up.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

const CHUNK: usize = 128 * 1024;

/// Relays to this port of this host, each way that much later; gives the relay's own port.
pub(crate) fn relay(to: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.expect("connections come");
            let far = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).expect("the server listens");
            for stream in [&near, &far] {
                stream.set_nodelay(true).expect("TCP has it");
            }
            let ends = [&near, &far].map(|it| it.try_clone().expect("descriptors are left"));
            carry(near, far.try_clone().expect("descriptors are left"), delay);
            let [near, far_again] = ends;
            drop(far);
            carry(far_again, near, delay);
        }
    });
    port
}

/// Carries one way, until it ends.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, receiver) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            if sender
                .send((Instant::now() + delay, chunk[..length].to_vec()))
                .is_err()
            {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, data) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&data).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

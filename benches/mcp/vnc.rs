//! A screen over VNC, as other programs see VMs: RFC 6143, and no more of it than one whole picture needs.

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::TcpStream,
};

use crate::floor::Vm;

/// A connection kept open, over which whole pictures are asked for, not encoded.
pub(crate) struct Vnc {
    stream: RefCell<TcpStream>,
}

impl Vnc {
    pub(crate) fn connect(vm: &Vm) -> Self {
        let xml = vm.domain.xml_desc(0).expect("libvirt describes the VM");
        let (_, graphics) = xml.split_once("<graphics type='vnc'").expect("it has VNC");
        let (_, port) = graphics.split_once("port='").expect("it listens");
        let (port, _) = port.split_once('\'').expect("XML is well formed");
        let address = format!("127.0.0.1:{port}");
        let mut stream = TcpStream::connect(address).expect("QEMU listens");
        stream.set_nodelay(true).expect("it is TCP");
        read(&mut stream, 12);
        send(&mut stream, b"RFB 003.008\n");
        let kinds = read(&mut stream, 1)[0];
        let kinds = read(&mut stream, kinds.into());
        assert!(kinds.contains(&1), "it asks for no password");
        send(&mut stream, &[1]);
        assert_eq!(read(&mut stream, 4), [0; 4], "it lets us in");
        // Others may look as well.
        send(&mut stream, &[1]);
        let head = read(&mut stream, 24);
        let name = u32::from_be_bytes([head[20], head[21], head[22], head[23]]);
        read(&mut stream, name as usize);
        // SetEncodings: raw alone.
        send(&mut stream, &[2, 0, 0, 1, 0, 0, 0, 0]);
        Self {
            stream: RefCell::new(stream),
        }
    }

    /// A whole picture of a screen of this size; how many bytes of it came.
    pub(crate) fn picture(&self, (width, height): (u16, u16)) -> usize {
        let stream = &mut *self.stream.borrow_mut();
        let [w, h] = [width.to_be_bytes(), height.to_be_bytes()];
        send(stream, &[3, 0, 0, 0, 0, 0, w[0], w[1], h[0], h[1]]);
        let whole = usize::from(width) * usize::from(height);
        let mut pixels = 0;
        let mut bytes = 0;
        while pixels < whole {
            let head = read(stream, 4);
            assert_eq!(head[0], 0, "nothing but updates comes");
            for _ in 0..u16::from_be_bytes([head[2], head[3]]) {
                let rectangle = read(stream, 12);
                let side = |at: usize| u16::from_be_bytes([rectangle[at], rectangle[at + 1]]);
                let area = usize::from(side(4)) * usize::from(side(6));
                bytes += read(stream, area * 4).len();
                pixels += area;
            }
        }
        bytes
    }
}

fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("QEMU reads");
}

fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("QEMU writes");
    bytes
}

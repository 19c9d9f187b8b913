//! An echo allocates nothing: a counting allocator observes ten thousand messages through a whole
//! worker.
//!
//! Only allocations of this thread count, because the threads of the test harness allocate too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ws_reactor::internal::{
    Driver, Endpoint, Links, Readiness, SendProgress, Token, Transport, Worker, WorkerContext,
    mailbox,
};
use ws_reactor::{Address, Config, Echo};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The system allocator, with a count of allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller upholds the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A socket that returns the same bytes each time it is readable, and accepts every write.
#[derive(Clone, Debug, Default)]
struct Socket(Rc<RefCell<Wire>>);

#[derive(Debug, Default)]
struct Wire {
    input: Vec<u8>,
    is_readable: bool,
    written: usize,
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if !std::mem::take(&mut wire.is_readable) {
            return Err(ErrorKind::WouldBlock.into());
        }
        buf[..wire.input.len()].copy_from_slice(&wire.input);
        Ok(wire.input.len())
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().written += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Endpoint for Socket {
    fn local_address(&self) -> io::Result<Address> {
        Ok(Address::Tcp(([192, 0, 2, 0], 80).into()))
    }
}

impl Transport for Socket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn send_progress(&self) -> io::Result<SendProgress> {
        let written = self.0.borrow().written as u64;
        Ok(SendProgress { written, acknowledged: written })
    }
}

/// A listener with one pending connection.
#[derive(Debug)]
struct Listener {
    waiting: Option<Socket>,
    token: Rc<RefCell<Option<Token>>>,
}

impl Driver for Listener {
    type Stream = Socket;

    fn accept(&mut self, _: u32) -> io::Result<(Socket, Address)> {
        let socket = self.waiting.take().ok_or(ErrorKind::WouldBlock)?;
        Ok((socket, Address::Tcp((Ipv4Addr::LOCALHOST, 1).into())))
    }

    fn register(&mut self, _: &mut Socket, token: Token) -> io::Result<()> {
        *self.token.borrow_mut() = Some(token);
        Ok(())
    }

    fn wake(&self, _: u32) {}

    fn listeners(&self) -> u32 {
        1
    }

    fn stop_listening(&mut self) {}
}

/// A client's frame with a key of zeroes, which leaves the payload unchanged.
fn frame(opcode: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    if len < 126 {
        frame.push(0x80 | len as u8);
    } else {
        frame.push(0x80 | 126);
        frame.extend((len as u16).to_be_bytes());
    }
    frame.extend([0; 4]);
    frame.extend(vec![b'x'; len]);
    frame
}

#[test]
fn an_echo_allocates_nothing() {
    let now = Instant::now();
    let (socket, token) = (Socket::default(), Rc::default());
    let listener = Listener { waiting: Some(socket.clone()), token: Rc::clone(&token) };
    let (_sender, mailbox) = mailbox(1);
    let context = WorkerContext {
        config: Arc::new(Config::default()),
        counters: Arc::default(),
        address_table: None,
        connections: Arc::default(),
        server: 0,
        index: 0,
        time_of_day: SystemTime::now,
    };
    let mut worker = Worker::new(listener, Echo, context, mailbox, Links::new(0, &[], 1), now);
    let edge = Readiness { readable: true, writable: true, reads_to_end: false };
    worker.turn([(Token::listener(0), edge)].into_iter(), now);
    let token = token.borrow().expect("the socket was accepted");
    let mut turn = |input: &[u8], turns: usize| {
        socket.0.borrow_mut().input = input.to_vec();
        let before = (ALLOCATIONS.get(), socket.0.borrow().written);
        for _ in 0..turns {
            socket.0.borrow_mut().is_readable = true;
            worker.turn([(token, edge)].into_iter(), now);
        }
        let after = (ALLOCATIONS.get(), socket.0.borrow().written);
        (after.0 - before.0, after.1 - before.1)
    };
    assert!(turn(REQUEST, 1).0 > 0, "a handshake allocates, so the counter works");
    for (opcode, len, depth, turns) in [
        (1, 0, 1, 10_000),
        (1, 32, 1, 10_000),
        (2, 32, 32, 400),
        (1, 1000, 16, 700),
        (2, 60_000, 4, 50),
    ] {
        let message = frame(opcode, len);
        let (allocations, written) = turn(&message.repeat(depth), turns);
        assert_eq!(written, turns * depth * (message.len() - 4), "every message is echoed");
        assert_eq!(allocations, 0, "{len} B x {depth}");
    }
}

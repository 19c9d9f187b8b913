//! Sockets and a listener without a kernel: a test scripts what the network and the clients do.
//!
//! **The contract is epoll's, edge-triggered:** bytes, an end of stream or new room in the send
//! buffer raise an edge once, and the edge reports all that holds at that moment. A short read has
//! emptied the socket; after a short or refused write a writable edge comes when the peer reads.
//! The network delivers what a client sends chunk by chunk, the next one when the worker has read
//! the one before, so that a chunk is what one read brings. `world.rs` has the worker and the time.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;
use ws_reactor::Address;

use ws_reactor::internal::{
    Driver, Endpoint, READY_PER_TURN, Readiness, SendProgress, Token, Transport,
};

/// Names a socket, also after its end.
pub type SocketId = usize;

/// The driver: a handle to the kernel that is made up.
#[derive(Clone, Debug, Default)]
pub struct Net(Rc<RefCell<Kernel>>);

impl Net {
    pub fn kernel(&self) -> RefMut<'_, Kernel> {
        self.0.borrow_mut()
    }

    /// The worker's end of a socket that it does not accept itself.
    pub fn stream(&self, id: SocketId) -> Stream {
        Stream { id, net: self.clone() }
    }
}

impl Driver for Net {
    type Stream = Stream;

    fn accept(&mut self, _: u32) -> io::Result<(Stream, Address)> {
        let id = {
            let kernel = &mut *self.kernel();
            kernel.accepts += 1;
            kernel.waiting.pop_front().unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))?
        };
        Ok((self.stream(id), address(id)))
    }

    fn register(&mut self, stream: &mut Stream, token: Token) -> io::Result<()> {
        let socket = &mut self.0.borrow_mut().sockets[stream.id];
        socket.called(Call::Register)?;
        socket.token = Some(token);
        // epoll_ctl(2): what holds already is reported once.
        socket.edge = true;
        Ok(())
    }

    fn listeners(&self) -> u32 {
        u32::from(!self.0.borrow().stopped)
    }

    fn stop_listening(&mut self) {
        let kernel = &mut *self.0.borrow_mut();
        kernel.stopped = true;
        for id in kernel.waiting.drain(..).flatten() {
            kernel.sockets[id].reset();
        }
    }
}

/// The address that socket `id` is connected from.
pub fn address(id: SocketId) -> Address {
    Address::Tcp(([192, 0, 2, 1], 1024 + (id % 60_000) as u16).into())
}

/// Everything outside the worker.
#[derive(Debug, Default)]
pub struct Kernel {
    pub sockets: Vec<Socket>,
    /// Those that the worker has not dropped.
    live: Vec<SocketId>,
    waiting: VecDeque<io::Result<SocketId>>,
    listener_edge: bool,
    stopped: bool,
    woken: bool,
    /// Edges that did not fit the last batch.
    edges: VecDeque<(Token, Readiness)>,
    /// Calls of accept.
    pub accepts: usize,
    /// Reads and writes of all sockets, in order.
    pub trace: Vec<(SocketId, Call)>,
}

impl Kernel {
    /// A client connects; who accepts it is another matter.
    pub fn connect(&mut self) -> SocketId {
        self.live.push(self.sockets.len());
        self.sockets.push(Socket::default());
        self.sockets.len() - 1
    }

    /// What accept brings next, after all that waits already.
    pub fn push_accept(&mut self, outcome: io::Result<SocketId>) {
        self.waiting.push_back(outcome);
        self.listener_edge = true;
    }

    /// Another thread wakes the worker.
    pub fn wake(&mut self) {
        self.woken = true;
    }

    /// Lets the network and the peers do their part, and takes a batch of the edges that have come.
    pub fn poll(&mut self) -> Vec<(Token, Readiness)> {
        if std::mem::take(&mut self.woken) {
            self.edges.push_back((Token::WAKER, READABLE));
        }
        if std::mem::take(&mut self.listener_edge) && !self.stopped {
            self.edges.push_back((Token::listener(0), READABLE));
        }
        self.live.retain(|id| !self.sockets[*id].is_gone);
        self.edges.extend(self.live.iter().filter_map(|id| self.sockets[*id].poll()));
        let batch = self.edges.len().min(READY_PER_TURN);
        self.edges.drain(..batch).collect()
    }
}

/// A socket: the worker's end is a [`Stream`], the client's is the test.
#[derive(Debug)]
pub struct Socket {
    /// Sent by the client, still on the network.
    chunks: VecDeque<Vec<u8>>,
    arrived: Vec<u8>,
    /// Bytes of `arrived` that the worker has read.
    taken: usize,
    fin: Fin,
    is_reset: bool,
    /// All that the worker has written.
    output: Vec<u8>,
    read_by_peer: usize,
    /// Whether the peer reads what there is before each turn.
    pub peer_reads: bool,
    /// Bytes that can be written and not yet read by the peer.
    pub capacity: usize,
    /// Bytes that the peer's TCP acknowledges before the peer reads them.
    pub peer_buffer: usize,
    /// Bytes that the worker has written since the start.
    written_total: usize,
    /// A write was short or refused: the next room raises an edge.
    refused: bool,
    token: Option<Token>,
    edge: bool,
    is_gone: bool,
    faults: Vec<(Call, usize, ErrorKind)>,
    calls: [usize; 4],
    /// Bytes that the worker has read.
    pub consumed: usize,
}

impl Default for Socket {
    fn default() -> Self {
        Self {
            chunks: VecDeque::new(),
            arrived: Vec::new(),
            taken: 0,
            fin: Fin::None,
            is_reset: false,
            output: Vec::new(),
            read_by_peer: 0,
            peer_reads: true,
            capacity: usize::MAX,
            peer_buffer: 0,
            written_total: 0,
            refused: false,
            token: None,
            edge: false,
            is_gone: false,
            faults: Vec::new(),
            calls: [0; 4],
            consumed: 0,
        }
    }
}

impl Socket {
    /// The client sends what one read shall bring.
    pub fn push_chunk(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.chunks.push_back(bytes.to_vec());
        }
    }

    /// The client sends FIN behind its bytes.
    pub fn finish(&mut self) {
        self.fin = Fin::Sent;
    }

    /// The client resets the connection.
    pub fn reset(&mut self) {
        self.is_reset = true;
        self.edge = true;
    }

    /// Call number `nth` of this kind, counted from 1, fails. A read or write that would block for
    /// no reason is followed by an edge.
    pub fn fault(&mut self, call: Call, nth: usize, error: ErrorKind) {
        self.faults.push((call, nth, error));
    }

    /// The peer reads at most `bytes` more.
    pub fn drain(&mut self, bytes: usize) {
        self.read_by_peer = self.output.len().min(self.read_by_peer.saturating_add(bytes));
    }

    /// How often the worker has made this call, the failed ones included.
    pub fn calls(&self, call: Call) -> usize {
        self.calls[call as usize]
    }

    /// All that the client has read.
    pub fn received(&self) -> &[u8] {
        &self.output[..self.read_by_peer]
    }

    /// What the client has read since this was called last.
    pub fn take_received(&mut self) -> Vec<u8> {
        let rest = self.output.split_off(std::mem::take(&mut self.read_by_peer));
        std::mem::replace(&mut self.output, rest)
    }

    /// Bytes that the worker has written and the client has not taken.
    pub fn written(&self) -> usize {
        self.output.len()
    }

    /// Whether the worker has dropped its end.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// The token that the worker registered it with.
    pub fn token(&self) -> Token {
        self.token.expect("the worker has registered this socket")
    }

    fn called(&mut self, call: Call) -> io::Result<()> {
        self.calls[call as usize] += 1;
        let nth = self.calls(call);
        match self.faults.iter().find(|fault| (fault.0, fault.1) == (call, nth)) {
            Some((_, _, error)) => {
                let would_block = *error == ErrorKind::WouldBlock;
                self.refused |= would_block && call == Call::Write;
                self.edge |= would_block && call == Call::Read;
                Err((*error).into())
            }
            None if self.is_reset => Err(ErrorKind::ConnectionReset.into()),
            None => Ok(()),
        }
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.output.len() - self.read_by_peer)
    }

    /// Lets the network and the peer do their part; the edge that comes of it.
    fn poll(&mut self) -> Option<(Token, Readiness)> {
        if self.peer_reads {
            self.read_by_peer = self.output.len();
        }
        if self.refused && self.room() > 0 {
            self.refused = false;
            self.edge = true;
        }
        if self.taken == self.arrived.len()
            && let Some(chunk) = self.chunks.pop_front()
        {
            (self.arrived, self.taken) = (chunk, 0);
            self.edge = true;
        }
        if self.fin == Fin::Sent && self.chunks.is_empty() {
            self.fin = Fin::Arrived;
            self.edge = true;
        }
        let token = self.token.filter(|_| self.edge)?;
        self.edge = false;
        let reads_to_end = self.fin == Fin::Arrived || self.is_reset;
        let readable = self.taken < self.arrived.len() || reads_to_end;
        let writable = self.room() > 0 || self.is_reset;
        Some((token, Readiness { readable, writable, reads_to_end }))
    }

    /// The kernel still delivers what it has taken, unless input is left unread: that resets the
    /// connection, and what the peer has not read by then is lost.
    fn dropped(&mut self) {
        self.is_gone = true;
        if self.taken < self.arrived.len() {
            self.output.truncate(self.read_by_peer);
        } else if self.peer_reads {
            self.read_by_peer = self.output.len();
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.called(Call::Read)?;
        let rest = &self.arrived[self.taken..];
        if rest.is_empty() && self.fin != Fin::Arrived {
            return Err(ErrorKind::WouldBlock.into());
        }
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.taken += len;
        self.consumed += len;
        Ok(len)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.called(Call::Write)?;
        if self.calls(Call::Shutdown) > 0 {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(self.room());
        self.refused |= len < bytes.len();
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.output.extend(&bytes[..len]);
        self.written_total += len;
        Ok(len)
    }

    fn send_progress(&self) -> SendProgress {
        let unread = self.output.len() - self.read_by_peer;
        let unacknowledged = unread.saturating_sub(self.peer_buffer);
        SendProgress {
            written: self.written_total as u64,
            acknowledged: (self.written_total - unacknowledged) as u64,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fin {
    None,
    Sent,
    Arrived,
}

/// What a worker does with a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    Register,
    Read,
    Write,
    Shutdown,
}

/// The worker's end of a socket.
#[derive(Debug)]
pub struct Stream {
    id: SocketId,
    net: Net,
}

impl Stream {
    fn with<R>(&self, call: Call, act: impl FnOnce(&mut Socket) -> R) -> R {
        let kernel = &mut *self.net.0.borrow_mut();
        kernel.trace.push((self.id, call));
        act(&mut kernel.sockets[self.id])
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.with(Call::Read, |socket| socket.read(buf))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(Call::Write, |socket| socket.write(bytes))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        self.write(&bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Endpoint for Stream {
    fn local_address(&self) -> io::Result<Address> {
        Ok(Address::Tcp(([192, 0, 2, 0], 80).into()))
    }
}

impl Transport for Stream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.with(Call::Shutdown, |socket| socket.called(Call::Shutdown))
    }

    fn send_progress(&self) -> io::Result<SendProgress> {
        Ok(self.net.0.borrow().sockets[self.id].send_progress())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // While a panic unwinds the kernel may be borrowed; the test has failed anyway.
        if let Ok(mut kernel) = self.net.0.try_borrow_mut() {
            kernel.sockets[self.id].dropped();
        }
    }
}

const READABLE: Readiness = Readiness { readable: true, writable: false, reads_to_end: false };

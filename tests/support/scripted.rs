//! A [`Network`] under the control of a test, which decides the bytes of each read and the calls
//! that fail.
//!
//! The network delivers a client's bytes chunk by chunk, each after the worker has read the one
//! before, so that a read returns one chunk. The next poll reports edges. `world.rs` has the worker
//! and the clock.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use ws_reactor::internal::{READY_PER_TURN, Readiness, Token};

use crate::kernel::{self, Network};

pub use crate::kernel::{Call, SocketId};

pub type Kernel = kernel::Kernel<Script>;
pub type Net = kernel::Net<Script>;
pub type Socket = kernel::Socket<Client>;
pub type Stream = kernel::Stream<Script>;

/// Edges that did not fit into the last batch.
#[derive(Debug, Default)]
pub struct Script(VecDeque<(Token, Readiness)>);

/// The client's end of a socket, and the faults of the worker's calls.
#[derive(Debug, Default)]
pub struct Client {
    chunks: VecDeque<Vec<u8>>,
    has_finished: bool,
    faults: Vec<(Call, usize, ErrorKind)>,
    calls: [usize; 4],
}

impl Network for Script {
    type Client = Client;

    fn deliver(&mut self, socket: &mut Socket) {
        if socket.is_reset() {
            return;
        }
        if socket.arrived() == 0
            && let Some(chunk) = socket.client.chunks.pop_front()
        {
            socket.arrive(&chunk, 0);
        }
        if socket.client.has_finished && socket.client.chunks.is_empty() && !socket.has_end() {
            socket.end(0);
        }
    }

    fn before(&mut self, socket: &mut Socket, call: Call) -> io::Result<usize> {
        socket.client.calls[call as usize] += 1;
        let nth = socket.calls(call);
        let fault = socket.client.faults.iter().find(|fault| (fault.0, fault.1) == (call, nth));
        fault.map_or(Ok(usize::MAX), |(_, _, error)| Err((*error).into()))
    }
}

impl Kernel {
    /// A client connects. The test decides which worker accepts it.
    pub fn connect(&mut self) -> SocketId {
        let id = self.create(0, usize::MAX, Client::default());
        self.sockets[id].client_reads = true;
        id
    }

    /// Moves bytes between the network and the clients, and takes a batch of the edges.
    pub fn next_batch(&mut self) -> Vec<(Token, Readiness)> {
        self.deliver();
        let ready = self.poll(0);
        let Script(edges) = &mut self.network;
        edges.extend(ready);
        let batch = edges.len().min(READY_PER_TURN);
        edges.drain(..batch).collect()
    }
}

impl Socket {
    /// The client sends the bytes of one read.
    pub fn push_chunk(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.client.chunks.push_back(bytes.to_vec());
        }
    }

    /// The client sends FIN behind its bytes.
    pub fn finish(&mut self) {
        self.client.has_finished = true;
    }

    /// The client resets the connection.
    pub fn reset(&mut self) {
        self.fail(0);
    }

    /// The call number `nth` of this kind, counted from 1, fails.
    pub fn fault(&mut self, call: Call, nth: usize, error: ErrorKind) {
        self.client.faults.push((call, nth, error));
    }

    /// How often the worker has made this call, including failed calls.
    pub fn calls(&self, call: Call) -> usize {
        self.client.calls[call as usize]
    }

    /// The token that the worker registered it with.
    pub fn token(&self) -> Token {
        self.token.expect("the worker has registered this socket")
    }
}

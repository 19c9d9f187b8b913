//! Everything at once, by chance: many clients that send, stall, vanish and are written to from
//! outside, over sockets that take what they please. Whatever happens, each client gets echoes of
//! what it sent, in order, whole, and nothing after a close frame; and in the end nothing is left.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use ws_reactor::internal::Command;
use ws_reactor::{CloseCode, Config, Echo, Message};

use crate::probe::close;
use crate::scripted::{Call, SocketId};
use crate::support::frames::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::support::rng::Rng;
use crate::world::World;

const STEPS: usize = 400;
const CLIENTS_MAX: usize = 12;

#[test]
fn no_weather_loses_bytes_or_connections() {
    for seed in 0..150 {
        let mut storm = Storm::new(seed);
        for _ in 0..STEPS {
            storm.step();
        }
        storm.calm_down();
    }
}

struct Storm {
    name: String,
    rng: Rng,
    world: World<Echo>,
    clients: Vec<Client>,
}

struct Client {
    id: SocketId,
    /// What it will send.
    pending: VecDeque<u8>,
    /// Payloads of its messages, in order.
    messages: Vec<Vec<u8>>,
    /// Texts that another thread has posted to it.
    posts: usize,
    /// It is reset or closed by somebody: what it gets may end anywhere.
    is_cut_short: bool,
}

impl Storm {
    fn new(seed: u64) -> Self {
        // Only what the clients do ends their connections, never the time.
        let config = Config {
            backlog_bytes_high: 4000,
            backlog_bytes_low: 1000,
            handshake_timeout: Duration::from_secs(1000),
            idle_timeout: Duration::from_secs(4000),
            ..Config::default()
        };
        let world = World::new(Echo, config);
        Self { name: format!("seed {seed}"), rng: Rng::new(seed), world, clients: Vec::new() }
    }

    fn step(&mut self) {
        let rng = &mut self.rng;
        if self.clients.len() < CLIENTS_MAX && rng.below(8) == 0 || self.clients.is_empty() {
            let id = self.world.connect();
            let pending = GOOD_REQUEST.iter().copied().collect();
            let client = Client { id, pending, messages: vec![], posts: 0, is_cut_short: false };
            self.clients.push(client);
        }
        let at = rng.below(self.clients.len());
        let client = &mut self.clients[at];
        match rng.below(20) {
            0..5 => client.write_message(rng),
            5..11 => client.send_some(rng, &self.world),
            11 => {
                let mut socket = self.world.socket(client.id);
                socket.capacity = rng.pick(&[40, 1000, 5000, usize::MAX]);
                socket.peer_reads = rng.below(3) > 0;
            }
            12 => self.world.socket(client.id).drain(rng.below(3000)),
            13 => client.fault(rng, &self.world),
            14..16 => client.post_message(&self.world),
            16 => self.world.advance(Duration::from_millis(rng.below(200) as u64)),
            17 if rng.below(10) == 0 => client.leave(rng, &self.world),
            _ => {}
        }
        if rng.below(2) == 0 {
            self.world.turn();
        }
    }

    /// The clients that are left send and read everything, and go.
    fn calm_down(mut self) {
        for client in &mut self.clients {
            let mut socket = self.world.socket(client.id);
            (socket.capacity, socket.peer_reads) = (usize::MAX, true);
            socket.push_chunk(client.pending.make_contiguous());
        }
        self.world.run_until_quiet();
        for client in &self.clients {
            let output = self.world.received(client.id);
            client.check(&output, &format!("{}, client {}", self.name, client.id));
            self.world.finish(client.id);
        }
        self.world.run_until_quiet();
        self.world.advance(Duration::from_secs(5000));
        let stats = self.world.stats();
        assert_eq!((stats.accepted, stats.opened), (stats.ended, stats.closed), "{}", self.name);
        assert_eq!(stats.accepted, self.clients.len() as u64, "{}", self.name);
        assert_eq!(stats.protocol_errors + stats.handler_panics, 0, "{}", self.name);
        assert_eq!(self.world.wait(), None, "{}", self.name);
    }
}

impl Client {
    fn write_message(&mut self, rng: &mut Rng) {
        let len = rng.pick(&[0, 1, 125, 126, 700, 3000, 16_384, 20_000]);
        let payload = format!("{:05} {}", self.messages.len(), "x".repeat(len)).into_bytes();
        let opcode = rng.pick(&[TEXT, BINARY]);
        let pieces: Vec<_> = rng.cut(&payload);
        let pieces = if rng.below(3) > 0 { vec![&payload[..]] } else { pieces };
        for (count, piece) in pieces.iter().enumerate() {
            let opcode = if count == 0 { opcode } else { CONTINUATION };
            self.pending.extend(client(opcode, piece).fin(count + 1 == pieces.len()).bytes());
            if rng.below(4) == 0 {
                self.pending.extend(client(PING, b"ping").bytes());
            }
        }
        self.messages.push(payload);
    }

    fn send_some(&mut self, rng: &mut Rng, world: &World<Echo>) {
        let most = rng.pick(&[3, 200, 5000, 100_000]).min(self.pending.len());
        let count = rng.below(most + 1);
        let bytes: Vec<_> = self.pending.drain(..count).collect();
        world.send(self.id, &bytes);
    }

    /// One of its next calls does not go well, but does not fail either.
    fn fault(&self, rng: &mut Rng, world: &World<Echo>) {
        let mut socket = world.socket(self.id);
        let call = rng.pick(&[Call::Read, Call::Write]);
        let nth = socket.calls(call) + 1 + rng.below(3);
        socket.fault(call, nth, rng.pick(&[ErrorKind::Interrupted, ErrorKind::WouldBlock]));
    }

    fn post_message(&mut self, world: &World<Echo>) {
        if world.is_gone(self.id) || world.socket(self.id).received().is_empty() {
            return;
        }
        let text = format!("post {:05}", self.posts);
        if world.post(Command::Send(world.token(self.id), Message::from(text.as_str()).into())) {
            self.posts += 1;
        }
    }

    fn leave(&mut self, rng: &mut Rng, world: &World<Echo>) {
        self.is_cut_short = true;
        match rng.below(4) {
            0 => world.reset(self.id),
            1 => world.finish(self.id),
            2 => self.pending.extend(close(1000)),
            _ if world.socket(self.id).received().is_empty() => {}
            _ => {
                let token = world.token(self.id);
                world.post(Command::Close(token, CloseCode::NORMAL, "go".into()));
            }
        }
    }

    /// What it got is what it should get, as far as it goes.
    fn check(&self, output: &[u8], name: &str) {
        let head = output.len().min(GOOD_RESPONSE.len());
        assert_eq!(output[..head], GOOD_RESPONSE[..head], "{name}");
        let (mut echoes, mut posts) = (0, 0);
        let mut under_way: Option<Vec<u8>> = None;
        let mut rest = &output[head..];
        let mut is_closed = false;
        while let Some((opcode, fin, payload, behind)) = frame(rest) {
            assert!(!is_closed || opcode == PONG, "{name}: opcode {opcode} after a close frame");
            rest = behind;
            is_closed |= opcode == CLOSE;
            if opcode >= CLOSE {
                continue;
            }
            assert_eq!(opcode == CONTINUATION, under_way.is_some(), "{name}: opcode {opcode}");
            under_way.get_or_insert_default().extend(payload);
            let Some(message) = under_way.take_if(|_| fin) else { continue };
            if message.starts_with(b"post ") {
                assert_eq!(message, format!("post {posts:05}").into_bytes(), "{name}");
                posts += 1;
            } else {
                assert!(message == self.messages[echoes], "{name}: echo {echoes}");
                echoes += 1;
            }
        }
        if !self.is_cut_short {
            assert_eq!((echoes, posts), (self.messages.len(), self.posts), "{name}");
            assert!(rest.is_empty() && under_way.is_none() && !is_closed, "{name}");
        }
    }
}

/// The first frame of a server: its opcode, whether it is final, its payload, and what follows.
fn frame(bytes: &[u8]) -> Option<(u8, bool, &[u8], &[u8])> {
    let [first, second] = *bytes.first_chunk()?;
    let (len, start) = match second {
        126 => (usize::from(u16::from_be_bytes(*bytes[2..].first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*bytes[2..].first_chunk()?) as usize, 10),
        len => (usize::from(len), 2),
    };
    let payload = bytes.get(start..start + len)?;
    Some((first & 0xF, first & 0x80 != 0, payload, &bytes[start + len..]))
}

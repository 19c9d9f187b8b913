//! The peers: small state machines that send, read and leave at random.
//!
//! All kinds are one state machine with a pace, a script and an ending. A peer parses its input
//! only to answer pings and close frames, and to notice the end.

use std::collections::VecDeque;

use crate::kernel::SocketId;
use crate::net::Socket;
use crate::script::{FAULTS, FrameGenerator, bad_request, good_request};
use crate::support::frames::{CLOSE, PONG, client, close_payload};
use crate::support::model::{Opening, Rules};
use crate::support::rng::Rng;

/// The behaviour of a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Sends, reads, answers and closes.
    Polite,
    /// Acts like `Polite`, a few bytes at a time.
    Slow,
    /// Sends at most a request, perhaps incomplete, and answers nothing.
    Silent,
    /// Sends and never reads.
    NeverReads,
    /// Ends its direction and continues to read.
    HalfClosing,
    /// Resets the connection, perhaps inside a frame.
    Resetting,
    /// Announces more bytes than it sends, and then stays silent.
    Truncating,
    /// Violates the protocol once, and continues.
    Malicious,
    /// Sends an invalid request.
    Garbage,
    /// Continues to send after its close frame.
    SendsAfterClose,
    /// Makes the handler close or panic.
    Provoking,
    /// Sends a great many small frames at once.
    Flooding,
    /// Sends large messages.
    Large,
    /// Sends a close frame and leaves its end of the connection open.
    Lingering,
}

const KINDS: [Kind; 16] = [
    Kind::Polite,
    Kind::Polite,
    Kind::Polite,
    Kind::Slow,
    Kind::Silent,
    Kind::NeverReads,
    Kind::HalfClosing,
    Kind::Resetting,
    Kind::Truncating,
    Kind::Malicious,
    Kind::Garbage,
    Kind::SendsAfterClose,
    Kind::Provoking,
    Kind::Flooding,
    Kind::Large,
    Kind::Lingering,
];

/// A client.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: SocketId,
    pub(crate) kind: Kind,
    pub(crate) opening: Opening,
    rng: Rng,
    /// The frames not begun yet.
    script: VecDeque<Vec<u8>>,
    /// The current frame.
    out: Vec<u8>,
    out_sent: usize,
    ending: Ending,
    is_patient: bool,
    inbox: Inbox,
}

/// The action of a peer at the end of its script.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// Waits for the server.
    Wait,
    Finish,
    Reset,
    /// The action is done.
    Done,
}

impl Peer {
    pub(crate) fn new(
        id: SocketId,
        mut rng: Rng,
        rules: Rules,
        request_bytes_max: usize,
        frames: usize,
    ) -> Self {
        let kind = rng.pick(&KINDS);
        let (request, opening) = match kind {
            Kind::Garbage => bad_request(&mut rng, request_bytes_max),
            _ => good_request(&mut rng),
        };
        let mut script: VecDeque<_> = [request].into();
        let mut generator = FrameGenerator { rng: &mut rng, rules, budget: 300_000 };
        let count = generator.rng.below(frames + 1);
        write_script(kind, count, &mut generator, &mut script);
        let ending = match kind {
            Kind::HalfClosing => Ending::Finish,
            Kind::Resetting => Ending::Reset,
            _ => Ending::Wait,
        };
        let is_patient = rng.below(2) == 0;
        Self {
            id,
            kind,
            opening,
            rng,
            script,
            out: Vec::new(),
            out_sent: 0,
            ending,
            is_patient,
            inbox: Inbox::default(),
        }
    }

    /// Reads or writes a random amount.
    pub(crate) fn act(&mut self, socket: &mut Socket) {
        let pace = if self.kind == Kind::Slow { 5 } else { 300_000 };
        let pace = match self.rng.below(4) {
            0 => 1 + self.rng.below(9),
            1 => 1 + self.rng.below(pace.min(3000)),
            _ => pace,
        };
        match self.rng.below(3) {
            0 => self.read(socket, pace),
            1 => self.write(socket, pace),
            _ => {
                self.read(socket, pace);
                self.write(socket, pace);
            }
        }
    }

    /// Sends and reads the rest as fast as possible, and ends.
    pub(crate) fn wind_down(&mut self, socket: &mut Socket) {
        self.is_patient = false;
        self.read(socket, usize::MAX);
        self.write(socket, usize::MAX);
        let has_sent_all = self.script.is_empty() && self.out_sent == self.out.len();
        let waits = matches!(
            self.kind,
            Kind::Silent | Kind::NeverReads | Kind::Truncating | Kind::Lingering
        );
        if has_sent_all && !waits && self.ending == Ending::Wait {
            self.ending = Ending::Finish;
        }
    }

    fn read(&mut self, socket: &mut Socket, max: usize) {
        if self.kind == Kind::NeverReads {
            return;
        }
        socket.drain(max);
        self.inbox.push(&socket.take_received());
        while let Some(frame) = self.inbox.frame() {
            let answers = !matches!(self.kind, Kind::Silent | Kind::Truncating);
            match frame {
                Frame::Ping(payload) if answers => {
                    self.script.push_front(client(PONG, &payload).bytes());
                }
                Frame::Close if answers && self.kind != Kind::Lingering => {
                    self.script.push_front(client(CLOSE, &close_payload(1000, b"")).bytes());
                }
                _ => {}
            }
        }
        let stays = matches!(self.kind, Kind::Silent | Kind::Lingering);
        if socket.is_at_end() && !stays && self.ending != Ending::Done {
            self.script.clear();
            self.ending = Ending::Finish;
        }
    }

    fn write(&mut self, socket: &mut Socket, mut max: usize) {
        while max > 0 {
            if self.out_sent == self.out.len() {
                let Some(next) = self.script.pop_front() else { break };
                (self.out, self.out_sent) = (next, 0);
            }
            let end = self.out.len().min(self.out_sent.saturating_add(max));
            let sent = socket.send(&self.out[self.out_sent..end]);
            self.out_sent += sent;
            max -= sent;
            if sent == 0 && end > 0 && self.out_sent < self.out.len() {
                return;
            }
        }
        if self.script.is_empty() && self.out_sent == self.out.len() {
            match self.ending {
                Ending::Wait | Ending::Done => return,
                // A patient peer gives the server time to answer.
                Ending::Finish if self.is_patient && self.rng.below(10) > 0 => return,
                Ending::Finish => socket.finish(),
                Ending::Reset => socket.reset(),
            }
            self.ending = Ending::Done;
        }
    }
}

/// Appends the frames of a peer of this kind to its request. Some kinds truncate the request.
fn write_script(
    kind: Kind,
    count: usize,
    generator: &mut FrameGenerator<'_>,
    script: &mut VecDeque<Vec<u8>>,
) {
    if kind == Kind::Silent {
        let sent = generator.rng.pick(&[0, 1, 20, script[0].len() - 1, script[0].len()]);
        script[0].truncate(sent);
        return;
    }
    for _ in 0..count {
        match kind {
            Kind::Flooding if generator.rng.below(4) == 0 => script.push_back(generator.flood()),
            Kind::Large => script.push_back(generator.large()),
            _ => script.extend(generator.unit()),
        }
    }
    match kind {
        Kind::HalfClosing | Kind::Resetting => {
            // Perhaps inside a frame.
            if let Some(last) = script.back_mut()
                && generator.rng.below(2) == 0
            {
                last.truncate(generator.rng.below(last.len() + 1));
            }
        }
        Kind::Truncating => script.push_back(generator.truncated()),
        Kind::Malicious => {
            let which = generator.rng.below(FAULTS.end);
            script.push_back(generator.fault(which));
            script.extend(generator.unit());
        }
        Kind::Provoking => {
            script.push_back(generator.farewell());
            script.extend(generator.unit());
            script.push_back(generator.close());
        }
        Kind::SendsAfterClose => {
            script.push_back(generator.close());
            for _ in 0..3 {
                script.extend(generator.unit());
            }
        }
        Kind::Polite | Kind::Slow | Kind::Lingering | Kind::Flooding | Kind::Large => {
            script.push_back(generator.close());
        }
        Kind::Silent | Kind::NeverReads | Kind::Garbage => {}
    }
}

/// Finds pings and close frames in the bytes that a client reads.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    is_past_head: bool,
    /// Payload bytes to skip.
    skip: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Frame {
    /// With its payload.
    Ping(Vec<u8>),
    Close,
    Other,
}

impl Inbox {
    fn push(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.bytes.extend(&bytes[skipped..]);
    }

    fn frame(&mut self) -> Option<Frame> {
        if !self.is_past_head {
            let end = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
            self.is_past_head = true;
            self.bytes.drain(..end + 4);
        }
        let (&[first, second], rest) = self.bytes.split_first_chunk()?;
        let (len, header) = match second {
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?) as usize, 10),
            len => (usize::from(len), 2),
        };
        if first == 0x89 && self.bytes.len() < header + len {
            return None;
        }
        let taken = self.bytes.len().min(header + len);
        let frame: Vec<u8> = self.bytes.drain(..taken).collect();
        self.skip = header + len - taken;
        Some(match first {
            0x89 => Frame::Ping(frame[header..].to_vec()),
            0x88 => Frame::Close,
            _ => Frame::Other,
        })
    }
}

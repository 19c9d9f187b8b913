//! Our session as an echo server, with its input cut into reads at random.

use tungstenite::Message;
use ws_reactor::protocol::{
    CloseCode, Delivery, Event, HEADROOM_BYTES, Limits, Message as Sendable, Session, Window,
    Workspace,
};

use super::rng::Rng;
use super::script::{Act, Script};
use super::seen::Seen;

/// The events and replies of our session for a script.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) of_frames: Vec<Vec<Seen>>,
    /// All bytes that the session sends.
    pub(crate) replies: Vec<u8>,
}

/// Runs `script` through a session.
pub(crate) fn judge(script: &Script, delivery: Delivery) -> Judged {
    let mut run = Run::new(script, delivery);
    let mut pending = Vec::new();
    for step in &script.steps {
        if !step.before.is_empty() {
            run.feed(&std::mem::take(&mut pending));
            run.act(&step.before);
        }
        let bytes = step.frame.bytes();
        if step.within.is_empty() {
            pending.extend(bytes);
        } else {
            let (first, rest) = bytes.split_at(step.frame.middle());
            pending.extend(first);
            run.feed(&std::mem::take(&mut pending));
            run.act(&step.within);
            pending.extend(rest);
        }
    }
    run.feed(&pending);
    Judged { of_frames: run.of_frames, replies: run.replies }
}

struct Run {
    session: Session,
    limits: Limits,
    workspace: Workspace,
    rng: Rng,
    /// The number of bytes fed so far.
    fed: usize,
    /// The end of each frame in the input.
    ends: Vec<usize>,
    /// Bytes of the current streamed message.
    streamed: usize,
    of_frames: Vec<Vec<Seen>>,
    replies: Vec<u8>,
}

impl Run {
    fn new(script: &Script, delivery: Delivery) -> Self {
        let lens = script.steps.iter().map(|step| step.frame.bytes().len());
        let ends = lens.scan(0, |end, len| {
            *end += len;
            Some(*end)
        });
        Self {
            session: Session::new(delivery),
            limits: Limits {
                message_bytes_max: script.message_max,
                fragments_max: script.fragments_max,
            },
            workspace: Workspace::default(),
            rng: Rng::new(script.seed),
            fed: 0,
            ends: ends.collect(),
            streamed: 0,
            of_frames: vec![Vec::new(); script.steps.len()],
            replies: Vec::new(),
        }
    }

    /// Feeds `input`, cut into reads of random lengths.
    fn feed(&mut self, mut input: &[u8]) {
        let read_max = match self.rng.below(4) {
            0 => input.len(),
            1 if input.len() < 2000 => 1 + self.rng.below(3),
            _ => 1 + self.rng.below(input.len() + 1),
        };
        while !input.is_empty() {
            let len = (1 + self.rng.below(read_max)).min(input.len());
            input = &input[self.read(&input[..len])..];
        }
    }

    /// Makes one read, sometimes into the direct buffer if there is one. Returns the number of
    /// bytes taken from `input`.
    fn read(&mut self, input: &[u8]) -> usize {
        let is_direct = self.rng.below(4) > 0;
        let mut buf = vec![0; HEADROOM_BYTES];
        let taken = match self.session.direct_buffer(&self.limits) {
            Some(direct) if is_direct => {
                let len = input.len().min(direct.len());
                direct[..len].copy_from_slice(&input[..len]);
                self.session.commit(len);
                self.fed += len;
                len
            }
            _ => {
                buf.extend(input);
                self.fed += input.len();
                input.len()
            }
        };
        let mut filled = if buf.len() == HEADROOM_BYTES { taken } else { 0 };
        let was_closed = self.session.is_closed();
        let mut window = self.session.window(&mut buf);
        loop {
            let at = self.fed - window.unread().len() - std::mem::take(&mut filled);
            let frame = self.ends.partition_point(|end| *end <= at);
            match self.session.next_event(&mut window, &self.limits, &mut self.workspace) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    let seen = self.take(event, &mut window);
                    self.of_frames[frame].extend(seen);
                }
                Err(error) => {
                    assert!(self.session.is_closed());
                    self.of_frames[frame].push(Seen::Failed(error.close_code().value()));
                }
            }
            assert!(!was_closed, "an event after the last");
        }
        assert!(window.is_empty(), "the session has taken all input");
        window.move_run(&mut self.workspace);
        self.take_out();
        taken
    }

    fn take(&mut self, event: Event, window: &mut Window<'_>) -> Option<Seen> {
        Some(match event {
            Event::Message(received) => {
                let seen = match received.lend(window) {
                    Sendable::Text(text) => Seen::Text(text.as_str().as_bytes().to_vec()),
                    Sendable::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                };
                received.echo(window, &mut self.workspace);
                seen
            }
            Event::Streamed { payload_len, message_end } => {
                self.streamed += payload_len;
                if !message_end {
                    return None;
                }
                Seen::Streamed(std::mem::take(&mut self.streamed))
            }
            Event::Fragment => return None,
            Event::Ping => Seen::Ping,
            Event::Pong(payload) => Seen::Pong(window.bytes(&payload).to_vec()),
            Event::Close { code, reason, .. } => {
                let reason = window.bytes(&reason).to_vec();
                let reason = String::from_utf8(reason).expect("the session has checked the reason");
                Seen::Close(code.map(CloseCode::value), reason)
            }
            other => panic!("{other:?} has no `Seen` yet"),
        })
    }

    /// Makes calls of the server. They must fail if, and only if, a close frame has been sent.
    fn act(&mut self, acts: &[Act]) {
        for act in acts {
            let is_open = self.session.is_open();
            let (session, workspace) = (&mut self.session, &mut self.workspace);
            let done = match act {
                Act::Send(Message::Text(text)) => session.send(text.as_str().into(), workspace),
                Act::Send(Message::Binary(bytes)) => session.send(bytes[..].into(), workspace),
                Act::Send(Message::Ping(payload)) => session.ping(payload, workspace),
                Act::Send(other) => panic!("{other:?} is not sent"),
                Act::Close(code, reason) => {
                    let code = CloseCode::new(*code).expect("a code for the wire");
                    session.close(code, reason, workspace)
                }
            };
            assert_eq!(done, is_open, "{act:?}");
        }
        self.take_out();
    }

    fn take_out(&mut self) {
        self.replies.extend_from_slice(&self.workspace.out);
        self.workspace.clear();
    }
}

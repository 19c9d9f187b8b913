//! What the server meant to say, and whether a client hears it.

use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use ws_reactor::protocol::{Delivery, STREAM_BYTES_MIN};

use super::frames::{BINARY, CLOSE, CONTINUATION, PING, TEXT, close_payload, server};
use super::script::{Act, Script, Sent, Step};
use super::seen::Seen;
use super::theirs::read_as_client;

/// What a client has to hear, in this order.
#[derive(Debug, Default)]
pub(crate) struct Meant {
    pub(crate) messages: Vec<Message>,
    /// The answers to pings that came after our close frame (RFC 6455 5.5.2), on the wire.
    late_pongs: Vec<u8>,
    /// No message may be sent any more.
    closed: bool,
    /// A message is echoed as it comes.
    streaming: bool,
    /// What waits for the end of the streamed frame.
    controls: Vec<Message>,
    /// What waits for the end of the streamed message.
    waiting: Vec<Message>,
}

/// What an echo server means to say in the course of `script`, of whose frames came `outcomes`.
pub(crate) fn meant(script: &Script, outcomes: &[Vec<Seen>], delivery: Delivery) -> Meant {
    let mut meant = Meant::default();
    for (step, outcome) in script.steps.iter().zip(outcomes) {
        for act in &step.before {
            meant.act(act, false);
        }
        let is_owed = !meant.closed && delivery == Delivery::StreamedEcho && meant.streams(step);
        for act in &step.within {
            meant.act(act, is_owed);
        }
        for seen in outcome {
            meant.see(seen, &step.frame, is_owed);
        }
        meant.messages.append(&mut meant.controls);
        if is_owed && step.frame.fin {
            meant.streaming = false;
            meant.messages.append(&mut meant.waiting);
        }
        if outcome.iter().any(Seen::is_last) {
            break;
        }
    }
    meant
}

impl Meant {
    /// Whether the step's frame is echoed as it comes.
    fn streams(&mut self, step: &Step) -> bool {
        let frame = &step.frame;
        match frame.opcode {
            BINARY => {
                self.streaming = !frame.fin || frame.payload.len() > STREAM_BYTES_MIN;
                self.streaming
            }
            CONTINUATION => self.streaming,
            _ => false,
        }
    }

    /// `is_owed`: the rest of a streamed frame.
    fn act(&mut self, act: &Act, is_owed: bool) {
        if self.closed {
            return;
        }
        let is_control = !matches!(act, Act::Send(Message::Text(_) | Message::Binary(_)));
        let message = match act {
            Act::Send(Message::Ping(payload)) => {
                Message::Ping(payload.slice(..payload.len().min(CONTROL_BYTES_MAX)))
            }
            Act::Send(message) => message.clone(),
            Act::Close(code, reason) => {
                self.close();
                close(Some(*code), cut(reason))
            }
        };
        let to = match is_control {
            true if is_owed => &mut self.controls,
            false if self.streaming => &mut self.waiting,
            _ => &mut self.messages,
        };
        to.push(message);
    }

    fn see(&mut self, seen: &Seen, frame: &Sent, is_owed: bool) {
        let is_owed_message = is_owed && matches!(seen, Seen::Binary(_));
        if self.closed && !is_owed_message {
            // Only our own close gets here: the script ends with the peer's, or with its fault.
            if matches!(seen, Seen::Ping) {
                self.late_pongs.extend(server(super::frames::PONG, &frame.payload).bytes());
            }
            return;
        }
        match seen {
            Seen::Text(bytes) => {
                let text = std::str::from_utf8(bytes).expect("it was accepted");
                self.messages.push(Message::text(text));
            }
            Seen::Binary(bytes) => self.messages.push(Message::binary(bytes.clone())),
            Seen::Ping => self.messages.push(Message::Pong(frame.payload.clone().into())),
            Seen::Pong(_) => {}
            Seen::Close(code, _) => {
                self.messages.push(close(*code, ""));
                self.close();
            }
            Seen::Failed(code) => {
                self.messages.push(close(Some(*code), ""));
                self.close();
            }
            Seen::Streamed(_) => panic!("the messages themselves are needed"),
        }
    }

    /// What waits for the end of a message is not sent any more.
    fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
    }
}

/// Holds `replies` against what was meant: a client must hear it, and what is not streamed must be
/// in the shortest form there is.
pub(crate) fn check(replies: &[u8], meant: &Meant, delivery: Delivery) {
    // tungstenite takes no frame behind a close frame, not even a pong.
    let replies = replies.strip_suffix(&*meant.late_pongs);
    let replies = replies.expect("a ping is answered after our close frame too");
    let (heard, closed) = read_as_client(replies);
    let said: Vec<_> = meant.messages.iter().map(as_heard).collect();
    assert!(heard == said, "{delivery:?}: heard {heard:?}\nmeant {said:?}");
    assert_eq!(closed, meant.closed, "{delivery:?}: the connection is closed after {heard:?}");
    if delivery == Delivery::Whole {
        let frames: Vec<_> = meant.messages.iter().map(frame).collect();
        assert!(replies == frames.concat(), "{heard:?} came in another form");
    }
}

/// As a client, too, tungstenite does not know 1014 (see `Known::CloseCode1014`).
fn as_heard(meant: &Message) -> Message {
    match meant {
        Message::Close(Some(frame)) if u16::from(frame.code) == 1014 => {
            close(Some(1002), "Protocol violation")
        }
        _ => meant.clone(),
    }
}

fn frame(message: &Message) -> Vec<u8> {
    match message {
        Message::Text(text) => server(TEXT, text.as_bytes()),
        Message::Binary(bytes) => server(BINARY, bytes),
        Message::Ping(payload) => server(PING, payload),
        Message::Pong(payload) => server(super::frames::PONG, payload),
        Message::Close(None) => server(CLOSE, b""),
        Message::Close(Some(CloseFrame { code, reason })) => {
            server(CLOSE, &close_payload((*code).into(), reason.as_bytes()))
        }
        Message::Frame(frame) => panic!("never meant: {frame}"),
    }
    .bytes()
}

fn close(code: Option<u16>, reason: &str) -> Message {
    Message::Close(
        code.map(|code| CloseFrame { code: CloseCode::from(code), reason: reason.into() }),
    )
}

/// The longest start of `reason` that a close frame holds.
fn cut(reason: &str) -> &str {
    let end = (0..=reason.len().min(CONTROL_BYTES_MAX - 2)).rev();
    let end = end.into_iter().find(|end| reason.is_char_boundary(*end));
    &reason[..end.expect("0 is a boundary")]
}

/// RFC 6455 5.5.
const CONTROL_BYTES_MAX: usize = 125;

//! The replies that a server must send, and whether a client receives them.

use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use ws_reactor::protocol::{Delivery, STREAM_BYTES_MIN};

use super::frames::{BINARY, CLOSE, CONTINUATION, PING, TEXT, close_payload, server};
use super::script::{Act, Script, Sent, Step};
use super::seen::Seen;
use super::theirs::read_as_client;

/// The messages that a client must receive, in order.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) messages: Vec<Message>,
    /// The bytes of the pongs after our close frame (RFC 6455 5.5.2).
    late_pongs: Vec<u8>,
    /// A close frame has been sent, so no message may follow.
    closed: bool,
    /// A message is echoed while it arrives.
    streaming: bool,
    /// Control frames that wait for the end of the streamed frame.
    controls: Vec<Message>,
    /// Messages that wait for the end of the streamed message.
    waiting: Vec<Message>,
}

/// The replies of an echo server to `script`, whose frames lead to `outcomes`.
pub(crate) fn expected(script: &Script, outcomes: &[Vec<Seen>], delivery: Delivery) -> Expected {
    let mut expected = Expected::default();
    for (step, outcome) in script.steps.iter().zip(outcomes) {
        for act in &step.before {
            expected.act(act, false);
        }
        let is_streamed =
            !expected.closed && delivery == Delivery::StreamedEcho && expected.streams(step);
        for act in &step.within {
            expected.act(act, is_streamed);
        }
        for seen in outcome {
            expected.see(seen, &step.frame, is_streamed);
        }
        expected.messages.append(&mut expected.controls);
        if is_streamed && step.frame.fin {
            expected.streaming = false;
            expected.messages.append(&mut expected.waiting);
        }
        if outcome.iter().any(Seen::is_last) {
            break;
        }
    }
    expected
}

impl Expected {
    /// Whether the step's frame is echoed while it arrives.
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

    /// Adds a call of the server. If `is_streamed`, it comes inside a streamed frame.
    fn act(&mut self, act: &Act, is_streamed: bool) {
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
            true if is_streamed => &mut self.controls,
            false if self.streaming => &mut self.waiting,
            _ => &mut self.messages,
        };
        to.push(message);
    }

    fn see(&mut self, seen: &Seen, frame: &Sent, is_streamed: bool) {
        let is_streamed_end = is_streamed && matches!(seen, Seen::Binary(_));
        if self.closed && !is_streamed_end {
            // The close frame was ours, because a close frame or an error of the peer ends the
            // script.
            if matches!(seen, Seen::Ping) {
                self.late_pongs.extend(server(super::frames::PONG, &frame.payload).bytes());
            }
            return;
        }
        match seen {
            Seen::Text(bytes) => {
                let text = std::str::from_utf8(bytes).expect("the server has accepted it");
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
            Seen::Streamed(_) => panic!("the bytes of the messages are needed"),
        }
    }

    /// Messages that wait are not sent after the close frame.
    fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
    }
}

/// Checks that a client receives the expected replies, and that those not streamed have the
/// shortest form.
pub(crate) fn check(replies: &[u8], expected: &Expected, delivery: Delivery) {
    // tungstenite accepts no frame after a close frame, not even a pong.
    let replies = replies.strip_suffix(&*expected.late_pongs);
    let replies = replies.expect("a ping is answered after our close frame too");
    let (received, closed) = read_as_client(replies);
    let messages: Vec<_> = expected.messages.iter().map(as_received).collect();
    assert!(received == messages, "{delivery:?}: received {received:?}\nexpected {messages:?}");
    assert_eq!(closed, expected.closed, "{delivery:?}: closed, after {received:?}");
    if delivery == Delivery::Whole {
        let frames: Vec<_> = expected.messages.iter().map(frame).collect();
        assert!(replies == frames.concat(), "{received:?} in another form");
    }
}

/// A message as tungstenite reports it: as a client, too, it does not know 1014 (see
/// `Known::CloseCode1014`).
fn as_received(message: &Message) -> Message {
    match message {
        Message::Close(Some(frame)) if u16::from(frame.code) == 1014 => {
            close(Some(1002), "Protocol violation")
        }
        _ => message.clone(),
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
        Message::Frame(frame) => panic!("never expected: {frame}"),
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

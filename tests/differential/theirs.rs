//! Tungstenite as the other server, and as the client that reads our replies.

use std::io;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::script::{Act, Script};
use super::seen::Seen;

/// The events that tungstenite as a server reports for each frame of `script`.
pub(crate) fn judge(script: &Script) -> Vec<Vec<Seen>> {
    let config = small()
        .max_message_size(Some(script.message_max))
        .max_frame_size(Some(script.frame_max()))
        .accept_unmasked_frames(false);
    let socket = Memory { bytes: Vec::new(), read: 0, ended: false };
    let mut server = WebSocket::from_raw_socket(socket, Role::Server, Some(config));
    let mut of_frames = vec![Vec::new(); script.steps.len()];
    for (step, seen) in script.steps.iter().zip(&mut of_frames) {
        for act in &step.before {
            if let Act::Close(code, reason) = act {
                let (code, reason) = (CloseCode::from(*code), reason.as_str().into());
                server
                    .close(Some(CloseFrame { code, reason }))
                    .expect("the socket accepts all bytes");
            }
        }
        server.get_mut().bytes.extend(step.frame.bytes());
        loop {
            match server.read() {
                Ok(message) => seen.push(of_message(message)),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::ConnectionClosed) => return of_frames,
                Err(error) => {
                    seen.push(Seen::Failed(close_code(&error)));
                    return of_frames;
                }
            }
        }
    }
    of_frames
}

/// The messages that tungstenite as a client reads, and whether the server has closed the
/// connection.
pub(crate) fn read_as_client(bytes: &[u8]) -> (Vec<Message>, bool) {
    let config = small().max_message_size(None).max_frame_size(None);
    let socket = Memory { bytes: bytes.to_vec(), read: 0, ended: false };
    let mut client = WebSocket::from_raw_socket(socket, Role::Client, Some(config));
    let mut messages = Vec::new();
    loop {
        match client.read() {
            Ok(message) => {
                // The server ends TCP after its close frame.
                client.get_mut().ended = message.is_close();
                messages.push(message);
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (messages, false);
            }
            Err(Error::ConnectionClosed) => return (messages, true),
            Err(error) => panic!("the client fails after {messages:?}: {error}"),
        }
    }
}

fn small() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0)
}

fn of_message(message: Message) -> Seen {
    match message {
        Message::Text(text) => Seen::Text(text.as_bytes().to_vec()),
        Message::Binary(bytes) => Seen::Binary(bytes.to_vec()),
        Message::Ping(_) => Seen::Ping,
        Message::Pong(payload) => Seen::Pong(payload.to_vec()),
        Message::Close(None) => Seen::Close(None, String::new()),
        Message::Close(Some(frame)) => {
            Seen::Close(Some(frame.code.into()), frame.reason.to_string())
        }
        Message::Frame(frame) => panic!("never read: {frame}"),
    }
}

/// The close code for `error`: tungstenite leaves its choice to the caller.
fn close_code(error: &Error) -> u16 {
    match error {
        Error::Protocol(_) => 1002,
        Error::Utf8(_) => 1007,
        Error::Capacity(_) => 1009,
        other => panic!("not an error of the peer: {other:?}"),
    }
}

/// A socket in memory. It accepts all bytes, and reading would block while there is no input.
#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    read: usize,
    ended: bool,
}

impl io::Read for Memory {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let unread = &self.bytes[self.read..];
        if unread.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = unread.len().min(buf.len());
        buf[..len].copy_from_slice(&unread[..len]);
        self.read += len;
        Ok(len)
    }
}

impl io::Write for Memory {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

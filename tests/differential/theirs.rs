//! Tungstenite: as the other server, frame by frame, and as the client that reads our replies.

use std::io;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::script::{Act, Script};
use super::seen::Seen;

/// What tungstenite, as the server, makes of each frame of `script`.
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
                server.close(Some(CloseFrame { code, reason })).expect("memory takes everything");
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

/// What tungstenite, as the client, reads; and whether the server has closed the connection.
pub(crate) fn read_as_client(bytes: &[u8]) -> (Vec<Message>, bool) {
    let config = small().max_message_size(None).max_frame_size(None);
    let socket = Memory { bytes: bytes.to_vec(), read: 0, ended: false };
    let mut client = WebSocket::from_raw_socket(socket, Role::Client, Some(config));
    let mut messages = Vec::new();
    loop {
        match client.read() {
            Ok(message) => {
                // After its close frame the server ends TCP.
                client.get_mut().ended = message.is_close();
                messages.push(message);
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (messages, false);
            }
            Err(Error::ConnectionClosed) => return (messages, true),
            Err(error) => panic!("the client refuses what follows {messages:?}: {error}"),
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

/// The code that says what `error` does: tungstenite leaves it to its caller to send one.
fn close_code(error: &Error) -> u16 {
    match error {
        Error::Protocol(_) => 1002,
        Error::Utf8(_) => 1007,
        Error::Capacity(_) => 1009,
        other => panic!("not a fault of the peer: {other:?}"),
    }
}

/// A socket whose other side is this test: it takes everything, and blocks while there is nothing
/// to read.
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

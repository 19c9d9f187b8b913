//! A literal implementation of RFC 6455 as an echo server, with which the tests compare the
//! library. It shares no code with the library and imports nothing from it.
//!
//! The model takes the bytes that the server has read from one peer, and returns the bytes that the
//! server must send in reply. It knows no sockets and no time. Bytes with another cause (pings of
//! the server, posted messages, a shutdown) are not in its output.
//!
//! Where the RFC leaves a choice, the documentation of the library decides: a message is echoed in
//! one frame, but a large binary message frame by frame if it is streamed. An error is answered as
//! soon as the invalid field has arrived.

use super::codec::{Header, is_invalid_start, masked, reply, server_header};

/// The settings of the server.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub message_bytes_max: u64,
    pub fragments_max: u32,
    /// Binary messages that begin with a fragment, or with a frame of more bytes than this, are
    /// echoed as they arrive.
    pub streams_above: Option<u64>,
    /// The handler's answer to a message that is not streamed: its opcode and its payload.
    pub handler: fn(u8, &[u8]) -> Vec<Act>,
}

/// An act of the handler.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Act {
    Echo,
    /// Sends a binary message.
    Send(Vec<u8>),
    Close(u16, &'static str),
}

/// The handler of a server that only echoes.
pub fn echo(_: u8, _: &[u8]) -> Vec<Act> {
    vec![Act::Echo]
}

/// The request of a peer, and the response to it.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The bytes of the request after which the server must answer.
    pub head_len: usize,
    /// The status. The response with 101 is [`GOOD_RESPONSE`].
    pub status: u16,
    /// Whether it is a HEAD, any response to which has no body (RFC 9110 9.3.2).
    pub is_head: bool,
}

/// The answer to every valid request. All have the key of RFC 6455 1.2.
pub const GOOD_RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    \r\n";

/// The server's side of one connection.
#[derive(Debug)]
pub struct Model {
    rules: Rules,
    opening: Option<Opening>,
    /// Bytes that the server has read.
    input: Vec<u8>,
    /// Bytes of `input` that have been processed.
    taken: usize,
    /// All bytes that the server must send, in order, except for a refusal.
    pub expected: Vec<u8>,
    /// The ends of the frames in `expected`, and whether a message ends there.
    pub ends: Vec<(usize, bool)>,
    /// The status of a refusal. The server may send it before it has read the whole request.
    pub refusal: Option<u16>,
    /// The request is a HEAD, so a refusal has no body.
    pub is_head: bool,
    /// The server has read the whole request, so it must have refused it.
    pub is_refused: bool,
    /// The handler has closed: messages are skipped, and pings are answered (RFC 6455 5.5.2).
    pub is_closing: bool,
    /// The server ignores all further input.
    pub is_over: bool,
    message: Option<Message>,
    frame: Option<Frame>,
    /// The longest reply that is not streamed.
    pub reply_bytes_max: usize,
    /// The handler has sent messages of its own.
    pub handler_has_sent: bool,
    /// The number of complete messages.
    pub messages: usize,
}

/// An incomplete message.
#[derive(Debug)]
struct Message {
    opcode: u8,
    is_streamed: bool,
    announced: u64,
    fragments: u32,
    payload: Vec<u8>,
    /// The length of the start of a text that is known to be UTF-8.
    checked: usize,
}

/// An incomplete data frame.
#[derive(Debug)]
struct Frame {
    fin: bool,
    left: u64,
    key: [u8; 4],
    taken: usize,
}

/// A protocol error, with the close code that answers it.
struct Fault(u16);

impl Model {
    /// A connection whose request begins the input.
    pub fn new(rules: Rules, opening: Opening) -> Self {
        Self {
            refusal: Some(opening.status).filter(|status| *status != 101),
            is_head: opening.is_head,
            opening: Some(opening),
            ..Self::opened(rules)
        }
    }

    /// A connection after its handshake.
    pub const fn opened(rules: Rules) -> Self {
        Self {
            rules,
            opening: None,
            input: Vec::new(),
            taken: 0,
            expected: Vec::new(),
            ends: Vec::new(),
            refusal: None,
            is_head: false,
            is_refused: false,
            is_closing: false,
            is_over: false,
            message: None,
            frame: None,
            reply_bytes_max: 0,
            handler_has_sent: false,
            messages: 0,
        }
    }

    /// The server has read these bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.drain(..std::mem::take(&mut self.taken));
        self.input.extend(bytes);
        while !self.is_over {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(Fault(code)) => {
                    self.close(code, "");
                    self.is_over = true;
                }
            }
        }
    }

    /// Bytes received of an incomplete message that is not streamed.
    pub fn incomplete_bytes(&self) -> usize {
        self.message.as_ref().filter(|message| !message.is_streamed).map_or(0, |m| m.payload.len())
    }

    /// Whether the server has read a part of a streamed frame.
    pub fn is_within_streamed_frame(&self) -> bool {
        self.frame.is_some() && self.message.as_ref().is_some_and(|message| message.is_streamed)
    }

    /// Whether the server has read the whole of a valid request.
    pub fn is_open(&self) -> bool {
        self.opening.is_none() && !self.is_refused
    }

    /// Processes the next part of the input. Returns `false` if it is incomplete.
    fn step(&mut self) -> Result<bool, Fault> {
        if self.opening.is_some() {
            return Ok(self.open());
        }
        if self.frame.is_some() {
            return self.payload();
        }
        let Some(header) = self.header()? else { return Ok(false) };
        if header.is_control() {
            return self.control(&header);
        }
        self.begin(&header)?;
        self.taken += header.len();
        let (fin, left) = (header.fin, header.payload_len);
        self.frame = Some(Frame { fin, left, key: header.key.unwrap_or_default(), taken: 0 });
        if left == 0 {
            self.end_frame()?;
        }
        Ok(true)
    }

    fn unread(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    fn open(&mut self) -> bool {
        let Some(opening) = self.opening.take_if(|o| self.input.len() >= o.head_len) else {
            return false;
        };
        self.taken += opening.head_len;
        if opening.status == 101 {
            self.expected.extend(GOOD_RESPONSE);
            self.ends.push((self.expected.len(), true));
        } else {
            self.is_refused = true;
            self.is_over = true;
        }
        true
    }

    /// RFC 6455 5.2: the header of the next frame. Its first bytes may already be invalid.
    fn header(&self) -> Result<Option<Header>, Fault> {
        let unread = self.unread();
        if is_invalid_start(unread) { Err(Fault(1002)) } else { Ok(Header::decode(unread)) }
    }

    /// RFC 6455 5.5: answers a control frame.
    fn control(&mut self, header: &Header) -> Result<bool, Fault> {
        let end = header.len() + header.payload_len as usize;
        let Some(payload) = self.unread().get(header.len()..end) else { return Ok(false) };
        let payload = masked(payload, header.key.unwrap_or_default());
        self.taken += end;
        match header.opcode {
            0x9 => self.reply(0xA, &payload),
            0xA => {}
            _ => {
                if !payload.is_empty() {
                    close_code(&payload).map_err(Fault)?;
                }
                if !self.is_closing {
                    self.reply(0x8, payload.get(..2).unwrap_or_default());
                }
                self.is_over = true;
            }
        }
        Ok(true)
    }

    /// RFC 6455 5.4: a data frame begins or continues a message.
    fn begin(&mut self, header: &Header) -> Result<(), Fault> {
        if self.is_closing {
            return Ok(());
        }
        if self.message.is_some() != (header.opcode == 0x0) {
            return Err(Fault(1002));
        }
        let is_large = |above| !header.fin || header.payload_len > above;
        let is_streamed = header.opcode == 0x2 && self.rules.streams_above.is_some_and(is_large);
        let message = self.message.get_or_insert_with(|| Message {
            opcode: header.opcode,
            is_streamed,
            announced: 0,
            fragments: 0,
            payload: Vec::new(),
            checked: 0,
        });
        message.announced = message.announced.saturating_add(header.payload_len);
        message.fragments += 1;
        if message.announced > self.rules.message_bytes_max {
            return Err(Fault(1009));
        }
        if message.fragments > self.rules.fragments_max {
            return Err(Fault(1008));
        }
        if message.is_streamed {
            let len = header.payload_len as usize;
            self.expected.extend(server_header(header.fin, header.opcode, len));
        }
        Ok(())
    }

    /// Takes payload of the current frame.
    fn payload(&mut self) -> Result<bool, Fault> {
        let Some(frame) = &mut self.frame else { return Ok(false) };
        let unread = &self.input[self.taken..];
        let count = unread.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(false);
        }
        let mut key = frame.key;
        key.rotate_left(frame.taken % 4);
        let piece = masked(&unread[..count], key);
        self.taken += count;
        frame.taken += count;
        frame.left -= count as u64;
        let is_whole = frame.left == 0;
        if let Some(message) = &mut self.message {
            self.expected.extend(message.take(&piece)?);
        }
        if is_whole {
            self.end_frame()?;
        }
        Ok(true)
    }

    fn end_frame(&mut self) -> Result<(), Fault> {
        let Some(Frame { fin, .. }) = self.frame.take() else { return Ok(()) };
        if self.message.as_ref().is_some_and(|message| message.is_streamed) {
            self.ends.push((self.expected.len(), fin));
        }
        match self.message.take_if(|_| fin) {
            Some(message) => self.end_message(&message),
            None => Ok(()),
        }
    }

    fn end_message(&mut self, message: &Message) -> Result<(), Fault> {
        self.messages += 1;
        if message.is_streamed {
            return Ok(());
        }
        if message.opcode == 0x1 && std::str::from_utf8(&message.payload).is_err() {
            return Err(Fault(1007));
        }
        for act in (self.rules.handler)(message.opcode, &message.payload) {
            match act {
                Act::Echo => self.reply(message.opcode, &message.payload),
                Act::Send(payload) => {
                    self.handler_has_sent = true;
                    self.reply(0x2, &payload);
                }
                Act::Close(code, reason) => self.close(code, reason),
            }
        }
        Ok(())
    }

    /// Sends a close frame, unless one has been sent.
    fn close(&mut self, code: u16, reason: &str) {
        if !self.is_closing {
            self.reply(0x8, &[&code.to_be_bytes(), reason.as_bytes()].concat());
        }
        self.is_closing = true;
    }

    fn reply(&mut self, opcode: u8, payload: &[u8]) {
        let reply = reply(opcode, payload);
        self.expected.extend(&reply);
        self.reply_bytes_max = self.reply_bytes_max.max(reply.len());
        let is_within_message = self.message.as_ref().is_some_and(|message| message.is_streamed);
        self.ends.push((self.expected.len(), !is_within_message));
    }
}

impl Message {
    /// Takes unmasked payload. Returns the part of the reply that is sent at once.
    fn take<'p>(&mut self, piece: &'p [u8]) -> Result<&'p [u8], Fault> {
        if self.is_streamed {
            return Ok(piece);
        }
        self.payload.extend(piece);
        if self.opcode == 0x1 {
            match std::str::from_utf8(&self.payload[self.checked..]) {
                Ok(text) => self.checked += text.len(),
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(Fault(1007)),
            }
        }
        Ok(&[])
    }
}

/// The code in the payload of a close frame, which must not be empty. If the payload is invalid,
/// the code that the server answers with (RFC 6455 5.5.1, 7.4, and the registry of 7.4.2).
///
/// # Errors
///
/// 1002 or 1007.
pub fn close_code(payload: &[u8]) -> Result<u16, u16> {
    let [high, low, reason @ ..] = payload else { return Err(1002) };
    let code = u16::from_be_bytes([*high, *low]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(1002);
    }
    if std::str::from_utf8(reason).is_err() { Err(1007) } else { Ok(code) }
}

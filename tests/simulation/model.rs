//! What an echo server must answer, written from RFC 6455: the judge, which shares no code with
//! the library and imports nothing of it.
//!
//! The model is fed the bytes that the server has read from one peer and says what the server owes
//! that peer for them, byte for byte. It knows no sockets, no time and no other sender: what comes
//! from outside (pings, posted messages, a shutdown) is `matcher.rs`'s to recognise.
//!
//! Where the RFC leaves a choice, the server's documentation decides: whole messages are echoed in
//! one frame; large binary ones, if they are streamed, frame by frame as they come; a fault is
//! answered as soon as the field that shows it is there.

/// What the server under test was set to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) message_bytes_max: u64,
    pub(crate) fragments_max: u32,
    /// Binary messages that begin with a fragment, or with a frame of more bytes than this, are
    /// echoed as they arrive.
    pub(crate) streams_above: Option<u64>,
}

/// The request of a peer and what it is answered with.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// After so many bytes the server has to answer.
    pub(crate) head_len: usize,
    /// The status; what is answered with 101 is [`GOOD_RESPONSE`].
    pub(crate) status: u16,
    /// Whether it is a HEAD, any response to which has no body (RFC 9110 9.3.2).
    pub(crate) is_head: bool,
}

/// The answer to every good request, all of which have the key of RFC 6455 1.2.
pub(crate) const GOOD_RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    \r\n";

/// What texts ask the handler of the simulation for.
pub(crate) mod asks {
    /// And a number: that many bytes of binary, then the echo.
    pub(crate) const SEND: &str = "!send ";
    /// No reply at all.
    pub(crate) const NOTHING: &str = "!nothing";
    /// A close with [`CLOSE_CODE`] and [`CLOSE_REASON`].
    pub(crate) const CLOSE: &str = "!close";
    /// A panic in the callback, which is answered with 1011.
    pub(crate) const PANIC: &str = "!panic";

    pub(crate) const CLOSE_CODE: u16 = 4001;
    pub(crate) const CLOSE_REASON: &str = "as you wish";
}

/// The bytes that a handler sends when it is asked for some.
pub(crate) const fn sent_byte(at: usize) -> u8 {
    (at % 251) as u8
}

/// One peer's share of the server.
#[derive(Debug)]
pub(crate) struct Model {
    rules: Rules,
    opening: Option<Opening>,
    /// Read by the server.
    input: Vec<u8>,
    /// Bytes of `input` that have been looked at.
    taken: usize,
    /// All that the peer is owed from the start, in order. A refusal is not in it.
    pub(crate) expected: Vec<u8>,
    /// Where the frames of `expected` end, and whether a message does there.
    pub(crate) ends: Vec<(usize, bool)>,
    /// The status of a refusal. It may come before all of the request has been read.
    pub(crate) refusal: Option<u16>,
    /// A refusal must come without its body.
    pub(crate) is_head: bool,
    /// By now it must have come.
    pub(crate) is_refused: bool,
    /// The handler has closed: messages are skipped, and pings are answered (RFC 6455 5.5.2).
    is_closing: bool,
    /// Nothing that the peer sends matters any more.
    pub(crate) is_over: bool,
    message: Option<Message>,
    frame: Option<Frame>,
    /// The longest reply that is not streamed.
    pub(crate) reply_bytes_max: usize,
    /// The handler has been asked for more than echoes.
    pub(crate) has_asked: bool,
    /// Messages that were complete.
    pub(crate) messages: usize,
}

/// A message of which frames are still to come.
#[derive(Debug)]
struct Message {
    opcode: u8,
    is_streamed: bool,
    announced: u64,
    fragments: u32,
    payload: Vec<u8>,
    /// Of a text: so much is known to be UTF-8.
    checked: usize,
}

/// A data frame of which payload is still to come.
#[derive(Debug)]
struct Frame {
    fin: bool,
    left: u64,
    key: [u8; 4],
    taken: usize,
}

/// A header of a client's frame.
struct Header {
    fin: bool,
    opcode: u8,
    len: u64,
    key: [u8; 4],
    bytes: usize,
}

/// The code that a fault is answered with.
struct Fault(u16);

impl Model {
    pub(crate) fn new(rules: Rules, opening: Opening) -> Self {
        let refusal = Some(opening.status).filter(|status| *status != 101);
        Self {
            rules,
            is_head: opening.is_head,
            opening: Some(opening),
            input: Vec::new(),
            taken: 0,
            expected: Vec::new(),
            ends: Vec::new(),
            refusal,
            is_refused: false,
            is_closing: false,
            is_over: false,
            message: None,
            frame: None,
            reply_bytes_max: 0,
            has_asked: false,
            messages: 0,
        }
    }

    /// The server has read these bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
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

    /// What has arrived of a message that has to be whole before it is answered.
    pub(crate) fn under_way_bytes(&self) -> usize {
        self.message.as_ref().filter(|message| !message.is_streamed).map_or(0, |m| m.payload.len())
    }

    /// Whether the server has read a part of a frame that is echoed as it comes.
    pub(crate) fn is_within_streamed_frame(&self) -> bool {
        self.frame.is_some() && self.message.as_ref().is_some_and(|message| message.is_streamed)
    }

    /// Whether the server has read all of a good request.
    pub(crate) fn is_open(&self) -> bool {
        self.opening.is_none() && !self.is_refused
    }

    /// Takes what comes next; `false` if it has not all come.
    fn step(&mut self) -> Result<bool, Fault> {
        if self.opening.is_some() {
            return Ok(self.open());
        }
        if self.frame.is_some() {
            return self.payload();
        }
        let Some(header) = self.header()? else { return Ok(false) };
        if header.opcode >= 0x8 {
            return self.control(&header);
        }
        self.begin(&header)?;
        self.taken += header.bytes;
        self.frame = Some(Frame { fin: header.fin, left: header.len, key: header.key, taken: 0 });
        if header.len == 0 {
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

    /// RFC 6455 5.2: the header of the next frame, judged as far as it has come.
    fn header(&self) -> Result<Option<Header>, Fault> {
        let [first, second, rest @ ..] = self.unread() else { return Ok(None) };
        let (fin, opcode, len) = (first & 0x80 != 0, first & 0x0F, second & 0x7F);
        let is_reserved = !matches!(opcode, 0x0 | 0x1 | 0x2 | 0x8 | 0x9 | 0xA);
        let is_bad_control = opcode >= 0x8 && (!fin || len > 125);
        if first & 0x70 != 0 || is_reserved || second & 0x80 == 0 || is_bad_control {
            return Err(Fault(1002));
        }
        let extended = match len {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(extension) = rest.get(..extended) else { return Ok(None) };
        let number = extension.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let len = if extended == 0 { u64::from(len) } else { number };
        let least = match extended {
            0 => 0,
            2 => 126,
            _ => 65_536,
        };
        if len < least || len >> 63 != 0 {
            return Err(Fault(1002));
        }
        let Some(key) = rest[extended..].first_chunk() else { return Ok(None) };
        Ok(Some(Header { fin, opcode, len, key: *key, bytes: 2 + extended + 4 }))
    }

    /// RFC 6455 5.5: answers a control frame.
    fn control(&mut self, header: &Header) -> Result<bool, Fault> {
        let end = header.bytes + header.len as usize;
        let Some(payload) = self.unread().get(header.bytes..end) else { return Ok(false) };
        let mut payload = payload.to_vec();
        self.taken += end;
        unmask(&mut payload, header.key, 0);
        match header.opcode {
            0x9 => self.reply(0xA, &payload),
            0xA => {}
            _ => {
                let code = close_code(&payload)?;
                let reply: Vec<u8> = code.into_iter().flat_map(u16::to_be_bytes).collect();
                if !self.is_closing {
                    self.reply(0x8, &reply);
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
        let is_large = |above| !header.fin || header.len > above;
        let is_streamed = header.opcode == 0x2 && self.rules.streams_above.is_some_and(is_large);
        let message = self.message.get_or_insert_with(|| Message {
            opcode: header.opcode,
            is_streamed,
            announced: 0,
            fragments: 0,
            payload: Vec::new(),
            checked: 0,
        });
        message.announced = message.announced.saturating_add(header.len);
        message.fragments += 1;
        if message.announced > self.rules.message_bytes_max {
            return Err(Fault(1009));
        }
        if message.fragments > self.rules.fragments_max {
            return Err(Fault(1008));
        }
        if message.is_streamed {
            push_header(&mut self.expected, header.fin, header.opcode, header.len as usize);
        }
        Ok(())
    }

    /// Takes payload of the frame under way.
    fn payload(&mut self) -> Result<bool, Fault> {
        let Some(frame) = &mut self.frame else { return Ok(false) };
        let unread = &self.input[self.taken..];
        let count = unread.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(false);
        }
        let mut piece = unread[..count].to_vec();
        self.taken += count;
        unmask(&mut piece, frame.key, frame.taken);
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
        let text = match message.opcode {
            0x1 => std::str::from_utf8(&message.payload).map_err(|_| Fault(1007))?,
            _ => "",
        };
        if let Some(count) = text.strip_prefix(asks::SEND) {
            let count = count.parse().unwrap_or(0);
            self.has_asked = true;
            self.reply(0x2, &(0..count).map(sent_byte).collect::<Vec<_>>());
        }
        match text {
            asks::NOTHING => {}
            asks::CLOSE => self.close(asks::CLOSE_CODE, asks::CLOSE_REASON),
            asks::PANIC => self.close(1011, ""),
            _ => self.reply(message.opcode, &message.payload),
        }
        Ok(())
    }

    /// The server closes, unless it has done so before.
    fn close(&mut self, code: u16, reason: &str) {
        if !self.is_closing {
            self.reply(0x8, &[&code.to_be_bytes(), reason.as_bytes()].concat());
        }
        self.is_closing = true;
    }

    fn reply(&mut self, opcode: u8, payload: &[u8]) {
        let start = self.expected.len();
        push_frame(&mut self.expected, opcode, payload);
        self.reply_bytes_max = self.reply_bytes_max.max(self.expected.len() - start);
        let is_within_message = self.message.as_ref().is_some_and(|message| message.is_streamed);
        self.ends.push((self.expected.len(), !is_within_message));
    }
}

impl Message {
    /// Takes unmasked payload; returns the part of the reply that goes out at once.
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

/// RFC 6455 5.5.1 and 7.4: the code of a close frame, if it has one.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Fault(1002)),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault(1002));
    }
    std::str::from_utf8(reason).map(|_| Some(code)).map_err(|_| Fault(1007))
}

/// RFC 6455 5.3, where `taken` bytes of the payload went before.
fn unmask(bytes: &mut [u8], key: [u8; 4], taken: usize) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[(taken + at) % 4];
    }
}

/// A server's frame: final, not masked, its length in the shortest form.
pub(crate) fn push_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_header(out, true, opcode, payload.len());
    out.extend(payload);
}

fn push_header(out: &mut Vec<u8>, fin: bool, opcode: u8, len: usize) {
    out.push(u8::from(fin) << 7 | opcode);
    match len {
        0..126 => out.push(len as u8),
        126..65_536 => {
            out.push(126);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
}

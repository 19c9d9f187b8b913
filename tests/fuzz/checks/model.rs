//! A strict echo server by the letter of RFC 6455, for input that is all there: the bytes that go
//! out for those that came in, every message echoed whole.

use super::naive::{Header, is_wrong_start, masked, reply};

/// What the server holds to.
pub(crate) struct Model {
    pub(crate) message_bytes_max: u64,
    pub(crate) fragments_max: u32,
    message: Option<Message>,
    out: Vec<u8>,
}

/// A message under way.
struct Message {
    is_text: bool,
    payload: Vec<u8>,
    announced: u64,
    fragments: u32,
}

/// The connection is over, with this close code or without a fault.
struct End(Option<u16>);

impl Model {
    pub(crate) const fn new(message_bytes_max: u64, fragments_max: u32) -> Self {
        Self { message_bytes_max, fragments_max, message: None, out: Vec::new() }
    }

    /// All that goes out for `input`.
    pub(crate) fn answer(mut self, mut input: &[u8]) -> Vec<u8> {
        loop {
            match self.frame(input) {
                Ok(Some(len)) => input = &input[len..],
                Ok(None) | Err(End(None)) => return self.out,
                Err(End(Some(code))) => {
                    self.out.extend(reply(8, &code.to_be_bytes()));
                    return self.out;
                }
            }
        }
    }

    /// Takes the frame at the start of `input`; how long it is, or `None` if it is not complete.
    fn frame(&mut self, input: &[u8]) -> Result<Option<usize>, End> {
        if is_wrong_start(input) {
            return Err(End(Some(1002)));
        }
        let Some(header) = Header::decode(input) else { return Ok(None) };
        let body = &input[header.len()..];
        let len = header.payload_len.min(body.len() as u64) as usize;
        let is_complete = len as u64 == header.payload_len;
        let payload = masked(&body[..len], header.key.unwrap_or_default());
        if !header.is_control() {
            self.data(&header, &payload, is_complete)?;
        } else if is_complete {
            self.control(header.opcode, &payload)?;
        }
        Ok(is_complete.then_some(header.len() + len))
    }

    fn data(&mut self, header: &Header, payload: &[u8], is_complete: bool) -> Result<(), End> {
        if (header.opcode == 0) != self.message.is_some() {
            return Err(End(Some(1002)));
        }
        let message = self.message.get_or_insert_with(|| Message {
            is_text: header.opcode == 1,
            payload: Vec::new(),
            announced: 0,
            fragments: 0,
        });
        message.announced = message.announced.saturating_add(header.payload_len);
        message.fragments += 1;
        if message.announced > self.message_bytes_max {
            return Err(End(Some(1009)));
        }
        if message.fragments > self.fragments_max {
            return Err(End(Some(1008)));
        }
        message.payload.extend(payload);
        let is_last = header.fin && is_complete;
        if message.is_text
            && let Err(error) = std::str::from_utf8(&message.payload)
            && (is_last || error.error_len().is_some())
        {
            return Err(End(Some(1007)));
        }
        if is_last && let Some(message) = self.message.take() {
            self.out.extend(reply(if message.is_text { 1 } else { 2 }, &message.payload));
        }
        Ok(())
    }

    fn control(&mut self, opcode: u8, payload: &[u8]) -> Result<(), End> {
        match (opcode, payload) {
            (8, []) => self.out.extend(reply(8, b"")),
            (8, _) => return Err(End(Some(close_code(payload).unwrap_or_else(|fault| fault)))),
            (9, _) => self.out.extend(reply(10, payload)),
            _ => return Ok(()),
        }
        if opcode == 8 { Err(End(None)) } else { Ok(()) }
    }
}

/// The code in a close frame which carries something; if it may not carry that, the code that it is
/// answered with (RFC 6455 5.5.1, 7.4, and the registry that 7.4.2 speaks of).
pub(crate) fn close_code(payload: &[u8]) -> Result<u16, u16> {
    let [high, low, reason @ ..] = payload else { return Err(1002) };
    let code = u16::from_be_bytes([*high, *low]);
    let is_reserved = [1004, 1005, 1006].contains(&code);
    if is_reserved || !((1000..=1014).contains(&code) || (3000..=4999).contains(&code)) {
        return Err(1002);
    }
    if String::from_utf8(reason.to_vec()).is_err() { Err(1007) } else { Ok(code) }
}

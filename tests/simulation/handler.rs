//! The handler of the simulated servers, once for the library and once for the model. It echoes,
//! and obeys the texts in [`commands`].

use std::cell::Cell;
use std::rc::Rc;

use ws_reactor::{
    CloseCode, CloseEvent, ConnectionInfo, Context, Delivery, Handler, Message, Peer, PeerId, Reply,
};

use crate::support::model::Act;

/// Texts that are commands to the handler.
pub(crate) mod commands {
    /// With a number: send a binary message of that length, then echo.
    pub(crate) const SEND: &str = "!send ";
    /// Send no reply.
    pub(crate) const NOTHING: &str = "!nothing";
    /// Close with [`CLOSE_CODE`] and [`CLOSE_REASON`].
    pub(crate) const CLOSE: &str = "!close";
    /// Panic in the callback. The server then closes with 1011.
    pub(crate) const PANIC: &str = "!panic";

    pub(crate) const CLOSE_CODE: u16 = 4001;
    pub(crate) const CLOSE_REASON: &str = "as you wish";
}

/// The topic that every connection subscribes to.
pub(crate) const TOPIC: &str = "everyone";

/// Maximum length that a command may request.
pub(crate) const SEND_BYTES_MAX: usize = 40_000;

/// The acts of the handler, for the model.
pub(crate) fn acts(opcode: u8, payload: &[u8]) -> Vec<Act> {
    let text = if opcode == 0x1 { std::str::from_utf8(payload).unwrap_or("") } else { "" };
    if let Some(count) = text.strip_prefix(commands::SEND) {
        return vec![Act::Send(bytes(count.parse().unwrap_or(0))), Act::Echo];
    }
    match text {
        commands::NOTHING => vec![],
        commands::CLOSE => vec![Act::Close(commands::CLOSE_CODE, commands::CLOSE_REASON)],
        commands::PANIC => vec![Act::Close(1011, "")],
        _ => vec![Act::Echo],
    }
}

fn bytes(count: usize) -> Vec<u8> {
    (0..=250).cycle().take(count).collect()
}

/// The handler for the library.
pub(crate) struct SimHandler {
    is_streamed: bool,
    /// The payload of its messages, of which it sends a start.
    bytes: Vec<u8>,
    /// Connections that have been opened and not closed.
    open: Rc<Cell<isize>>,
}

impl SimHandler {
    pub(crate) fn new(is_streamed: bool, open: Rc<Cell<isize>>) -> Self {
        Self { is_streamed, bytes: bytes(SEND_BYTES_MAX), open }
    }
}

impl Handler for SimHandler {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        peer.subscribe(TOPIC).expect("one topic with a short name");
        self.open.set(self.open.get() + 1);
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        let Message::Text(text) = message else { return Reply::Echo };
        if let Some(count) = text.strip_prefix(commands::SEND) {
            peer.send(&self.bytes[..count.parse().unwrap_or(0)]);
        }
        match &*text {
            commands::NOTHING => return Reply::None,
            commands::CLOSE => {
                let code = CloseCode::new(commands::CLOSE_CODE).expect("applications may use it");
                peer.close(code, commands::CLOSE_REASON);
            }
            commands::PANIC => panic!("{}", crate::REQUESTED_PANIC),
            _ => {}
        }
        Reply::Echo
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), _: &CloseEvent<'_>) {
        self.open.set(self.open.get() - 1);
    }

    fn delivery(&self) -> Delivery {
        if self.is_streamed { Delivery::StreamedEcho } else { Delivery::Whole }
    }
}

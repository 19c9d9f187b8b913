//! A handler that logs its callbacks, and helpers of these tests.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ws_reactor::{
    CloseEvent, Config, ConnectionInfo, Context, Delivery, Echo, Handler, Message, Peer, PeerId,
    Reply, Request, Response, Upgrade,
};

use crate::scripted::SocketId;
use crate::support::frames::{BINARY, CLOSE, TEXT, client, close_payload, server};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

/// The allowed lateness of a deadline: two ticks.
pub(crate) const SLACK: Duration = Duration::from_millis(100);

/// The allowed lateness of a deadline that begins with an acknowledgement, which the worker notices
/// only at its next check.
pub(crate) const CHECK_SLACK: Duration = Duration::from_millis(300);

/// The smallest step before or after a deadline.
pub(crate) const MOMENT: Duration = Duration::from_millis(1);

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The answer of a handler to a message.
type OnMessage = Box<dyn FnMut(&mut Peer<'_, ()>, Message<'_>) -> Reply>;

/// The callbacks of a handler, one line for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn push(&self, line: String) {
        self.0.borrow_mut().push(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.0.borrow().iter().filter(|line| line.starts_with(start)).count()
    }
}

/// Logs every callback, and panics in a chosen one.
pub(crate) struct Probe {
    log: Log,
    on_message: OnMessage,
    panics_in: &'static str,
}

impl Probe {
    /// A handler that answers messages with `on_message`.
    pub(crate) fn new(
        on_message: impl FnMut(&mut Peer<'_, ()>, Message<'_>) -> Reply + 'static,
    ) -> (Self, Log) {
        let log = Log::default();
        let probe = Self { log: log.clone(), on_message: Box::new(on_message), panics_in: "" };
        (probe, log)
    }

    pub(crate) fn echo() -> (Self, Log) {
        Self::new(|_, _| Reply::Echo)
    }

    /// Panics in the callback whose log line begins with `start`.
    pub(crate) fn panics_in(mut self, start: &'static str) -> Self {
        self.panics_in = start;
        self
    }

    fn note(&self, line: String) {
        let panics = !self.panics_in.is_empty() && line.starts_with(self.panics_in);
        self.log.push(line);
        assert!(!panics, "as requested");
    }
}

impl Handler for Probe {
    type State = ();

    fn on_request(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<()> {
        self.note(format!("request {}", request.path()));
        Upgrade::accept(())
    }

    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        self.note(format!("http {}", request.path()));
        Some(Response::text(200, "fine"))
    }

    fn on_open(&mut self, _: &mut Peer<'_, ()>, info: ConnectionInfo<'_>) {
        self.note(format!("open {}", info.peer_address()));
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        self.note(match message {
            Message::Text(text) => format!("text {text}"),
            Message::Binary(bytes) => format!("binary {}", bytes.len()),
        });
        (self.on_message)(peer, message)
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), event: &CloseEvent<'_>) {
        self.note(format!("close {} {:?} {}", event.code, event.reason, event.cause));
    }

    fn delivery(&self) -> Delivery {
        Delivery::Whole
    }
}

/// Echo under default settings.
pub(crate) fn echo_world() -> World<Echo> {
    World::new(Echo, Config::default())
}

/// A client that has the 101.
pub(crate) fn open<H: Handler>(world: &mut World<H>) -> SocketId {
    let (id, answer) = world.open(GOOD_REQUEST);
    assert_eq!(answer, GOOD_RESPONSE);
    id
}

/// Sends `input` in one read and returns the reply.
pub(crate) fn ask<H: Handler>(world: &mut World<H>, id: SocketId, input: &[u8]) -> Vec<u8> {
    world.send(id, input);
    world.run_until_quiet();
    world.take_received(id)
}

/// The connection still echoes.
pub(crate) fn assert_echoes<H: Handler>(world: &mut World<H>, id: SocketId) {
    assert_eq!(ask(world, id, &text("still here")), text_reply("still here"));
}

/// A client's text.
pub(crate) fn text(text: &str) -> Vec<u8> {
    client(TEXT, text.as_bytes()).bytes()
}

/// A server's text.
pub(crate) fn text_reply(text: &str) -> Vec<u8> {
    server(TEXT, text.as_bytes()).bytes()
}

/// A client's binary message of `len` bytes.
pub(crate) fn binary(len: usize) -> Vec<u8> {
    client(BINARY, &payload(len)).bytes()
}

/// Its echo.
pub(crate) fn binary_reply(len: usize) -> Vec<u8> {
    server(BINARY, &payload(len)).bytes()
}

fn payload(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// A client's close frame.
pub(crate) fn close(code: u16) -> Vec<u8> {
    client(CLOSE, &close_payload(code, b"")).bytes()
}

/// A server's close frame.
pub(crate) fn close_reply(code: u16, reason: &str) -> Vec<u8> {
    server(CLOSE, &close_payload(code, reason.as_bytes())).bytes()
}

/// Whether `output` is an HTTP response with this status.
pub(crate) fn has_status(output: &[u8], status: u16) -> bool {
    output.starts_with(format!("HTTP/1.1 {status} ").as_bytes())
}

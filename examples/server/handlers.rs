//! The handlers of the server: a plain echo, an echo with a prefix, and a broadcast.

use ws_reactor::{
    CloseEvent, ConnectionInfo, Context, Delivery, Handler, Message, Peer, PeerId, Reply, Request,
    Response,
};

use crate::client::Client;
use crate::health::Readiness;

/// Echoes every message.
pub(crate) struct LoggedEcho {
    pub(crate) readiness: Readiness,
}

impl Handler for LoggedEcho {
    type State = Option<Client>;

    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        plain(request, &self.readiness)
    }

    fn on_open(&mut self, peer: &mut Peer<'_, Self::State>, info: ConnectionInfo<'_>) {
        *peer.state = log_open(peer.id(), info);
    }

    fn on_message(&mut self, peer: &mut Peer<'_, Self::State>, message: Message<'_>) -> Reply {
        log_message(peer.id(), message);
        Reply::Echo
    }

    fn on_close(
        &mut self,
        _: &mut Context<'_>,
        id: PeerId,
        client: Self::State,
        event: &CloseEvent<'_>,
    ) {
        log_close(id, client, event);
    }

    fn delivery(&self) -> Delivery {
        // A streamed message never reaches `on_message`, and could not be logged.
        if log::log_enabled!(log::Level::Debug) { Delivery::Whole } else { Delivery::StreamedEcho }
    }
}

/// Echoes every text message with a prefix, and binary messages as they are.
pub(crate) struct PrefixedEcho {
    readiness: Readiness,
    prefix: String,
    /// The current answer; its memory is reused.
    answer: String,
}

impl PrefixedEcho {
    pub(crate) fn new(prefix: &str, readiness: Readiness) -> Self {
        Self { readiness, prefix: prefix.to_owned(), answer: String::new() }
    }
}

impl Handler for PrefixedEcho {
    type State = Option<Client>;

    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        plain(request, &self.readiness)
    }

    fn on_open(&mut self, peer: &mut Peer<'_, Self::State>, info: ConnectionInfo<'_>) {
        *peer.state = log_open(peer.id(), info);
    }

    fn on_message(&mut self, peer: &mut Peer<'_, Self::State>, message: Message<'_>) -> Reply {
        log_message(peer.id(), message);
        let Message::Text(text) = message else { return Reply::Echo };
        self.answer.clear();
        self.answer.push_str(&self.prefix);
        self.answer.push_str(&text);
        peer.send(self.answer.as_str());
        Reply::None
    }

    fn on_close(
        &mut self,
        _: &mut Context<'_>,
        id: PeerId,
        client: Self::State,
        event: &CloseEvent<'_>,
    ) {
        log_close(id, client, event);
    }
}

/// Sends every message to everyone who is connected, its sender included.
pub(crate) struct Broadcast {
    pub(crate) readiness: Readiness,
}

/// The topic that everyone subscribes to.
const EVERYONE: &str = "everyone";

impl Handler for Broadcast {
    type State = Option<Client>;

    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        plain(request, &self.readiness)
    }

    fn on_open(&mut self, peer: &mut Peer<'_, Self::State>, info: ConnectionInfo<'_>) {
        *peer.state = log_open(peer.id(), info);
        peer.subscribe(EVERYONE).expect("a short name, and the only one");
    }

    fn on_message(&mut self, peer: &mut Peer<'_, Self::State>, message: Message<'_>) -> Reply {
        log_message(peer.id(), message);
        peer.context().publish(EVERYONE, message);
        Reply::None
    }

    fn on_close(
        &mut self,
        _: &mut Context<'_>,
        id: PeerId,
        client: Self::State,
        event: &CloseEvent<'_>,
    ) {
        log_close(id, client, event);
    }
}

/// The page that connects to this server.
const PAGE: &str = include_str!("page.html");

/// Browsers may load nothing from elsewhere for the page, and show it in no frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    img-src data:; connect-src 'self'; frame-ancestors 'none'";

/// Answers plain requests for the page and the health checks; any other is answered 426.
fn plain(request: &Request<'_>, readiness: &Readiness) -> Option<Response> {
    match request.path() {
        "/" => Some(
            Response::new(200)
                .header("Content-Type", "text/html; charset=utf-8")
                .header("Content-Security-Policy", POLICY)
                .body(PAGE),
        ),
        path => readiness.answer(path),
    }
}

/// Returns the client for the line at its end.
fn log_open(id: PeerId, info: ConnectionInfo<'_>) -> Option<Client> {
    let client = Client::new(info);
    match client {
        Some(Client::Unix { pid, uid, .. }) => {
            log::info!("peer {id} connected from unix: pid {pid}, uid {uid}");
        }
        _ => log::info!("peer {id} connected from {}", info.peer_address()),
    }
    client
}

fn log_message(id: PeerId, message: Message<'_>) {
    match message {
        Message::Text(text) => log::debug!("peer {id} sent {text:?}"),
        Message::Binary(bytes) => log::debug!("peer {id} sent {} bytes", bytes.len()),
    }
}

fn log_close(id: PeerId, client: Option<Client>, event: &CloseEvent<'_>) {
    // `on_open` has set it.
    let Some(client) = client else { return };
    let (code, cause) = (event.code, event.cause);
    match event.reason {
        "" => log::info!("peer {id} ({client}) closed with {code}: {cause}"),
        reason => log::info!("peer {id} ({client}) closed with {code}: {cause} ({reason:?})"),
    }
}

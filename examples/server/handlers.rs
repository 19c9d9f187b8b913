//! What the server answers: the message itself, or the message behind a prefix.

use std::net::SocketAddr;

use ws_reactor::{CloseEvent, Delivery, Handler, Message, Peer, PeerId, Reply};

/// Echoes every message.
pub(crate) struct LoggedEcho;

impl Handler for LoggedEcho {
    type State = ();

    fn open(&mut self, peer: &mut Peer<'_, ()>, address: SocketAddr) {
        log_open(peer.id(), address);
    }

    fn message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        log_message(peer.id(), message);
        Reply::Echo
    }

    fn close(&mut self, id: PeerId, (): (), event: &CloseEvent<'_>) {
        log_close(id, event);
    }

    fn delivery(&self) -> Delivery {
        // A message that is streamed is not seen whole, and could not be logged.
        if log::log_enabled!(log::Level::Debug) { Delivery::Whole } else { Delivery::StreamedEcho }
    }
}

/// Echoes every text message with a prefix, and binary messages as they are.
pub(crate) struct PrefixedEcho {
    prefix: String,
    /// The answer being written; kept for its memory.
    answer: String,
}

impl PrefixedEcho {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), answer: String::new() }
    }
}

impl Handler for PrefixedEcho {
    type State = ();

    fn open(&mut self, peer: &mut Peer<'_, ()>, address: SocketAddr) {
        log_open(peer.id(), address);
    }

    fn message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        log_message(peer.id(), message);
        let Message::Text(text) = message else { return Reply::Echo };
        self.answer.clear();
        self.answer.push_str(&self.prefix);
        self.answer.push_str(&text);
        peer.send(self.answer.as_str());
        Reply::None
    }

    fn close(&mut self, id: PeerId, (): (), event: &CloseEvent<'_>) {
        log_close(id, event);
    }
}

fn log_open(id: PeerId, address: SocketAddr) {
    log::info!("peer {id} connected from {address}");
}

fn log_message(id: PeerId, message: Message<'_>) {
    match message {
        Message::Text(text) => log::debug!("peer {id} sent {text:?}"),
        Message::Binary(bytes) => log::debug!("peer {id} sent {} bytes", bytes.len()),
    }
}

fn log_close(id: PeerId, event: &CloseEvent<'_>) {
    match event.reason {
        "" => log::info!("peer {id} closed with {}: {}", event.code, event.cause),
        reason => log::info!("peer {id} closed with {}: {} ({reason:?})", event.code, event.cause),
    }
}

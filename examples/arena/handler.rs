//! The handler: from requests, inputs and ticks to the state of a room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ws_reactor::{
    CloseCode, CloseEvent, ConnectionInfo, Context, Handler, Message, Peer, PeerId, Reply, Request,
    Response, SlowConsumer, TickEvent, Upgrade,
};

use crate::TICK;
use crate::rooms::{self, Player, Rooms};

/// The page of every room.
const PAGE: &str = include_str!("page.html");

/// The handler of one worker. All of them share the rooms.
///
/// A client sends the direction keys that are held, as a text of up to four of the letters `u`, `d`,
/// `l` and `r`; an empty text if none is. Opposite keys cancel each other out. Another letter ends
/// the connection with 1008, a longer message with 1009, and a binary one with 1003.
///
/// A client receives lines of JSON. First comes `welcome`, with the client's number, the size of the
/// field, the radius of a player and of a coin, and the milliseconds of a tick. Then comes a `state`
/// with each tick: number, x, y and coins collected of each player, and x and y of each coin.
///
/// ```text
/// {"type": "welcome", "player": 2, "field": [800, 600], "radius": [18, 9], "tick": 50}
/// {"type": "state", "players": [[1, 500, 300, 0], [2, 255, 442, 3]], "coins": [[104, 209]]}
/// ```
///
/// A state is complete, so a client that does not keep up gets only the latest one. The first worker
/// publishes all states of a room, so they arrive in order. A state that was on its way to another
/// worker when a player entered may lack that player.
pub(crate) struct Arena {
    rooms: Arc<Mutex<Rooms>>,
    /// Whether this worker moves the players.
    is_first: bool,
}

impl Arena {
    pub(crate) const fn new(rooms: Arc<Mutex<Rooms>>, is_first: bool) -> Self {
        Self { rooms, is_first }
    }

    /// Locks the rooms, also after a callback has panicked: that must not end the other connections.
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Arena {
    type State = Arc<Player>;

    /// `/ROOM` enters a room.
    fn on_request(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<Arc<Player>> {
        match self.rooms().enter(room(request)) {
            Ok(player) => Upgrade::accept(player),
            Err((status, text)) => Upgrade::reject(status, text),
        }
    }

    /// The page, and the health check. A browser does not show a page why its WebSocket was
    /// refused, so the page then asks for the same URL here, and gets the same refusal.
    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        let refusal = match room(request) {
            "healthz" => return Some(Response::text(200, "ok")),
            "" => Ok(()),
            room => self.rooms().check(room),
        };
        Some(match refusal {
            Err((status, text)) => Response::text(status, text),
            Ok(()) => {
                Response::new(200).header("Content-Type", "text/html; charset=utf-8").body(PAGE)
            }
        })
    }

    fn on_open(&mut self, peer: &mut Peer<'_, Arc<Player>>, _: ConnectionInfo<'_>) {
        let player = Arc::clone(peer.state);
        let subscribed = peer.subscribe_with(&player.topic, SlowConsumer::Latest);
        subscribed.expect("one topic, with a short name");
        peer.send(&rooms::welcome(&player, TICK.as_millis()));
    }

    /// Stores the keys without a lock. The next tick moves the player.
    fn on_message(&mut self, peer: &mut Peer<'_, Arc<Player>>, message: Message<'_>) -> Reply {
        match message.as_text().map(|text| peer.state.press(text)) {
            Some(Ok(())) => {}
            Some(Err(reason)) => peer.close(CloseCode::POLICY_VIOLATION, reason),
            None => peer.close(CloseCode::UNSUPPORTED_DATA, "an input is a text"),
        }
        Reply::None
    }

    /// Publishes the state of each room, to its players on all workers.
    fn on_tick(&mut self, context: &mut Context<'_>, _: TickEvent) {
        if self.is_first {
            self.rooms().tick(|topic, state| {
                context.publish(topic, state);
            });
        }
    }

    fn on_close(
        &mut self,
        _: &mut Context<'_>,
        _: PeerId,
        player: Arc<Player>,
        _: &CloseEvent<'_>,
    ) {
        self.rooms().leave(&player);
    }
}

/// The room that a request names: its path without the slash.
fn room<'r>(request: &Request<'r>) -> &'r str {
    request.path().strip_prefix('/').unwrap_or_default()
}

//! The handler: from requests and messages to events of a room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ws_reactor::{
    CloseCode, CloseEvent, ConnectionInfo, Context, Handler, Message, Peer, PeerId, Reply, Request,
    Response, Upgrade,
};

use crate::rooms::{Member, Rooms};

/// The page of every room.
const PAGE: &str = include_str!("page.html");

/// The handler of one worker. All of them share the rooms.
///
/// A client sends the text of a message, and receives lines of JSON:
///
/// ```text
/// {"type": "said", "number": 2, "time": 1764093600, "name": "ada", "text": "hello"}
/// {"type": "welcome", "number": 4, "members": ["ada", "bob"]}
/// {"type": "joined", "number": 5, "time": 1764093602, "name": "bob", "text": ""}
/// ```
///
/// First come the last messages of the room, then `welcome` with the number of the last event, then
/// each event with a greater number exactly once. The members of a room are spread over the workers,
/// so event 7 may arrive before event 6; and an event that is in the history or was counted in
/// `welcome` may arrive again. A client therefore shows number after number, and drops those that
/// it has passed.
pub(crate) struct Chat {
    rooms: Arc<Mutex<Rooms>>,
}

impl Chat {
    pub(crate) const fn new(rooms: Arc<Mutex<Rooms>>) -> Self {
        Self { rooms }
    }

    /// Locks the rooms, also after a callback has panicked: that must not end the other connections.
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Chat {
    type State = Arc<Member>;

    /// `/ROOM?name=NAME` enters a room.
    fn on_request(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<Arc<Member>> {
        let name = name(request).unwrap_or_default();
        match self.rooms().enter(room(request), &name) {
            Ok(member) => Upgrade::accept(Arc::new(member)),
            Err((status, text)) => Upgrade::reject(status, text),
        }
    }

    /// The page, and the health check. A browser does not show a page why its WebSocket was
    /// refused, so the page then asks for the same URL here, and gets the same refusal.
    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        let room = room(request);
        let refusal = match (room, name(request)) {
            ("healthz", _) => return Some(Response::text(200, "ok")),
            ("", _) => Ok(()),
            (_, Some(name)) => self.rooms().check(room, &name),
            (_, None) => self.rooms().check(room, "any"),
        };
        Some(match refusal {
            Err((status, text)) => Response::text(status, text),
            Ok(()) => {
                Response::new(200).header("Content-Type", "text/html; charset=utf-8").body(PAGE)
            }
        })
    }

    fn on_open(&mut self, peer: &mut Peer<'_, Arc<Member>>, _: ConnectionInfo<'_>) {
        let member = Arc::clone(peer.state);
        peer.subscribe(&member.topic).expect("one topic, with a short name");
        let mut rooms = self.rooms();
        for message in rooms.welcome(&member) {
            peer.send_encoded(&message);
        }
        peer.context().publish(&member.topic, rooms.joined(&member));
    }

    fn on_message(&mut self, peer: &mut Peer<'_, Arc<Member>>, message: Message<'_>) -> Reply {
        let Message::Text(text) = message else {
            peer.close(CloseCode::UNSUPPORTED_DATA, "a message is a text");
            return Reply::None;
        };
        if !text.trim().is_empty() {
            let member = Arc::clone(peer.state);
            let said = self.rooms().said(&member, &text);
            // The sender gets it too, at its place among the events of the room.
            peer.context().publish(&member.topic, said);
        }
        Reply::None
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_>,
        _: PeerId,
        member: Arc<Member>,
        _: &CloseEvent<'_>,
    ) {
        if let Some(left) = self.rooms().left(&member) {
            context.publish(&member.topic, left);
        }
    }
}

/// The room that a request names: its path without the slash.
fn room<'r>(request: &Request<'r>) -> &'r str {
    request.path().strip_prefix('/').unwrap_or_default()
}

/// The value of `name` in the query.
fn name(request: &Request<'_>) -> Option<String> {
    let query = request.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == "name").map(|(_, name)| name.into_owned())
}

//! The rooms: who is in them, and their last messages. The workers share one [`Rooms`], in a mutex
//! that a callback locks for as long as it takes to change a room.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use ws_reactor::EncodedMessage;

/// Rooms that are open at the same time.
const ROOMS_MAX: usize = 100;

/// Messages of a room that a newcomer gets.
const HISTORY_MAX: usize = 50;

/// Characters of the name of a room, and of a member.
const NAME_CHARS_MAX: usize = 24;

/// A person in a room: the state of a connection.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) name: String,
    room: String,
    /// The topic of the room's events.
    pub(crate) topic: String,
}

/// The rooms by name. A room is open while it has members.
#[derive(Default)]
pub(crate) struct Rooms {
    open: HashMap<String, Room>,
    /// Rooms opened since the start.
    opened: u64,
}

/// An open room.
///
/// Its events are numbered from 1, because two workers may publish at the same time: their events
/// then reach different members in different order. A client shows them in the order of their
/// numbers.
struct Room {
    topic: String,
    members: BTreeSet<String>,
    /// The number of the last event.
    number: u64,
    /// The last messages, encoded once for all newcomers.
    history: VecDeque<EncodedMessage>,
}

/// The HTTP status and the text for a client that may not enter.
pub(crate) type Refusal = (u16, &'static str);

impl Rooms {
    /// Whether a person with this name may enter.
    pub(crate) fn check(&self, room: &str, name: &str) -> Result<(), Refusal> {
        if !is_name(room) || !room.is_ascii() {
            return Err((404, "the name of a room has 1 to 24 of A-Z, a-z, 0-9, - and _"));
        }
        if !is_name(name) {
            return Err((400, "a name has 1 to 24 letters, digits, - and _"));
        }
        match self.open.get(room) {
            Some(room) if room.members.contains(name) => Err((403, "this name is taken")),
            None if self.open.len() == ROOMS_MAX => Err((503, "too many rooms are open")),
            _ => Ok(()),
        }
    }

    /// Reserves the name, and opens the room for its first member.
    pub(crate) fn enter(&mut self, room: &str, name: &str) -> Result<Member, Refusal> {
        self.check(room, name)?;
        let entered = self.open.entry(room.to_owned()).or_insert_with(|| {
            self.opened += 1;
            Room {
                // Each opening has a topic of its own: an event of an earlier room with this name
                // may still be on its way between two workers.
                topic: format!("{room}#{}", self.opened),
                members: BTreeSet::new(),
                number: 0,
                history: VecDeque::new(),
            }
        });
        entered.members.insert(name.to_owned());
        Ok(Member { name: name.to_owned(), room: room.to_owned(), topic: entered.topic.clone() })
    }

    /// The messages for a newcomer: the history, then the names of all members and the number of
    /// the last event. Events with greater numbers follow through the topic.
    pub(crate) fn welcome(&mut self, member: &Member) -> Vec<EncodedMessage> {
        let room = self.room(member);
        let members = &room.members;
        let welcome = json!({"type": "welcome", "number": room.number, "members": members});
        let welcome = EncodedMessage::from(&welcome.to_string());
        room.history.iter().cloned().chain([welcome]).collect()
    }

    /// The event that a member has joined.
    pub(crate) fn joined(&mut self, member: &Member) -> EncodedMessage {
        self.room(member).event("joined", &member.name, "")
    }

    /// The event that a member has said something. It becomes part of the history.
    pub(crate) fn said(&mut self, member: &Member, text: &str) -> EncodedMessage {
        let room = self.room(member);
        let said = room.event("said", &member.name, text);
        if room.history.len() == HISTORY_MAX {
            room.history.pop_front();
        }
        room.history.push_back(said.clone());
        said
    }

    /// Removes a member, and returns that event. After the last one the room closes, and there is
    /// no event, because there is no reader.
    pub(crate) fn left(&mut self, member: &Member) -> Option<EncodedMessage> {
        let room = self.room(member);
        room.members.remove(&member.name);
        if room.members.is_empty() {
            self.open.remove(&member.room);
            return None;
        }
        Some(room.event("left", &member.name, ""))
    }

    fn room(&mut self, member: &Member) -> &mut Room {
        self.open.get_mut(&member.room).expect("a room is open while it has members")
    }
}

impl Room {
    /// The next event, as a line of JSON.
    fn event(&mut self, kind: &str, name: &str, text: &str) -> EncodedMessage {
        self.number += 1;
        let number = self.number;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let event = json!({
            "type": kind, "number": number, "time": time, "name": name, "text": text,
        });
        EncodedMessage::from(&event.to_string())
    }
}

/// Whether a member may have this name. Letters of every script are allowed, but no spaces and no
/// invisible characters, which would make two names look the same.
fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && name.chars().all(is_allowed)
}

//! The rooms and the rules: players move on a field and collect coins.
//!
//! The workers share one [`Rooms`] in a mutex. It is locked when a player enters or leaves, and once
//! per tick. An input does not lock it: a [`Player`] holds the keys in atomic integers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::json;

/// Rooms that are open at the same time.
const ROOMS_MAX: usize = 100;

/// Players of a room.
const PLAYERS_MAX: usize = 16;

/// Characters of the name of a room.
const NAME_CHARS_MAX: usize = 24;

/// Coins on the field.
const COINS: usize = 6;

/// Width and height of the field. Lengths are in pixels of a field of this size.
const FIELD: [i32; 2] = [800, 600];

const PLAYER_RADIUS: i32 = 18;
const COIN_RADIUS: i32 = 9;

/// Coins and new players are at least this far from each edge.
const MARGIN: i32 = 72;

/// Length of a step, per tick: 240 pixels per second.
const STEP: i32 = 12;

/// The same length along the diagonal: 12 divided by the square root of 2.
const DIAGONAL_STEP: i32 = 8;

/// The keys, each with the direction of its step.
const KEYS: [(u8, [i32; 2]); 4] =
    [(b'u', [0, -1]), (b'd', [0, 1]), (b'l', [-1, 0]), (b'r', [1, 0])];

/// Bytes of an input: each key once.
pub(crate) const INPUT_BYTES_MAX: usize = KEYS.len();

/// A player: the state of a connection. The worker of the connection writes the keys, and the first
/// worker reads them.
#[derive(Debug, Default)]
pub(crate) struct Player {
    /// Counted from 1 in each room.
    number: u64,
    room: String,
    /// The topic of the room's states.
    pub(crate) topic: String,
    /// The keys that are held: bit 0 for the first of `KEYS`.
    held: AtomicU8,
    /// The keys that were held at some time since the last tick. So a short press moves the player.
    pressed: AtomicU8,
}

/// The rooms by name. A room is open while it has players.
#[derive(Default)]
pub(crate) struct Rooms {
    open: HashMap<String, Room>,
    /// Rooms opened since the start.
    opened: u64,
}

/// An open room.
struct Room {
    topic: String,
    players: Vec<Figure>,
    coins: [Place; COINS],
    /// Players that have entered so far.
    entered: u64,
    /// Places chosen so far.
    chosen: u64,
}

/// A player on the field.
struct Figure {
    player: Arc<Player>,
    place: Place,
    coins: u32,
}

/// The distances from the left and from the top.
type Place = [i32; 2];

/// The HTTP status and the text for a client that may not enter.
pub(crate) type Refusal = (u16, &'static str);

/// The first message to a player. `tick` is in milliseconds.
pub(crate) fn welcome(player: &Player, tick: u128) -> String {
    json!({
        "type": "welcome", "player": player.number, "field": FIELD,
        "radius": [PLAYER_RADIUS, COIN_RADIUS], "tick": tick as u64,
    })
    .to_string()
}

impl Player {
    /// Sets the keys that are held.
    pub(crate) fn press(&self, input: &str) -> Result<(), &'static str> {
        let bit = |key| KEYS.iter().position(|(known, _)| *known == key).map(|at| 1 << at);
        let held = input.bytes().try_fold(0, |held, key| Some(held | bit(key)?));
        let held = held.ok_or("an input has only the letters u, d, l and r")?;
        // `Relaxed`, because the keys are independent of other data.
        self.held.store(held, Ordering::Relaxed);
        self.pressed.fetch_or(held, Ordering::Relaxed);
        Ok(())
    }

    /// The step of the next tick.
    fn step(&self) -> [i32; 2] {
        let keys = self.pressed.swap(0, Ordering::Relaxed) | self.held.load(Ordering::Relaxed);
        let mut step = [0, 0];
        for (at, (_, direction)) in KEYS.iter().enumerate() {
            if keys >> at & 1 == 1 {
                step = [step[0] + direction[0], step[1] + direction[1]];
            }
        }
        let length = if step.contains(&0) { STEP } else { DIAGONAL_STEP };
        step.map(|axis| axis * length)
    }
}

impl Rooms {
    /// Whether a player may enter.
    pub(crate) fn check(&self, room: &str) -> Result<(), Refusal> {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if !(1..=NAME_CHARS_MAX).contains(&room.len()) || !room.bytes().all(is_allowed) {
            return Err((404, "the name of a room has 1 to 24 of A-Z, a-z, 0-9, - and _"));
        }
        match self.open.get(room) {
            Some(room) if room.players.len() == PLAYERS_MAX => Err((503, "the room is full")),
            None if self.open.len() == ROOMS_MAX => Err((503, "too many rooms are open")),
            _ => Ok(()),
        }
    }

    /// Puts a player on the field, and opens the room for its first player.
    pub(crate) fn enter(&mut self, name: &str) -> Result<Arc<Player>, Refusal> {
        self.check(name)?;
        let room = self.open.entry(name.to_owned()).or_insert_with(|| {
            self.opened += 1;
            // Each opening has a topic of its own: a state of an earlier room with this name may
            // still be on its way between two workers.
            Room::new(format!("{name}#{}", self.opened))
        });
        room.entered += 1;
        let player = Arc::new(Player {
            number: room.entered,
            room: name.to_owned(),
            topic: room.topic.clone(),
            ..Player::default()
        });
        let place = room.choose_place();
        room.players.push(Figure { player: Arc::clone(&player), place, coins: 0 });
        Ok(player)
    }

    /// Removes a player. After the last one the room closes.
    pub(crate) fn leave(&mut self, player: &Player) {
        let Some(room) = self.open.get_mut(&player.room) else { return };
        room.players.retain(|figure| figure.player.number != player.number);
        if room.players.is_empty() {
            self.open.remove(&player.room);
        }
    }

    /// Moves all players, and calls `publish` with the topic and the state of each room.
    pub(crate) fn tick(&mut self, mut publish: impl FnMut(&str, &str)) {
        for room in self.open.values_mut() {
            room.tick();
            publish(&room.topic, &room.state());
        }
    }
}

impl Room {
    fn new(topic: String) -> Self {
        let mut room =
            Self { topic, players: Vec::new(), coins: [[0, 0]; COINS], entered: 0, chosen: 0 };
        room.coins = room.coins.map(|_| room.choose_place());
        room
    }

    /// Moves each player by a step, in the order of their numbers, and replaces collected coins.
    fn tick(&mut self) {
        for at in 0..self.players.len() {
            let figure = &mut self.players[at];
            let step = figure.player.step();
            for (axis, length) in FIELD.into_iter().enumerate() {
                let target = figure.place[axis] + step[axis];
                figure.place[axis] = target.clamp(PLAYER_RADIUS, length - PLAYER_RADIUS);
            }
            for coin in 0..COINS {
                if touches(self.players[at].place, self.coins[coin]) {
                    self.players[at].coins += 1;
                    self.coins[coin] = self.choose_place();
                }
            }
        }
    }

    fn state(&self) -> String {
        let figure = |it: &Figure| json!([it.player.number, it.place[0], it.place[1], it.coins]);
        let players: Vec<_> = self.players.iter().map(figure).collect();
        json!({"type": "state", "players": players, "coins": self.coins}).to_string()
    }

    /// The next place of a sequence that covers the field evenly: multiples of two irrational
    /// numbers, without their whole parts. No two early ones are near each other.
    fn choose_place(&mut self) -> Place {
        self.chosen += 1;
        let [x, y] = [0.754_877_666, 0.569_840_291].map(|it| self.chosen as f64 * it % 1.0);
        let [width, height] = FIELD.map(|length| f64::from(length - 2 * MARGIN));
        [x * width, y * height].map(|distance| distance as i32 + MARGIN)
    }
}

/// Whether a player at `player` reaches a coin at `coin`.
fn touches(player: Place, coin: Place) -> bool {
    let [x, y] = [player[0] - coin[0], player[1] - coin[1]];
    x * x + y * y < (PLAYER_RADIUS + COIN_RADIUS).pow(2)
}

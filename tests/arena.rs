//! Runs the arena example as a process: rooms on several workers, movement, coins, the page.

mod support;

use std::net::SocketAddr;

use serde_json::Value;
use support::client::{Client, dial, exchange, refused, request, upgrade, wait_until};
use support::programs::{Program, listening, refuses_unusable_options, terminate};
use tungstenite::Message;

/// The field and the radius of a player, see the `welcome`.
const FIELD: [i64; 2] = [800, 600];
const RADIUS: i64 = 18;

/// States without an expected change after which a test fails: in them a player could cross the field
/// fifteen times.
const STATES_MAX: usize = 1000;

/// A player on the field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Figure {
    number: i64,
    place: [i64; 2],
    coins: i64,
}

/// A player's connection.
struct Player {
    client: Client,
    number: i64,
}

impl Player {
    #[track_caller]
    fn enter(address: SocketAddr, room: &str) -> Self {
        let (client, _) = upgrade(dial(address), request(address, &format!("/{room}"), &[]));
        let mut player = Self { client, number: 0 };
        let welcome = player.receive();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        assert_eq!(welcome["field"], Value::from(&FIELD[..]));
        assert_eq!(welcome["radius"][0], RADIUS);
        assert_eq!(welcome["tick"], 50);
        player.number = integer(&welcome["player"]);
        let number = player.number;
        player.wait(|players, _| players.iter().any(|other| other.number == number));
        player
    }

    #[track_caller]
    fn receive(&mut self) -> Value {
        let message = loop {
            match self.client.read().expect("a message") {
                Message::Text(text) => break text,
                Message::Ping(_) => {}
                other => panic!("not a text: {other:?}"),
            }
        };
        serde_json::from_str(&message).unwrap_or_else(|error| panic!("{message}: {error}"))
    }

    /// The players and the coins of the next state.
    #[track_caller]
    fn state(&mut self) -> (Vec<Figure>, Vec<[i64; 2]>) {
        let state = self.receive();
        assert_eq!(state["type"], "state", "{state}");
        let list = |key: &str| state[key].as_array().expect("a list").clone();
        let pair = |it: &Value, first: usize| [integer(&it[first]), integer(&it[first + 1])];
        let figure = |it: &Value| {
            let [number, coins] = [integer(&it[0]), integer(&it[3])];
            Figure { number, place: pair(it, 1), coins }
        };
        let coins = list("coins").iter().map(|it| pair(it, 0)).collect();
        (list("players").iter().map(figure).collect(), coins)
    }

    /// Waits for a state that satisfies `condition`.
    #[track_caller]
    fn wait(&mut self, condition: impl Fn(&[Figure], &[[i64; 2]]) -> bool) {
        for _ in 0..STATES_MAX {
            let (players, coins) = self.state();
            if condition(&players, &coins) {
                return;
            }
        }
        panic!("no such state");
    }

    #[track_caller]
    fn wait_for_players(&mut self, numbers: &[i64]) {
        self.wait(|players, _| players.iter().map(|it| it.number).eq(numbers.iter().copied()));
    }

    /// This player in the next state.
    #[track_caller]
    fn figure(&mut self) -> Figure {
        let (players, _) = self.state();
        *players.iter().find(|it| it.number == self.number).expect("this player")
    }

    /// Waits until this player has moved, and returns the step.
    #[track_caller]
    fn first_step(&mut self, before: Figure) -> ([i64; 2], Figure) {
        for _ in 0..STATES_MAX {
            let after = self.figure();
            if after.place != before.place {
                return (difference(before, after), after);
            }
        }
        panic!("the player does not move");
    }

    /// Waits until two states have this player at the same place.
    #[track_caller]
    fn rest(&mut self) -> Figure {
        let mut before = self.figure();
        loop {
            let after = self.figure();
            if before.place == after.place {
                return after;
            }
            before = after;
        }
    }

    #[track_caller]
    fn hold(&mut self, keys: &str) {
        self.client.send(Message::text(keys)).expect("the server reads");
    }

    #[track_caller]
    fn leave(mut self) {
        self.client.close(None).expect("the server reads");
        while let Ok(message) = self.client.read() {
            assert!(message.is_text() || message.is_ping() || message.is_close(), "{message:?}");
        }
    }

    /// Expects this close frame. States may arrive before it.
    #[track_caller]
    fn expect_close(mut self, code: u16, reason: &str) {
        for _ in 0..STATES_MAX {
            match self.client.read().expect("a close frame") {
                Message::Text(_) | Message::Ping(_) => {}
                Message::Close(Some(frame)) => {
                    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (code, reason));
                    return;
                }
                other => panic!("not a close frame: {other:?}"),
            }
        }
        panic!("no close frame");
    }
}

fn integer(value: &Value) -> i64 {
    value.as_i64().expect("an integer")
}

fn difference(before: Figure, after: Figure) -> [i64; 2] {
    [after.place[0] - before.place[0], after.place[1] - before.place[1]]
}

fn arena(arguments: &str) -> (Program, SocketAddr) {
    let arena = Program::start("arena", &format!("--addr 127.0.0.1:0 {arguments}"));
    let address = listening(&arena);
    (arena, address)
}

fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

fn may_enter(address: SocketAddr, path: &str) -> bool {
    get(address, path).starts_with("HTTP/1.1 200 ")
}

/// With three workers, eight players are very probably on all of them.
#[test]
fn players_on_several_workers_see_each_other_move_and_leave() {
    for workers in [1, 3] {
        let (arena, address) = arena(&format!("--workers {workers}"));
        let mut players: Vec<_> = (0..8).map(|_| Player::enter(address, "lobby")).collect();
        for player in &mut players {
            player.wait_for_players(&[1, 2, 3, 4, 5, 6, 7, 8]);
        }
        // Each to another place at an edge of the field.
        for (player, keys) in players.iter_mut().zip(["l", "r", "u", "d", "ul", "ur", "dl", "dr"]) {
            player.hold(keys);
        }
        let [right, bottom] = FIELD.map(|length| length - RADIUS);
        for player in &mut players {
            player.wait(|all, _| {
                let [x, y] = [0, 1].map(|axis| move |number: usize| all[number - 1].place[axis]);
                (x(1), x(2), y(3), y(4)) == (RADIUS, right, RADIUS, bottom)
                    && [x(5), y(5), x(6), y(6)] == [RADIUS, RADIUS, right, RADIUS]
                    && [x(7), y(7), x(8), y(8)] == [RADIUS, bottom, right, bottom]
            });
        }
        players.remove(6).leave();
        players.remove(0).leave();
        for player in &mut players {
            player.wait_for_players(&[2, 3, 4, 5, 6, 8]);
        }
        drop(players);
        let ended = terminate(arena);
        let listening = format!("listening on {address} ({workers} workers)");
        assert_eq!(ended.stdout, [listening, format!("open http://{address}/")]);
    }
}

#[test]
fn a_held_key_moves_a_player_by_one_step_per_state() {
    let (arena, address) = arena("--workers 2");
    for (keys, step) in [
        ("r", [12, 0]),
        ("l", [-12, 0]),
        ("d", [0, 12]),
        ("u", [0, -12]),
        ("dr", [8, 8]),
        ("lu", [-8, -8]),
        ("lrd", [0, 12]),
        ("uu", [0, -12]),
    ] {
        let mut player = Player::enter(address, keys);
        let before = player.figure();
        player.hold(keys);
        let (first, mut before) = player.first_step(before);
        assert_eq!(first, step, "{keys}");
        for _ in 0..3 {
            let after = player.figure();
            assert_eq!(difference(before, after), step, "{keys}");
            before = after;
        }
    }
    let mut player = Player::enter(address, "lobby");
    let before = player.figure();
    player.hold("udlr");
    player.hold("");
    // The step of the next input shows that the inputs before it had no effect.
    player.hold("r");
    assert_eq!(player.first_step(before).0, [12, 0]);
    drop(player);
    terminate(arena);
}

#[test]
fn a_press_between_two_ticks_moves_a_player() {
    let (arena, address) = arena("--workers 2");
    let mut player = Player::enter(address, "lobby");
    for _ in 0..5 {
        let before = player.rest();
        player.hold("d");
        player.hold("");
        let (step, _) = player.first_step(before);
        assert_eq!(step, [0, 12]);
    }
    drop(player);
    terminate(arena);
}

#[test]
fn a_player_collects_a_coin_by_touching_it() {
    let (arena, address) = arena("--workers 2");
    let mut player = Player::enter(address, "lobby");
    let mut other = Player::enter(address, "lobby");
    let (_, coins) = player.state();
    assert_eq!(coins.len(), 6);
    let target = coins[3];
    loop {
        let (players, now) = player.state();
        let own = players[0];
        if now[3] != target {
            assert!(own.coins > 0);
            let [x, y] = [own.place[0] - target[0], own.place[1] - target[1]];
            assert!(x * x + y * y < 27 * 27, "{own:?} does not touch {target:?}");
            break;
        }
        // The length of a diagonal step, so that the player does not oscillate around the coin.
        let keys = [("l", "r", 0), ("u", "d", 1)].map(|(less, more, axis)| {
            match target[axis] - own.place[axis] {
                ..=-8 => less,
                8.. => more,
                _ => "",
            }
        });
        player.hold(&keys.concat());
    }
    other.wait(|players, coins| players[0].coins > 0 && coins[3] != target);
    drop((player, other));
    terminate(arena);
}

#[test]
fn rooms_are_separate_and_close_after_their_last_player() {
    let (arena, address) = arena("--workers 3");
    let mut ada = Player::enter(address, "lobby");
    let mut bob = Player::enter(address, "elsewhere");
    assert_eq!((ada.number, bob.number), (1, 1));
    ada.wait_for_players(&[1]);
    bob.wait_for_players(&[1]);
    let eve = Player::enter(address, "lobby");
    assert_eq!(eve.number, 2);
    ada.leave();
    eve.leave();
    // A room that has closed starts again with its first player.
    wait_until("the room has closed", || {
        let player = Player::enter(address, "lobby");
        let number = player.number;
        player.leave();
        number == 1
    });
    bob.wait_for_players(&[1]);
    drop(bob);
    terminate(arena);
}

#[test]
fn bad_inputs_end_the_connection_with_a_reason() {
    let (arena, address) = arena("--workers 2");
    let mut ada = Player::enter(address, "lobby");
    for (input, code, reason) in [
        (Message::text("x"), 1008, "an input has only the letters u, d, l and r"),
        (Message::text("U"), 1008, "an input has only the letters u, d, l and r"),
        (Message::text("é"), 1008, "an input has only the letters u, d, l and r"),
        (Message::binary(vec![b'u']), 1003, "an input is a text"),
    ] {
        let mut bob = Player::enter(address, "lobby");
        bob.client.send(input).expect("the server reads");
        bob.expect_close(code, reason);
        ada.wait_for_players(&[1]);
    }
    let (mut client, _) = upgrade(dial(address), request(address, "/alone", &[]));
    client.read().expect("the welcome");
    client.send(Message::text("udlru")).expect("the server reads");
    let long = Player { client, number: 1 };
    long.expect_close(1009, "");
    drop(ada);
    terminate(arena);
}

#[test]
fn a_room_has_at_most_16_players() {
    let (arena, address) = arena("--workers 2");
    let mut players: Vec<_> = (0..16).map(|_| Player::enter(address, "lobby")).collect();
    assert_eq!(refused(dial(address), request(address, "/lobby", &[])), 503);
    assert!(get(address, "/lobby").ends_with("\r\n\r\nthe room is full\n"));
    players.remove(5).leave();
    wait_until("a player has left", || may_enter(address, "/lobby"));
    assert_eq!(Player::enter(address, "lobby").number, 17);
    drop(players);
    terminate(arena);
}

#[test]
fn at_most_100_rooms_are_open() {
    let (arena, address) = arena("--workers 1");
    let mut players: Vec<_> =
        (0..100).map(|room| Player::enter(address, &format!("room-{room}"))).collect();
    assert_eq!(refused(dial(address), request(address, "/another", &[])), 503);
    assert!(get(address, "/another").ends_with("\r\n\r\ntoo many rooms are open\n"));
    Player::enter(address, "room-0").leave();
    players.remove(1).leave();
    wait_until("a room has closed", || may_enter(address, "/another"));
    players.push(Player::enter(address, "another"));
    drop(players);
    terminate(arena);
}

#[test]
fn the_page_and_the_health_check_are_on_the_same_port() {
    let (arena, address) = arena("--workers 1");
    for path in ["/", "/lobby", "/Room_1-a"] {
        let answer = get(address, path);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("Content-Type: text/html; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("\r\n\r\n<!doctype html>\n<html lang=\"en\">"), "{answer}");
    }
    assert!(get(address, "/healthz").ends_with("\r\n\r\nok\n"));
    for path in ["/favicon.ico", "/a/b", "/%61", "/a234567890123456789012345"] {
        let answer = get(address, path);
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert!(answer.contains("\r\n\r\nthe name of a room has 1 to 24 of A-Z"), "{answer}");
        assert_eq!(refused(dial(address), request(address, path, &[])), 404, "{path}");
    }
    assert_eq!(refused(dial(address), request(address, "/", &[])), 404);
    terminate(arena);
}

#[test]
fn sigint_tells_every_player_that_the_server_shuts_down() {
    let (arena, address) = arena("--workers 2");
    let player = Player::enter(address, "lobby");
    arena.signal("INT");
    player.expect_close(1001, "the server is shutting down");
    assert_eq!(arena.wait().status.code(), Some(0));
}

#[test]
fn an_address_in_use_and_wrong_options_exit_with_2() {
    refuses_unusable_options("arena");
}

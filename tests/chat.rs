//! Runs the chat example as a process: rooms on several workers, names, the history, the page.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use serde_json::Value;
use support::client::{
    Client, dial, exchange, refused, request, upgrade, wait_until, writing_half,
};
use support::programs::{Program, listening, refuses_unusable_options, terminate};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

/// A person in a room, who handles the events as the page does.
struct Person {
    client: Client,
    /// The number of the next event.
    next: u64,
    /// Events that arrived before those with smaller numbers.
    early: BTreeMap<u64, Value>,
}

impl Person {
    /// Enters a room: returns the person, the texts of the history and the members.
    #[track_caller]
    fn enter(address: SocketAddr, room: &str, name: &str) -> (Self, Vec<String>, Vec<String>) {
        let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let path = format!("/{room}?name={encoded}");
        let (client, _) = upgrade(dial(address), request(address, &path, &[]));
        let mut person = Self { client, next: 0, early: BTreeMap::new() };
        let mut history = Vec::new();
        let welcome = loop {
            let event = person.receive();
            if event["type"] == "welcome" {
                break event;
            }
            assert_eq!(event["type"], "said", "{event}");
            history.push(text(&event["text"]));
        };
        person.next = welcome["number"].as_u64().expect("a number") + 1;
        let members = welcome["members"].as_array().expect("a list").iter().map(text).collect();
        person.expect("joined", name, "");
        (person, history, members)
    }

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

    /// The next event in the order of the numbers.
    fn event(&mut self) -> Value {
        loop {
            if let Some(event) = self.early.remove(&self.next) {
                self.next += 1;
                return event;
            }
            let event = self.receive();
            let number = event["number"].as_u64().expect("a number");
            if number >= self.next {
                let before = self.early.insert(number, event);
                assert_eq!(before, None, "an event arrives once");
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, kind: &str, name: &str, text: &str) {
        let event = self.event();
        let found = [&event["type"], &event["name"], &event["text"]];
        assert_eq!(found, [kind, name, text], "{event}");
        assert!(event["time"].as_u64() > Some(1_700_000_000), "{event}");
    }

    #[track_caller]
    fn say(&mut self, text: &str) {
        self.client.send(Message::text(text)).expect("the server reads");
    }

    #[track_caller]
    fn leave(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.client.close(Some(frame)).expect("the server reads");
        assert_eq!(self.closed(), CloseCode::Normal);
    }

    /// The code of the server's close frame. Events may arrive before it.
    #[track_caller]
    fn closed(mut self) -> CloseCode {
        loop {
            match self.client.read().expect("a close frame") {
                Message::Text(_) | Message::Ping(_) => {}
                Message::Close(Some(frame)) => return frame.code,
                other => panic!("not a close frame: {other:?}"),
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn chat(arguments: &str) -> (Program, SocketAddr) {
    let chat = Program::start("chat", &format!("--addr 127.0.0.1:0 {arguments}"));
    let address = listening(&chat);
    (chat, address)
}

fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// Whether the server would let a client enter now.
fn may_enter(address: SocketAddr, path: &str) -> bool {
    get(address, path).starts_with("HTTP/1.1 200 ")
}

#[test]
fn two_people_talk_and_one_is_told_that_the_other_left() {
    for workers in [1, 3] {
        let (chat, address) = chat(&format!("--workers {workers}"));
        let (mut ada, history, members) = Person::enter(address, "lobby", "ada");
        assert_eq!((history, members), (vec![], vec!["ada".to_owned()]));
        let (mut bob, history, members) = Person::enter(address, "lobby", "bob");
        assert_eq!((history, members), (vec![], vec!["ada".to_owned(), "bob".to_owned()]));
        ada.expect("joined", "bob", "");
        for line in ["hello, bob", "\"quotes\" \\ \u{1} \u{2028} 世界 <b>", " spaces "] {
            ada.say(line);
            ada.expect("said", "ada", line);
            bob.expect("said", "ada", line);
        }
        bob.say(" \t ");
        bob.say("hello, ada");
        ada.expect("said", "bob", "hello, ada");
        bob.leave();
        ada.expect("left", "bob", "");
        ada.leave();
        let ended = terminate(chat);
        let listening = format!("listening on {address} ({workers} workers)");
        assert_eq!(ended.stdout, [listening, format!("open http://{address}/")]);
    }
}

#[test]
fn a_newcomer_gets_the_last_50_messages_in_order() {
    let (chat, address) = chat("--workers 3");
    let (mut ada, ..) = Person::enter(address, "lobby", "ada");
    let (mut bob, ..) = Person::enter(address, "lobby", "bob");
    ada.expect("joined", "bob", "");
    for number in 0..60 {
        let speaker = if number % 2 == 0 { "ada" } else { "bob" };
        if number % 2 == 0 { &mut ada } else { &mut bob }.say(&number.to_string());
        ada.expect("said", speaker, &number.to_string());
        bob.expect("said", speaker, &number.to_string());
    }
    let (eve, history, members) = Person::enter(address, "lobby", "eve");
    let expected: Vec<_> = (10..60).map(|number| number.to_string()).collect();
    assert_eq!(history, expected);
    assert_eq!(members, ["ada", "bob", "eve"]);
    let (max, history, members) = Person::enter(address, "elsewhere", "ada");
    assert_eq!((history, members), (vec![], vec!["ada".to_owned()]), "rooms are separate");
    for person in [ada, bob, eve, max] {
        person.leave();
    }
    terminate(chat);
}

/// People on all workers speak at the same time, while others enter. For everyone, the history and
/// the events together are all messages, once each and in the same order.
#[test]
fn everyone_gets_the_same_messages_in_the_same_order() {
    const PEOPLE: usize = 6;
    const NEWCOMERS: usize = 6;
    const MESSAGES: usize = 100;
    let (chat, address) = chat("--workers 3");
    let speakers: Vec<_> = (0..PEOPLE)
        .map(|number| Person::enter(address, "lobby", &format!("speaker-{number}")).0)
        .collect();
    let writers: Vec<_> = speakers.iter().map(|person| writing_half(&person.client)).collect();
    let said = |person: &mut Person, heard: usize| {
        let mut texts = Vec::new();
        while texts.len() < heard {
            let event = person.event();
            if event["type"] == "said" {
                texts.push(text(&event["text"]));
            }
        }
        texts
    };
    let logs = thread::scope(|scope| {
        let speaking: Vec<_> = (0..)
            .zip(writers)
            .map(|(number, mut writer)| {
                scope.spawn(move || {
                    for message in 0..MESSAGES {
                        let line = Message::text(format!("{number} {message}"));
                        writer.send(line).expect("the server reads");
                    }
                })
            })
            .collect();
        let listening: Vec<_> = speakers
            .into_iter()
            .map(|mut person| scope.spawn(move || (said(&mut person, PEOPLE * MESSAGES), person)))
            .collect();
        let entering: Vec<_> = (0..NEWCOMERS)
            .map(|number| Person::enter(address, "lobby", &format!("newcomer-{number}")))
            .collect();
        speaking.into_iter().for_each(|thread| thread.join().expect("it speaks"));
        let mut logs: Vec<_> =
            listening.into_iter().map(|thread| thread.join().expect("it listens")).collect();
        let all = logs[0].0.clone();
        for (mut person, history, _) in entering {
            let place = |first| all.iter().position(|text| text == first).expect("it was said");
            let skipped = history.first().map_or(0, place);
            let rest = all.len() - skipped - history.len();
            let texts = [history, said(&mut person, rest)].concat();
            assert_eq!(texts, all[skipped..]);
            logs.push((all.clone(), person));
        }
        logs
    });
    for (texts, _) in &logs {
        assert_eq!(*texts, logs[0].0);
    }
    for number in 0..PEOPLE {
        let start = format!("{number} ");
        let own = logs[0].0.iter().filter(|text| text.starts_with(&start));
        assert!(
            own.eq(&(0..MESSAGES).map(|message| format!("{start}{message}")).collect::<Vec<_>>())
        );
    }
    logs.into_iter().for_each(|(_, person)| person.leave());
    terminate(chat);
}

#[test]
fn bad_and_taken_names_are_refused_with_a_reason() {
    let (chat, address) = chat("--workers 2");
    let (ada, ..) = Person::enter(address, "lobby", "ada");
    for (path, status, reason) in [
        ("/lobby?name=ada", 403, "this name is taken"),
        ("/lobby?x=y&name=%61d%61", 403, "this name is taken"),
        ("/lobby?name=", 400, "a name has 1 to 24 letters"),
        ("/lobby?name=a+b", 400, "a name has 1 to 24 letters"),
        ("/lobby?name=%FF", 400, "a name has 1 to 24 letters"),
        ("/lobby?name=%E2%80%8B", 400, "a name has 1 to 24 letters"),
        ("/lobby?name=a234567890123456789012345", 400, "a name has 1 to 24 letters"),
        ("/a/b?name=ada", 404, "the name of a room has 1 to 24 of A-Z"),
        ("/%61?name=ada", 404, "the name of a room has 1 to 24 of A-Z"),
        ("/a234567890123456789012345?name=ada", 404, "the name of a room has 1 to 24 of A-Z"),
    ] {
        assert_eq!(refused(dial(address), request(address, path, &[])), status, "{path}");
        let answer = get(address, path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(body.starts_with(reason), "{path}: {answer}");
    }
    assert_eq!(refused(dial(address), request(address, "/lobby", &[])), 400, "a name is required");
    assert_eq!(refused(dial(address), request(address, "/?name=ada", &[])), 404);
    ada.leave();
    wait_until("the name is free", || may_enter(address, "/lobby?name=ada"));
    let (mut ada, history, _) = Person::enter(address, "lobby", "ada");
    assert_eq!(history, [""; 0], "the room had closed");
    let (bob, ..) = Person::enter(address, "lobby", "世-B_0");
    ada.expect("joined", "世-B_0", "");
    bob.leave();
    ada.leave();
    terminate(chat);
}

#[test]
fn at_most_100_rooms_are_open() {
    let (chat, address) = chat("--workers 1");
    let mut people: Vec<_> =
        (0..100).map(|room| Person::enter(address, &format!("room-{room}"), "ada").0).collect();
    assert_eq!(refused(dial(address), request(address, "/another?name=ada", &[])), 503);
    let (bob, ..) = Person::enter(address, "room-0", "bob");
    bob.leave();
    people.remove(1).leave();
    wait_until("a room has closed", || may_enter(address, "/another?name=ada"));
    people.push(Person::enter(address, "another", "ada").0);
    people.into_iter().for_each(Person::leave);
    terminate(chat);
}

#[test]
fn long_and_binary_messages_end_the_connection() {
    let (chat, address) = chat("--workers 2");
    let (mut ada, ..) = Person::enter(address, "lobby", "ada");
    let longest = "\u{1}".repeat(2000);
    ada.say(&longest);
    ada.expect("said", "ada", &longest);
    for (message, code) in [
        (Message::binary(vec![1]), CloseCode::Unsupported),
        (Message::text("a".repeat(2001)), CloseCode::Size),
    ] {
        let (mut bob, ..) = Person::enter(address, "lobby", "bob");
        ada.expect("joined", "bob", "");
        bob.client.send(message).expect("the server reads");
        assert_eq!(bob.closed(), code);
        ada.expect("left", "bob", "");
    }
    ada.leave();
    terminate(chat);
}

#[test]
fn the_page_and_the_health_check_are_on_the_same_port() {
    let (chat, address) = chat("--workers 1");
    for path in ["/", "/lobby", "/lobby?name=ada"] {
        let answer = get(address, path);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("Content-Type: text/html; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("\r\n\r\n<!doctype html>\n<html lang=\"en\">"), "{answer}");
    }
    assert!(get(address, "/healthz").ends_with("\r\n\r\nok\n"));
    assert!(get(address, "/favicon.ico").starts_with("HTTP/1.1 404 "));
    terminate(chat);
}

#[test]
fn sigint_tells_everyone_that_the_server_shuts_down() {
    let (chat, address) = chat("--workers 2");
    let (ada, ..) = Person::enter(address, "lobby", "ada");
    chat.signal("INT");
    assert_eq!(ada.closed(), CloseCode::Away);
    assert_eq!(chat.wait().status.code(), Some(0));
}

#[test]
fn an_address_in_use_and_wrong_options_exit_with_2() {
    refuses_unusable_options("chat");
}

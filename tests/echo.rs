//! Echoes over real sockets: every message comes back unchanged, for every size and fragmentation.
//!
//! The client is tungstenite. A batch larger than the kernel's buffers is written and read by two
//! threads: a client that writes everything before it reads would deadlock.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use support::client::{
    Client, ask, close, connect, expect_bytes, expect_close, open_raw, wait_until, writing_half,
};
use support::frames;
use support::messages::{random_fragments, random_len, random_message};
use support::rng::{Rng, seed};
use support::servers::{LOCAL, address, local, serve, serve_with, stop};
use tungstenite::Message;
use ws_reactor::{Address, Config, ConnectionInfo, Echo, Handler, Peer, Reply, Server};

const MIB: usize = 1024 * 1024;

/// Echoes text with a prefix.
struct Prefixed {
    prefix: &'static str,
}

impl Handler for Prefixed {
    type State = ();

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: ws_reactor::Message<'_>) -> Reply {
        match message {
            ws_reactor::Message::Text(text) => {
                peer.send(format!("{}{text}", self.prefix).as_str());
                Reply::None
            }
            ws_reactor::Message::Binary(_) => Reply::Echo,
        }
    }
}

/// Sends each client the number of its worker.
struct Numbered(usize);

impl Handler for Numbered {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        peer.send(self.0.to_string().as_str());
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
        Reply::Echo
    }
}

/// The messages of a connection: the first has the maximum length, the others are random.
fn messages(seed: u64, count: usize) -> impl Iterator<Item = Message> {
    let mut rng = Rng::new(seed);
    (0..count).map(move |index| {
        let len = if index == 0 { MIB } else { random_len(&mut rng, MIB) };
        random_message(&mut rng, len)
    })
}

/// Writes the messages without waiting, a third of them in fragments with pings in between.
fn write_messages(client: &mut Client, seed: u64, count: usize) {
    let mut rng = Rng::new(!seed);
    for message in messages(seed, count) {
        if rng.below(3) > 0 {
            client.write(message).expect("the server reads");
            continue;
        }
        for frame in random_fragments(&mut rng, &message, 9) {
            // Before a frame, so that the pong precedes the end of the message's echo.
            if rng.below(4) == 0 {
                client.write(Message::Ping(rng.bytes(5).into())).expect("the server reads");
            }
            client.write(frame).expect("the server reads");
        }
        if rng.below(4) == 0 {
            client.flush().expect("the server reads");
        }
    }
    client.flush().expect("the server reads");
}

/// Reads the next message other than a pong.
fn read_message(client: &mut Client) -> Message {
    loop {
        match client.read().expect("the server echoes") {
            Message::Pong(payload) => assert_eq!(payload.len(), 5, "{payload:?}"),
            message => return message,
        }
    }
}

#[track_caller]
fn assert_same(message: &Message, expected: &Message, name: &str) {
    // Do not print the messages, which may be a mebibyte.
    assert!(
        message == expected,
        "{name}: {} bytes instead of {}, text: {} instead of {}",
        message.len(),
        expected.len(),
        message.is_text(),
        expected.is_text()
    );
}

#[test]
fn thousands_of_random_messages_are_echoed_exactly() {
    const CLIENTS: u64 = 5;
    const MESSAGES: usize = 500;
    let seed = seed();
    let server = serve(2, || Echo);
    let address = address(&server);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            thread::spawn(move || {
                let seed = seed.wrapping_add(number);
                let mut client = connect(address);
                let mut writer = writing_half(&client);
                let writer = thread::spawn(move || write_messages(&mut writer, seed, MESSAGES));
                for (index, expected) in messages(seed, MESSAGES).enumerate() {
                    let name = format!("client {number}, message {index}");
                    assert_same(&read_message(&mut client), &expected, &name);
                }
                writer.join().expect("everything is written");
                close(client);
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every echo is right");
    }
    let stats = stop(&server);
    assert_eq!(stats.messages_in, CLIENTS * MESSAGES as u64);
    assert_eq!((stats.messages_out, stats.bytes_out), (stats.messages_in, stats.bytes_in));
}

#[test]
fn pipelined_small_messages_keep_their_order() {
    const MESSAGES: u32 = 20_000;
    let server = serve(1, || Echo);
    let mut client = connect(address(&server));
    let mut writer = writing_half(&client);
    let payload = |number: u32| number.to_be_bytes()[..number as usize % 5].to_vec();
    let writer = thread::spawn(move || {
        for number in 0..MESSAGES {
            writer.write(Message::binary(payload(number))).expect("the server reads");
        }
        writer.flush().expect("the server reads");
    });
    for number in 0..MESSAGES {
        assert_eq!(client.read().expect("an echo"), Message::binary(payload(number)), "{number}");
    }
    writer.join().expect("everything is written");
    close(client);
    stop(&server);
}

#[test]
fn every_text_is_echoed_with_the_prefix() {
    let server = serve(2, || Prefixed { prefix: "Echo: " });
    let mut client = connect(address(&server));
    ask(&mut client, "hi", "Echo: hi");
    ask(&mut client, "", "Echo: ");
    ask(&mut client, "Здравствуй, 世界", "Echo: Здравствуй, 世界");
    let long = "long ".repeat(50_000);
    ask(&mut client, &long, &format!("Echo: {long}"));
    client.send(Message::binary(vec![0, 159, 146, 150])).unwrap();
    assert_eq!(client.read().unwrap(), Message::binary(vec![0, 159, 146, 150]));
    close(client);
    stop(&server);
}

#[test]
fn sent_messages_and_echoes_keep_their_order() {
    const MESSAGES: usize = 1000;
    let server = serve(1, || Prefixed { prefix: "> " });
    let mut client = connect(address(&server));
    let mut writer = writing_half(&client);
    let writer = thread::spawn(move || {
        for number in 0..MESSAGES {
            let text = number.to_string();
            let by_hand = number % 3 == 0;
            let message = if by_hand { Message::text(text) } else { Message::binary(text) };
            writer.write(message).expect("the server reads");
        }
        writer.flush().expect("the server reads");
    });
    for number in 0..MESSAGES {
        let expected = match number % 3 {
            0 => Message::text(format!("> {number}")),
            _ => Message::binary(number.to_string()),
        };
        assert_eq!(client.read().expect("an answer"), expected);
    }
    writer.join().expect("everything is written");
    close(client);
    stop(&server);
}

#[test]
fn several_addresses_are_served_at_once() {
    let ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let asked = [LOCAL, ipv6, LOCAL, local(2)];
    let mut builder = Server::builder().workers(2);
    for address in asked {
        builder = builder.bind(address);
    }
    let server = builder.start(|_, _| Echo).expect("the server starts");
    assert_eq!(server.workers(), 2);
    let addresses: Vec<_> = server.local_addresses().iter().filter_map(Address::as_tcp).collect();
    assert_eq!(addresses.len(), asked.len());
    for (address, asked) in addresses.iter().zip(asked) {
        assert_eq!(address.ip(), asked.ip(), "in the order of the calls");
        assert_ne!(address.port(), 0, "resolved");
    }
    assert_ne!(addresses[0], addresses[2], "two ports of one host");
    for address in addresses {
        let mut client = connect(address);
        ask(&mut client, "hello", "hello");
        close(client);
    }
    assert_eq!(stop(&server).opened, asked.len() as u64);
}

#[test]
fn a_free_port_is_shared_by_all_workers() {
    const WORKERS: usize = 3;
    // The kernel chooses by a hash of the client's port: some worker gets no connection in one of
    // 10^26 runs.
    const CONNECTIONS_MAX: usize = 150;
    let mut count = 0;
    let server = serve(WORKERS, || {
        count += 1;
        Numbered(count)
    });
    assert_eq!(count, WORKERS, "each worker has its own handler");
    let mut seen = [false; WORKERS + 1];
    for _ in 0..CONNECTIONS_MAX {
        let mut client = connect(address(&server));
        let worker: usize = client.read().unwrap().into_text().unwrap().parse().unwrap();
        seen[worker] = true;
        ask(&mut client, "hello", "hello");
        close(client);
    }
    assert_eq!(seen, [false, true, true, true]);
    stop(&server);
}

#[test]
fn a_message_of_64_mib_is_echoed_and_a_byte_more_is_too_big() {
    let config = Config { message_bytes_max: 64 * MIB, ..Config::default() };
    let server = serve_with(config, 2, || Echo);
    let mut client = connect(address(&server));
    let mut writer = writing_half(&client);
    let message = Message::binary(Rng::new(seed()).bytes(64 * MIB));
    let sent = message.clone();
    let writer = thread::spawn(move || writer.send(sent).expect("the server reads"));
    assert_same(&client.read().expect("an echo"), &message, "64 MiB");
    writer.join().expect("everything is written");
    close(client);

    let mut stream = open_raw(address(&server));
    let length = 64 * MIB as u64 + 1;
    let header = frames::client(frames::BINARY, b"").length64(length).bytes();
    stream.write_all(&header).unwrap();
    let mut close_frame = [0; 4];
    stream.read_exact(&mut close_frame).unwrap();
    assert_eq!(close_frame[0], 0x88, "a close frame: {close_frame:?}");
    assert_eq!(close_frame[2..], 1009_u16.to_be_bytes());
    drop(stream);
    assert_eq!(stop(&server).protocol_errors, 1);
}

#[test]
fn a_large_binary_message_is_echoed_while_it_arrives() {
    let server = serve(1, || Echo);
    let mut stream = open_raw(address(&server));
    let payload = Rng::new(seed()).bytes(MIB);
    let request = frames::client(frames::BINARY, &payload).bytes();
    let reply = frames::server(frames::BINARY, &payload).bytes();
    // The client's header is longer by the mask key, so the reply is four bytes shorter.
    let (sent_first, echoed_first) = (300_004, 300_000);
    stream.write_all(&request[..sent_first]).unwrap();
    expect_bytes(&mut stream, &reply[..echoed_first]);
    stream.write_all(&request[sent_first..]).unwrap();
    expect_bytes(&mut stream, &reply[echoed_first..]);
    drop(stream);
    assert_eq!(stop(&server).messages_out, 1);
}

#[test]
fn a_text_that_ends_inside_a_character_is_closed_with_1007() {
    let server = serve(1, || Echo);
    let mut stream = open_raw(address(&server));
    stream.write_all(&frames::client(frames::TEXT, b"fine").bytes()).unwrap();
    stream.write_all(&frames::client(frames::TEXT, b"caf\xc3").bytes()).unwrap();
    expect_bytes(&mut stream, &frames::server(frames::TEXT, b"fine").bytes());
    let mut close_frame = [0; 4];
    stream.read_exact(&mut close_frame).unwrap();
    assert_eq!(close_frame[0], 0x88, "a close frame: {close_frame:?}");
    assert_eq!(close_frame[2..], 1007_u16.to_be_bytes());
    drop(stream);
    stop(&server);
}

#[test]
fn a_peer_that_does_not_read_delays_no_other_and_loses_nothing() {
    const BLOCKED: Duration = Duration::from_millis(200);
    let server = serve(1, || Echo);
    let mut slow = open_raw(address(&server));
    let message = frames::client(frames::TEXT, "x".repeat(65_536).as_bytes()).bytes();
    let reply = frames::server(frames::TEXT, "x".repeat(65_536).as_bytes()).bytes();
    // Write until the kernel accepts nothing for a while: all buffers on the way are full.
    slow.set_write_timeout(Some(BLOCKED)).unwrap();
    let mut written = 0;
    loop {
        match slow.write(&message[written % message.len()..]) {
            Ok(len) => written += len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let mut other = connect(address(&server));
    for number in 0..100 {
        let text = number.to_string();
        ask(&mut other, &text, &text);
    }
    close(other);
    let mut reader = slow.try_clone().unwrap();
    let (whole, partial) = (written / message.len(), written % message.len());
    let expected = whole + usize::from(partial > 0);
    let reader = thread::spawn(move || {
        (0..expected).for_each(|_| expect_bytes(&mut reader, &reply));
    });
    if partial > 0 {
        slow.set_write_timeout(None).unwrap();
        slow.write_all(&message[partial..]).unwrap();
    }
    reader.join().expect("every echo arrives");
    drop(slow);
    wait_until("the slow peer's connection ends", || server.stats().ended == 2);
    assert_eq!(stop(&server).messages_out, expected as u64 + 100);
}

#[test]
fn a_message_that_is_too_big_ends_only_its_connection() {
    let config = Config { message_bytes_max: 1000, ..Config::default() };
    let server = serve_with(config, 1, || Prefixed { prefix: "" });
    let mut other = connect(address(&server));
    let mut client = connect(address(&server));
    ask(&mut client, &"x".repeat(1000), &"x".repeat(1000));
    client.send(Message::text("x".repeat(1001))).unwrap();
    match client.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1009),
        other => panic!("not a close frame: {other:?}"),
    }
    drop(client);
    ask(&mut other, "still here", "still here");
    server.shutdown(Duration::from_secs(5));
    expect_close(other, 1001, "the server is shutting down");
    stop(&server);
}

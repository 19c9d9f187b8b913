//! Requests of a callback about other connections of its worker.

use ws_reactor::internal::Command;
use ws_reactor::{
    CloseCode, CloseEvent, Config, ConnectionInfo, Context, Delivery, EncodedMessage, Handler,
    Message, Peer, PeerId, Reply,
};

use crate::probe::{close as peer_close, open, text, text_reply};
use crate::scripted::SocketId;
use crate::support::frames::{BINARY, CLOSE, client, close_payload, server};
use crate::world::World;

/// Relays each message to all other connections.
#[derive(Default)]
struct Relay {
    members: Vec<PeerId>,
}

impl Relay {
    fn send_to_others(&self, context: &mut Context<'_>, own: PeerId, message: &EncodedMessage) {
        for member in self.members.iter().filter(|member| **member != own) {
            assert!(context.send(*member, message), "a connection of the same worker");
        }
    }
}

impl Handler for Relay {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        self.members.push(peer.id());
    }

    fn delivery(&self) -> Delivery {
        Delivery::StreamedEcho
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        let id = peer.id();
        self.send_to_others(peer.context(), id, &EncodedMessage::new(message));
        match message.as_text() {
            Some("close") => {
                for member in self.members.iter().filter(|member| **member != id) {
                    assert!(peer.context().close(*member, CloseCode::NORMAL, "as requested"));
                }
            }
            Some("both") => {
                peer.send("before");
                peer.send_encoded(&EncodedMessage::new("encoded"));
                peer.send("after");
                return Reply::Echo;
            }
            Some("panic") => panic!("after its requests"),
            _ => {}
        }
        Reply::None
    }

    fn on_close(&mut self, context: &mut Context<'_>, id: PeerId, (): (), _: &CloseEvent<'_>) {
        self.members.retain(|member| *member != id);
        self.send_to_others(context, id, &EncodedMessage::new("left"));
    }
}

fn relay_world(members: usize) -> (World<Relay>, Vec<SocketId>) {
    let mut world = World::new(Relay::default(), Config::default());
    let ids = (0..members).map(|_| open(&mut world)).collect();
    (world, ids)
}

#[test]
fn messages_to_other_connections_arrive_in_the_order_of_the_calls() {
    let (mut world, ids) = relay_world(3);
    world.send(ids[0], &[text("one"), text("two"), text("three")].concat());
    world.run_until_quiet();
    let expected = [text_reply("one"), text_reply("two"), text_reply("three")].concat();
    assert_eq!(world.take_received(ids[0]), b"", "the sender is no receiver");
    assert_eq!(world.take_received(ids[1]), expected);
    assert_eq!(world.take_received(ids[2]), expected);
    assert_eq!(world.stats().messages_out, 6);
}

#[test]
fn encoded_messages_and_others_go_out_in_the_order_of_the_calls() {
    let (mut world, ids) = relay_world(1);
    world.send(ids[0], &text("both"));
    world.run_until_quiet();
    let expected = ["before", "encoded", "after", "both"].map(text_reply).concat();
    assert_eq!(world.take_received(ids[0]), expected);
    assert_eq!((world.stats().messages_out, world.stats().bytes_out), (4, 22));
}

#[test]
fn encoded_messages_wait_for_the_end_of_a_streamed_message() {
    let (mut world, ids) = relay_world(2);
    let large = client(BINARY, &[7; 50_000]).bytes();
    world.send(ids[1], &large[..30_000]);
    world.run_until_quiet();
    world.send(ids[0], &text("relayed"));
    world.run_until_quiet();
    world.send(ids[1], &large[30_000..]);
    world.run_until_quiet();
    let expected = [server(BINARY, &[7; 50_000]).bytes(), text_reply("relayed")].concat();
    assert!(world.take_received(ids[1]) == expected);
}

#[test]
fn a_close_for_another_connection_follows_the_messages_before_it() {
    let (mut world, ids) = relay_world(2);
    world.send(ids[0], &text("close"));
    world.run_until_quiet();
    let close = server(CLOSE, &close_payload(1000, b"as requested")).bytes();
    assert_eq!(world.take_received(ids[1]), [text_reply("close"), close].concat());
}

#[test]
fn the_other_connections_are_notified_when_one_closes() {
    let (mut world, ids) = relay_world(3);
    world.send(ids[1], &peer_close(1000));
    world.run_until_quiet();
    assert_eq!(world.take_received(ids[0]), text_reply("left"));
    assert_eq!(world.take_received(ids[2]), text_reply("left"));
}

#[test]
fn the_requests_of_a_callback_that_panics_are_carried_out() {
    let (mut world, ids) = relay_world(2);
    world.send(ids[0], &text("panic"));
    world.run_until_quiet();
    assert_eq!(world.take_received(ids[1]), text_reply("panic"));
    assert_eq!(world.stats().handler_panics, 1);
}

#[test]
fn a_connection_dropped_by_a_posted_message_notifies_the_others() {
    let (mut world, ids) = relay_world(2);
    world.socket(ids[1]).client_reads = false;
    world.socket(ids[1]).capacity = 10;
    let token = world.token(ids[1]);
    let message = EncodedMessage::new(&[7; 500_000][..]);
    for _ in 0..6 {
        assert!(world.post(Command::Send(token, message.clone())));
        // One turn with the wake-up of the mailbox and no edge of a connection.
        world.turn();
    }
    assert_eq!(world.take_received(ids[0]), text_reply("left"));
    assert_eq!(world.stats().backlog_overflows, 1);
}

#[test]
fn requests_count_as_events_of_the_turn() {
    let (mut world, ids) = relay_world(2);
    world.send(ids[0], &text("x").repeat(4000));
    while world.stats().messages_in == 0 {
        world.turn();
    }
    // The limit is 4096 events, and each message counts twice: for itself and for its request.
    assert_eq!(world.stats().messages_in, 2048);
    world.run_until_quiet();
    assert_eq!(world.take_received(ids[1]), text_reply("x").repeat(4000));
}

#[test]
fn a_message_to_a_closing_connection_is_dropped_and_counted() {
    let (mut world, ids) = relay_world(2);
    world.send(ids[0], &text("close"));
    world.run_until_quiet();
    world.take_received(ids[1]);
    world.send(ids[0], &text("too late"));
    world.run_until_quiet();
    assert_eq!(world.take_received(ids[1]), b"", "nothing follows a close frame");
    assert_eq!(world.stats().stale_sends, 1);
}

#[test]
fn slow_receivers_of_one_large_message_get_all_of_it() {
    let (mut world, ids) = relay_world(3);
    for &id in &ids[1..] {
        world.socket(id).client_reads = false;
    }
    // A text, since large binary messages are streamed back to their sender.
    let payload = "a".repeat(300_000);
    let message = text(&payload);
    for _ in 0..3 {
        world.send(ids[0], &message);
        world.run_until_quiet();
    }
    for &id in &ids[1..] {
        world.socket(id).client_reads = true;
    }
    world.run_until_quiet();
    let expected = text_reply(&payload).repeat(3);
    for &id in &ids[1..] {
        assert!(world.take_received(id) == expected);
    }
}

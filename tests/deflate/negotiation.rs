//! The negotiation (RFC 7692 5 and 7.1). The unit tests of the library have more offers.

use std::cell::RefCell;
use std::rc::Rc;

use ws_reactor::{
    Accept, Config, ConnectionInfo, DeflateConfig, DeflateParameters, Echo, Handler, Message, Peer,
    Reply, Request, Upgrade,
};

use crate::client::{ask, compressed, config, json, messages, open, request};
use crate::support::frames::{CLOSE, TEXT, close_payload};
use crate::support::requests::GOOD_RESPONSE;
use crate::world::World;

/// The 101 that accepts the extension with these parameters.
fn accepted(parameters: &str) -> Vec<u8> {
    let head = GOOD_RESPONSE.strip_suffix(b"\r\n").expect("an empty line ends it");
    let line = format!(
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
         client_no_context_takeover{parameters}\r\n\r\n"
    );
    [head, line.as_bytes()].concat()
}

#[test]
fn the_first_supported_offer_is_accepted() {
    for (offers, parameters) in [
        ("permessage-deflate", ""),
        ("permessage-deflate; client_max_window_bits", ""),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", ""),
        (
            "permessage-deflate; a=1, permessage-deflate; server_max_window_bits=10",
            "; server_max_window_bits=10",
        ),
        ("x-other, permessage-deflate; client_max_window_bits=8", "; client_max_window_bits=8"),
        // Several header lines form one list (RFC 9110 5.3).
        ("x-other\r\nSec-WebSocket-Extensions: permessage-deflate", ""),
    ] {
        let mut world = World::new(Echo, config());
        let (_, answer) = world.open(&request(offers));
        assert_eq!(answer, accepted(parameters), "{offers}");
        assert_eq!(world.stats().deflate_opened, 1);
    }
}

#[test]
fn without_a_supported_offer_the_connection_opens_without_compression() {
    let deflate = Some(DeflateConfig::default());
    for (offer, deflate) in [
        ("permessage-deflate; server_max_window_bits=8", deflate),
        ("permessage-deflate; client_max_window_bits=16", deflate),
        ("x-webkit-deflate-frame", deflate),
        ("permessage-deflate", None),
    ] {
        let mut world = World::new(Echo, Config { deflate, ..Config::default() });
        let (id, answer) = world.open(&request(offer));
        assert_eq!(answer, GOOD_RESPONSE, "{offer}");
        assert_eq!(world.stats().deflate_opened, 0);
        // RSV1 has no meaning then (RFC 6455 5.2).
        let reply = ask(&mut world, id, &compressed(TEXT, &json(500)).bytes());
        assert_eq!(messages(&reply), [(false, CLOSE, close_payload(1002, b""))], "{offer}");
    }
}

#[test]
fn an_offer_that_breaks_the_grammar_is_answered_400() {
    for offer in ["permessage-deflate;", "permessage-deflate; =1", "permessage-deflate; a=\"b", ""]
    {
        let mut world = World::new(Echo, config());
        let (_, answer) = world.open(&request(offer));
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{offer}");
    }
}

/// Declines compression for one path, and remembers the parameters.
struct Chooses {
    agreed: Rc<RefCell<Vec<Option<DeflateParameters>>>>,
}

impl Handler for Chooses {
    type State = ();

    fn on_request(&mut self, request: &Request<'_>, info: ConnectionInfo<'_>) -> Upgrade<()> {
        assert_eq!(info.deflate(), None, "nothing is agreed yet");
        match request.path() {
            "/chat" => Upgrade::Accept(Accept::default().without_deflate(), ()),
            _ => Upgrade::accept(()),
        }
    }

    fn on_open(&mut self, _: &mut Peer<'_, ()>, info: ConnectionInfo<'_>) {
        self.agreed.borrow_mut().push(info.deflate());
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        peer.send(message);
        peer.send_uncompressed(message);
        Reply::None
    }
}

#[test]
fn a_handler_declines_compression_and_learns_the_parameters() {
    let agreed = Rc::default();
    let mut world = World::new(Chooses { agreed: Rc::clone(&agreed) }, config());
    let (_, answer) = world.open(&request("permessage-deflate"));
    assert_eq!(answer, GOOD_RESPONSE);
    let offer = "permessage-deflate; server_max_window_bits=10; client_max_window_bits=12";
    let other_path = String::from_utf8(request(offer)).expect("ASCII").replace("/chat", "/");
    world.open(other_path.as_bytes());
    let agreed = agreed.borrow();
    assert_eq!(agreed[0], None);
    let parameters = agreed[1].expect("compression");
    assert_eq!((parameters.server_max_window_bits, parameters.client_max_window_bits), (10, 12));
    assert!(parameters.server_no_context_takeover && parameters.client_no_context_takeover);
}

#[test]
fn a_handler_sends_a_message_uncompressed() {
    let mut world = World::new(Chooses { agreed: Rc::default() }, config());
    let other_path = String::from_utf8(request("permessage-deflate")).expect("ASCII");
    let (id, _) = world.open(other_path.replace("/chat", "/").as_bytes());
    let reply = ask(&mut world, id, &compressed(TEXT, &json(1000)).bytes());
    assert_eq!(messages(&reply), [(true, TEXT, json(1000)), (false, TEXT, json(1000))]);
}

#[test]
fn settings_out_of_range_are_refused() {
    let with = |change: fn(&mut DeflateConfig)| {
        let mut deflate = DeflateConfig::default();
        change(&mut deflate);
        let result = Config { deflate: Some(deflate), ..Config::default() }.validate();
        result.map_err(|error| error.to_string())
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|c| c.level = 0), Err("deflate.level must be 1 to 9".into()));
    assert_eq!(with(|c| c.level = 10), Err("deflate.level must be 1 to 9".into()));
    let error = "deflate.server_max_window_bits must be 9 to 15";
    assert_eq!(with(|c| c.server_max_window_bits = 8), Err(error.into()));
    let error = "deflate.client_max_window_bits must be 9 to 15";
    assert_eq!(with(|c| c.client_max_window_bits = 16), Err(error.into()));
}

#[test]
fn a_peer_with_compression_and_one_without_share_a_worker() {
    let mut world = World::new(Echo, config());
    let (plain, answer) = world.open(crate::support::requests::GOOD_REQUEST);
    assert_eq!(answer, GOOD_RESPONSE);
    let id = open(&mut world);
    for _ in 0..3 {
        let reply = ask(&mut world, id, &compressed(TEXT, &json(1000)).bytes());
        assert_eq!(messages(&reply), [(true, TEXT, json(1000))]);
        let frame = crate::support::frames::client(TEXT, &json(1000)).bytes();
        assert_eq!(messages(&ask(&mut world, plain, &frame)), [(false, TEXT, json(1000))]);
    }
}

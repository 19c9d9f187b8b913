//! A server on ws-reactor that echoes at the path `/echo`, and elsewhere sends each message to
//! everyone with a topic.

mod common;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use ws_reactor::{ConnectionInfo, Handler, Message, Peer, Reply, Request, Server, Upgrade};

/// A peer's state is whether it gets echoes.
struct Paths;

impl Handler for Paths {
    type State = bool;

    fn on_request(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<bool> {
        Upgrade::accept(request.path() == "/echo")
    }

    fn on_open(&mut self, peer: &mut Peer<'_, bool>, _: ConnectionInfo<'_>) {
        if !*peer.state {
            peer.subscribe(EVERYONE).expect("a peer may have a topic");
        }
    }

    fn on_message(&mut self, peer: &mut Peer<'_, bool>, message: Message<'_>) -> Reply {
        if *peer.state {
            return Reply::Echo;
        }
        peer.context().publish(EVERYONE, message);
        Reply::None
    }
}

fn main() -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::builder().bind(address).workers(common::workers());
    let server = server.start(|_, _| Paths).map_err(io::Error::other)?;
    println!("listening on {}", server.local_addresses()[0]);
    server.join().map_err(io::Error::other)
}

const EVERYONE: &str = "everyone";

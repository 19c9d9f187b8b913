//! Ticks of real servers.

mod support;

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use support::client::{Client, dial, request, upgrade};
use support::servers::{LOCAL, stop};
use ws_reactor::{
    Config, ConnectionInfo, Context, Handler, Message, Peer, Reply, Server, TickEvent,
};

const WORKERS: usize = 2;

/// Publishes each of its ticks, as the number of its worker and that of the tick.
struct Ticking {
    worker: usize,
}

impl Handler for Ticking {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        peer.subscribe("ticks").expect("one topic");
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }

    fn on_tick(&mut self, context: &mut Context<'_>, tick: TickEvent) {
        let text = format!("{} {} {}", self.worker, tick.number, tick.missed);
        assert!(context.publish("ticks", &text[..]), "one message is not too much");
    }
}

/// Reads ticks until there are 20 of each worker, and checks that none was lost.
fn read_ticks(client: &mut Client) {
    let mut last = [None; WORKERS];
    let mut counts = [0; WORKERS];
    while counts.iter().any(|count| *count < 20) {
        let message = client.read().expect("a tick").into_text().expect("a text");
        let mut numbers = message.split(' ').map(|it| it.parse::<u64>().expect("a number"));
        let [worker, number, missed] = [(); 3].map(|()| numbers.next().expect("three numbers"));
        let worker = worker as usize;
        counts[worker] += 1;
        // Of the client's first tick the predecessor is unknown.
        if let Some(last) = last[worker].replace(number) {
            assert_eq!(number, last + missed + 1, "of worker {worker}");
        }
    }
}

#[test]
fn ticks_of_each_worker_reach_the_subscribers_of_all_workers_in_order() {
    let config = Config { tick_interval: Duration::from_millis(20), ..Config::default() };
    let builder = Server::builder().bind(LOCAL).workers(WORKERS).config(config);
    let server = builder.start(|_, worker| Ticking { worker }).expect("the server starts");
    let listener = TcpListener::bind(LOCAL).expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let stream = dial(address);
            let (accepted, _) = listener.accept().expect("a client");
            server.adopt(worker, accepted).expect("the worker runs");
            let (mut client, _) = upgrade(stream, request(address, "/", &[]));
            scope.spawn(move || read_ticks(&mut client));
        }
    });
    let stats = stop(&server);
    assert_eq!((stats.handler_panics, stats.refused_publications), (0, 0));
}

//! How connections are distributed over workers, and workers over CPUs.

mod support;

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use support::client::{DEADLINE, close, connect, wait_until};
use support::servers::{LOCAL, address, stop};
use ws_reactor::{
    Balance, ConnectionInfo, Handler, Message, Peer, Reply, Server, ServerBuilder, ServerHandle,
};

/// Reports the worker of each connection, and the CPUs that its thread may use.
struct Reporting {
    worker: usize,
    reports: Sender<(usize, BTreeSet<usize>)>,
}

impl Handler for Reporting {
    type State = ();

    fn on_open(&mut self, _: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        self.reports.send((self.worker, allowed_cpus())).expect("the test listens");
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }
}

/// The CPUs that this thread may use.
fn allowed_cpus() -> BTreeSet<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("a mask");
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).expect("a number in range")).collect()
}

fn start(builder: ServerBuilder) -> (ServerHandle, Receiver<(usize, BTreeSet<usize>)>) {
    let (sender, reports) = channel();
    let builder = builder.bind(LOCAL).workers(2);
    let server = builder.start(|_, worker| Reporting { worker, reports: sender.clone() });
    (server.expect("the server starts"), reports)
}

/// The worker of each new connection, in the order in which they opened.
fn workers(reports: &Receiver<(usize, BTreeSet<usize>)>, count: usize) -> Vec<usize> {
    (0..count).map(|_| reports.recv_timeout(DEADLINE).expect("each opens").0).collect()
}

#[test]
fn a_hundred_connections_on_two_workers_differ_by_at_most_two() {
    let (server, reports) = start(Server::builder().balance(Balance::LeastConnections));
    let address = address(&server);
    let mut clients = [Vec::new(), Vec::new()];
    for _ in 0..100 {
        let client = connect(address);
        clients[workers(&reports, 1)[0]].push(client);
    }
    assert!(clients[0].len().abs_diff(clients[1].len()) <= 2, "{}", clients[0].len());
    // The connections of one worker end, and as many open at the same time.
    let [ending, staying] = clients;
    let ended = ending.len();
    ending.into_iter().for_each(close);
    wait_until("they have ended", || server.stats().ended == ended as u64);
    let threads: Vec<_> = (0..ended).map(|_| thread::spawn(move || connect(address))).collect();
    let opened = threads.into_iter().map(|thread| thread.join().expect("all connect"));
    let opened: Vec<_> = opened.collect();
    let on_first = workers(&reports, ended).into_iter().filter(|worker| *worker == 0).count();
    let on_second = staying.len() + ended - on_first;
    assert!(on_first.abs_diff(on_second) <= 2, "{on_first} and {on_second}");
    opened.into_iter().chain(staying).for_each(close);
    stop(&server);
}

#[test]
fn pinned_workers_have_a_cpu_each() {
    let balanced = Server::builder().balance(Balance::LeastConnections);
    let (server, reports) = start(balanced.pin_cpus(true));
    let clients = [connect(address(&server)), connect(address(&server))];
    let mut cpus = BTreeSet::new();
    for _ in &clients {
        let (_, of_worker) = reports.recv_timeout(DEADLINE).expect("each opens");
        assert_eq!(of_worker.len(), 1, "{of_worker:?}");
        cpus.extend(of_worker);
    }
    assert_eq!(cpus.len(), allowed_cpus().len().min(2), "{cpus:?}");
    assert!(cpus.is_subset(&allowed_cpus()), "the process may use them");
    clients.into_iter().for_each(close);
    stop(&server);
}

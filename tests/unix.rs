//! Unix sockets: addresses, their files, the distribution over the workers, and credentials.

mod support;

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use support::client::{DEADLINE, expect_raw_close, open_on, open_raw, wait_until};
use support::servers::{LOCAL, stop};
use support::unix::{Folder, close, dial, expect_echo, open, with_timeouts};
use ws_reactor::{
    Address, Config, ConnectionInfo, Credentials, Echo, Handler, Message, Peer, Reply, Server,
    ServerBuilder, ServerHandle, StartError,
};

/// Echoes, and reports the worker and the client of each connection.
struct Reporter {
    worker: usize,
    opened: Sender<Opened>,
}

#[derive(Debug)]
struct Opened {
    worker: usize,
    peer: Address,
    local: Address,
    credentials: Option<Credentials>,
}

impl Handler for Reporter {
    type State = ();

    fn on_open(&mut self, _: &mut Peer<'_, ()>, info: ConnectionInfo<'_>) {
        let opened = Opened {
            worker: self.worker,
            peer: info.peer_address().clone(),
            local: info.local_address().expect("a connected socket"),
            credentials: info.credentials(),
        };
        self.opened.send(opened).expect("the test listens");
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }
}

#[track_caller]
fn start(builder: ServerBuilder) -> (ServerHandle, Receiver<Opened>) {
    let (opened, reports) = channel();
    let server = builder.start(|_, worker| Reporter { worker, opened: opened.clone() });
    (server.expect("the server starts"), reports)
}

#[track_caller]
fn next(reports: &Receiver<Opened>) -> Opened {
    reports.recv_timeout(DEADLINE).expect("a connection is open")
}

/// The number of connections in `count` reports, for each of `workers`.
#[track_caller]
fn shares(reports: &Receiver<Opened>, count: usize, workers: usize) -> Vec<usize> {
    let mut shares = vec![0; workers];
    (0..count).for_each(|_| shares[next(reports).worker] += 1);
    shares
}

/// Expects that the server cannot start on `path`; returns the error and its cause.
#[track_caller]
fn refused(builder: ServerBuilder) -> (ErrorKind, String) {
    match builder.workers(1).start(|_, _| Echo) {
        Err(StartError::Bind { address, source }) => {
            (source.kind(), format!("cannot listen on {address}: {source}"))
        }
        other => panic!("not a refusal: {other:?}"),
    }
}

fn on(path: &Path) -> ServerBuilder {
    Server::builder().bind(path)
}

#[test]
fn a_path_is_served_and_its_file_is_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let (server, reports) = start(on(&path).workers(2));
    assert_eq!(server.local_addresses(), [Address::Unix(path.clone())]);
    let mut client = open(&path);
    expect_echo(&mut client, "hello");
    let opened = next(&reports);
    assert_eq!((opened.peer, opened.local), (Address::UnixUnnamed, Address::Unix(path.clone())));
    close(client);
    stop(&server);
    assert!(!path.exists());
}

#[test]
fn connections_go_to_the_worker_with_the_fewest() {
    const WORKERS: usize = 4;
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let (server, reports) = start(on(&path).workers(WORKERS));
    let mut clients = Vec::new();
    for _ in 0..10 * WORKERS {
        let client = open(&path);
        clients.push((next(&reports).worker, client));
    }
    let share = |worker| clients.iter().filter(|(of, _)| *of == worker).count();
    assert_eq!([0, 1, 2, 3].map(share), [10; WORKERS]);
    // Connections that have ended are not counted.
    let (ending, mut rest): (Vec<_>, Vec<_>) = clients.into_iter().partition(|(of, _)| *of == 2);
    ending.into_iter().for_each(|(_, client)| close(client));
    wait_until("they have ended", || server.stats().ended == 10);
    let late: Vec<_> = (0..10).map(|_| open(&path)).collect();
    assert_eq!(shares(&reports, 10, WORKERS), [0, 0, 10, 0]);
    rest.iter_mut().for_each(|(_, client)| expect_echo(client, "hello"));
    rest.into_iter().map(|(_, client)| client).chain(late).for_each(close);
    stop(&server);
}

#[test]
fn the_file_of_an_ended_process_is_replaced() {
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let (server, _reports) = start(on(&path).workers(1));
    let mut client = open(&path);
    expect_echo(&mut client, "hello");
    close(client);
    stop(&server);
}

#[test]
fn a_socket_that_another_process_listens_on_is_refused() {
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (kind, error) = refused(on(&path));
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert!(error.starts_with(&format!("cannot listen on unix:{}: another", path.display())));
    assert!(!error.contains('\n'), "{error}");
    // The second connection: the first was the server's check.
    let _client = UnixStream::connect(&path).expect("the socket is left alone");
    listener.accept().and_then(|_| listener.accept()).unwrap();
    let own = folder.file("own.sock");
    let (server, _reports) = start(on(&own).workers(1));
    assert_eq!(refused(on(&own)).0, ErrorKind::AddrInUse);
    close(open(&own));
    stop(&server);
}

#[test]
fn a_file_that_is_not_a_socket_is_refused_and_left() {
    let folder = Folder::new();
    let [text, link] = ["text", "link"].map(|name| folder.file(name));
    fs::write(&text, "precious").unwrap();
    // The socket behind a link may be stale, but the link is no socket.
    symlink(folder.file("nothing"), &link).unwrap();
    for path in [&text, &link] {
        let (kind, error) = refused(on(path));
        assert_eq!(kind, ErrorKind::AlreadyExists);
        assert!(error.ends_with("the file is not a socket; remove it, or choose another path"));
    }
    assert_eq!(fs::read_to_string(&text).unwrap(), "precious");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_file_that_has_replaced_ours_is_kept() {
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let (server, _reports) = start(on(&path).workers(1));
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    stop(&server);
    UnixStream::connect(&path).expect("the other socket is left alone");
}

#[test]
fn a_server_that_does_not_start_leaves_no_file() {
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let taken = TcpListener::bind(LOCAL).unwrap();
    refused(on(&path).bind(taken.local_addr().unwrap()));
    assert!(!path.exists());
}

#[test]
fn names_that_cannot_be_bound_are_refused() {
    let long = "x".repeat(108);
    let zero = std::ffi::OsStr::from_bytes(b"a\0b");
    for path in [Path::new(""), Path::new(&long), Path::new(zero)] {
        let (kind, error) = refused(on(path));
        assert_eq!(kind, ErrorKind::InvalidInput, "{error}");
    }
    for name in ["", &*long] {
        let address = Address::UnixAbstract(name.into());
        assert_eq!(refused(Server::builder().bind(address)).0, ErrorKind::InvalidInput);
    }
    let unnamed = Server::builder().bind(Address::UnixUnnamed);
    assert_eq!(refused(unnamed).0, ErrorKind::InvalidInput);
    let nowhere = Folder::new().file("missing/ws.sock");
    assert_eq!(refused(on(&nowhere)).0, ErrorKind::NotFound);
}

#[test]
fn the_file_has_the_chosen_permissions() {
    let folder = Folder::new();
    for mode in [0o600, 0o660, 0o777] {
        let path = folder.file("ws.sock");
        let (server, _reports) = start(on(&path).workers(1).unix_mode(mode));
        let file = fs::metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o7777, mode);
        stop(&server);
    }
    let error = on(&folder.file("other.sock")).unix_mode(0o1777).start(|_, _| Echo).unwrap_err();
    assert!(matches!(error, StartError::UnixMode(0o1777)), "{error:?}");
    assert!(error.to_string().contains(" 1777 "), "{error}");
}

#[test]
fn an_abstract_name_is_served_without_a_file() {
    let name = format!("ws-reactor-{}", std::process::id());
    let address: Address = format!("unix-abstract:{name}").parse().unwrap();
    let (server, reports) = start(Server::builder().bind(address.clone()).workers(2));
    assert_eq!(server.local_addresses(), std::slice::from_ref(&address));
    let (kind, error) = refused(Server::builder().bind(address.clone()));
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert!(error.starts_with(&format!("cannot listen on {address}: another")), "{error}");
    let socket = SocketAddr::from_abstract_name(&name).unwrap();
    let client = UnixStream::connect_addr(&socket).expect("the server accepts");
    let mut client = open_on(with_timeouts(client));
    expect_echo(&mut client, "hello");
    assert_eq!(next(&reports).local, address);
    close(client);
    stop(&server);
}

#[test]
fn the_process_of_a_client_is_known_for_unix_sockets_only() {
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let (server, reports) = start(on(&path).bind(LOCAL).workers(1));
    let client = open(&path);
    let found = next(&reports).credentials.expect("a Unix socket");
    let own = fs::metadata(&path).unwrap();
    assert_eq!(found.pid as u32, std::process::id());
    assert_eq!((found.uid, found.gid), (own.uid(), own.gid()));
    close(client);
    let client = open_raw(server.local_addresses()[1].as_tcp().expect("TCP"));
    assert_eq!(next(&reports).credentials, None);
    close(client);
    stop(&server);
}

#[test]
fn a_server_without_an_address_serves_the_connections_that_it_adopts() {
    let (server, reports) = start(Server::builder().workers(2));
    assert_eq!(server.local_addresses(), []);
    let (ours, theirs) = UnixStream::pair().unwrap();
    server.adopt(1, theirs).unwrap();
    let mut client = open_on(with_timeouts(ours));
    assert_eq!(next(&reports).worker, 1);
    expect_echo(&mut client, "hello");
    close(client);
    stop(&server);
}

#[test]
fn listeners_of_the_program_are_served_by_all_workers() {
    const WORKERS: usize = 3;
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind(LOCAL).unwrap();
    let address = tcp.local_addr().unwrap();
    // A connection that waits already.
    let waiting = dial(&path);
    let (server, reports) = start(Server::builder().workers(WORKERS).listener(unix).listener(tcp));
    assert_eq!(server.local_addresses(), [Address::Unix(path.clone()), Address::Tcp(address)]);
    let mut local = vec![open_on(waiting)];
    local.extend((0..5).map(|_| open(&path)));
    assert_eq!(shares(&reports, 6, WORKERS), [2; WORKERS]);
    let remote: Vec<_> = (0..6).map(|_| open_raw(address)).collect();
    assert_eq!(shares(&reports, 6, WORKERS), [2; WORKERS]);
    local.iter_mut().for_each(|client| expect_echo(client, "hello"));
    assert!(remote.iter().all(|client: &TcpStream| client.peer_addr().is_ok()));
    local.into_iter().for_each(close);
    remote.into_iter().for_each(close);
    stop(&server);
    assert!(path.exists(), "the program made the file");
    assert!(UnixStream::connect(&path).is_err(), "the socket is closed");
}

#[test]
fn a_socket_that_does_not_listen_is_refused() {
    let (unconnected, _peer) = UnixStream::pair().unwrap();
    let descriptor = std::os::fd::OwnedFd::from(unconnected);
    let builder = Server::builder().listener(UnixListener::from(descriptor));
    assert_eq!(refused(builder).0, ErrorKind::InvalidInput);
}

#[test]
fn connections_max_counts_the_connections_of_all_workers() {
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let config = Config { connections_max: Some(3), ..Config::default() };
    let (server, _reports) = start(on(&path).workers(2).config(config));
    let clients: Vec<_> = (0..3).map(|_| open(&path)).collect();
    let answer = support::client::read_all(&mut dial(&path));
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    clients.into_iter().for_each(close);
    assert_eq!(stop(&server).turned_away, 1);
}

#[test]
fn a_shutdown_closes_the_connections_of_all_workers_and_removes_the_file() {
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let (server, reports) = start(on(&path).workers(3));
    let clients: Vec<_> = (0..6).map(|_| open(&path)).collect();
    assert_eq!(shares(&reports, 6, 3), [2; 3]);
    server.shutdown(DEADLINE);
    for client in clients {
        expect_raw_close(client, 1001, "the server is shutting down");
    }
    let stats = stop(&server);
    assert_eq!((stats.opened, stats.close_timeouts), (6, 0));
    assert!(!path.exists());
}

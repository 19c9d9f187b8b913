//! TLS over real sockets: the library's listeners, and the options of the example server.
#![cfg(feature = "tls")]

mod support;
#[path = "support/tls.rs"]
mod secure;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, StreamOwned};
use tungstenite::{Message, WebSocket};
use ws_reactor::{Balance, Echo, Server, ServerHandle};

use secure::{Identity, NAME};
use support::client::{ask, close, connect, dial, exchange};
use support::programs::{Program, run, terminate};
use support::servers::{LOCAL, address, stop};

type Client = WebSocket<StreamOwned<ClientConnection, TcpStream>>;

/// A client of a server with this identity.
#[track_caller]
fn open(address: SocketAddr, identity: &Identity) -> Client {
    try_open(address, identity).expect("the server has the certificate")
}

fn try_open(
    address: SocketAddr,
    identity: &Identity,
) -> Result<Client, Box<dyn std::error::Error>> {
    let stream = StreamOwned::new(identity.client(&TLS13), dial(address));
    let (client, _) = tungstenite::client(format!("wss://{NAME}/"), stream).map_err(Box::new)?;
    Ok(client)
}

#[track_caller]
fn echoes(client: &mut Client, message: Message) {
    client.send(message.clone()).expect("the server reads");
    assert!(client.read().expect("the server answers") == message);
}

fn finish(mut client: Client) {
    client.close(None).expect("the server reads");
    while client.read().is_ok() {}
}

#[test]
fn every_way_in_has_tls() {
    let identity = Identity::new();
    let tls = identity.tls_config();
    let listener = TcpListener::bind(LOCAL).expect("a port is free");
    let elsewhere = TcpListener::bind(LOCAL).expect("a port is free");
    let server = Server::builder()
        .bind_tls(LOCAL, tls.clone())
        .listener_tls(listener, tls.clone())
        .bind(LOCAL)
        .workers(2)
        .balance(Balance::LeastConnections)
        .start(|_, _| Echo)
        .expect("the server starts");
    let addresses = server.local_addresses();
    let tcp = |index: usize| addresses[index].as_tcp().expect("a TCP address");
    // Hand-overs to the other worker are among them.
    for index in [0, 1, 0, 1] {
        let mut client = open(tcp(index), &identity);
        echoes(&mut client, Message::text("hello"));
        echoes(&mut client, Message::binary(vec![7; 1_000_000]));
        finish(client);
    }
    let dialed = std::thread::scope(|scope| {
        let address = elsewhere.local_addr().expect("it is bound");
        let client = scope.spawn({
            let identity = &identity;
            move || open(address, identity)
        });
        let (stream, _) = elsewhere.accept().expect("a client connects");
        server.adopt_tls(1, stream, &tls).expect("the server runs");
        client.join().expect("the client connects")
    });
    finish(dialed);
    let mut plain = connect(tcp(2));
    ask(&mut plain, "hi", "hi");
    close(plain);
    stop(&server);
}

fn start(identity: &Identity) -> (ServerHandle, ws_reactor::TlsConfig) {
    let tls = identity.tls_config();
    let builder = Server::builder().bind_tls(LOCAL, tls.clone()).workers(1);
    (builder.start(|_, _| Echo).expect("the server starts"), tls)
}

#[test]
fn a_replaced_certificate_holds_for_new_connections() {
    let (old, new) = (Identity::new(), Identity::new());
    let (server, tls) = start(&old);
    let mut before = open(address(&server), &old);
    tls.replace(new.server_config()).expect("the settings are valid");
    echoes(&mut before, Message::text("still open"));
    assert!(try_open(address(&server), &old).is_err(), "the old certificate is not in use");
    finish(open(address(&server), &new));
    finish(before);
    stop(&server);
}

#[test]
fn both_versions_and_a_plain_request() {
    let identity = Identity::new();
    let (server, _) = start(&identity);
    for version in [&TLS12, &TLS13] {
        let stream = StreamOwned::new(identity.client(version), dial(address(&server)));
        let (mut client, _) = tungstenite::client(format!("wss://{NAME}/"), stream)
            .expect("the server has both versions");
        echoes(&mut client, Message::text("hello"));
        finish(client);
    }
    let answer = exchange(address(&server), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("this port needs TLS\n"), "{answer}");
    stop(&server);
}

/// A folder with the files of an identity.
struct Files(PathBuf);

impl Files {
    fn new(name: &str, identity: &Identity) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("the folder can be made");
        let files = Self(folder);
        files.write(identity);
        files
    }

    fn write(&self, identity: &Identity) {
        fs::write(self.path("cert.pem"), identity.certificate_pem()).expect("there is space");
        fs::write(self.path("key.pem"), identity.key_pem()).expect("there is space");
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn options(&self) -> String {
        format!("--tls-cert {} --tls-key {}", self.path("cert.pem"), self.path("key.pem"))
    }
}

/// The port of the line `listening on ADDRESS`.
fn next_address(server: &Program) -> SocketAddr {
    support::programs::listening(server)
}

#[test]
fn the_example_server_reloads_its_certificate() {
    let (old, new) = (Identity::new(), Identity::new());
    let files = Files::new("reload", &old);
    let server = Program::start("server", &format!("--addr 127.0.0.1:0 {}", files.options()));
    let address = next_address(&server);
    let mut before = open(address, &old);
    echoes(&mut before, Message::text("hello"));
    // A key of another certificate: the pair is not taken.
    fs::write(files.path("key.pem"), new.key_pem()).expect("there is space");
    server.signal("HUP");
    server.error_line("SIGHUP: the earlier certificate stays: --tls-cert ");
    finish(open(address, &old));
    files.write(&new);
    server.signal("HUP");
    server.error_line("SIGHUP: new connections get the certificate as it is now");
    finish(open(address, &new));
    echoes(&mut before, Message::text("still open"));
    finish(before);
    let ended = terminate(server);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn a_plain_address_beside_tls_is_plain() {
    let files = Files::new("plain", &Identity::new());
    let options = format!("--addr plain:127.0.0.1:0 {}", files.options());
    let server = Program::start("server", &options);
    let mut client = connect(next_address(&server));
    ask(&mut client, "hi", "hi");
    close(client);
    terminate(server);
}

#[test]
fn unusable_files_end_the_example_server_with_2_and_one_line() {
    let files = Files::new("unusable", &Identity::new());
    let other = Files::new("other", &Identity::new());
    fs::write(files.path("empty.pem"), "").expect("there is space");
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let cases = [
        (files.path("missing.pem"), key.clone(), "--tls-cert "),
        (files.path("empty.pem"), key.clone(), "no certificate in PEM"),
        (cert.clone(), files.path("missing.pem"), "--tls-key "),
        (cert.clone(), cert.clone(), "--tls-key "),
        (cert, other.path("key.pem"), "with --tls-key "),
    ];
    for (cert, key, part) in cases {
        let ended = run("server", &format!("--addr 127.0.0.1:0 --tls-cert {cert} --tls-key {key}"));
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{ended:?}");
        assert!(ended.stderr[0].contains(part), "{part}: {ended:?}");
    }
    let ended = run("server", &format!("--tls-cert {key}"));
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

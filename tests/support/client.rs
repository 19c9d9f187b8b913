//! Clients over real sockets: tungstenite, which shares no code with the library, and bare TCP for
//! bytes that a well-behaved client would not send.
//!
//! Every socket has a timeout, so that a test fails instead of hanging if the server is silent.
//! Nothing waits for a fixed time: [`wait_until`] waits for a condition.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::{Request, Response};
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::frames;
use super::requests::{GOOD_REQUEST, GOOD_RESPONSE};

pub type Client = WebSocket<TcpStream>;

/// Maximum time to wait for a server on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The pause between two checks of a condition that nothing announces.
const CHECK_PAUSE: Duration = Duration::from_millis(1);

/// Waits until `condition` holds, and panics with its `name` after [`DEADLINE`].
#[track_caller]
pub fn wait_until(name: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "after {DEADLINE:?} this does not hold: {name}");
        std::thread::sleep(CHECK_PAUSE);
    }
}

/// A TCP connection to `address`.
#[track_caller]
pub fn dial(address: SocketAddr) -> TcpStream {
    with_options(TcpStream::connect(address).expect("the server accepts"))
}

/// A TCP connection to `address` with a receive buffer of about `buffer_bytes`, so that the server
/// soon notices when the client does not read.
#[track_caller]
pub fn dial_narrow(address: SocketAddr, buffer_bytes: usize) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    // Set before connecting, because it limits the first offered window (tcp(7)).
    socket.set_recv_buffer_size(buffer_bytes).expect("a socket option");
    socket.connect(&address.into()).expect("the server accepts");
    with_options(socket.into())
}

fn with_options(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).expect("a socket option");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket option");
    stream
}

/// An open WebSocket connection to `address`.
#[track_caller]
pub fn connect(address: SocketAddr) -> Client {
    upgrade(dial(address), request(address, "/", &[])).0
}

/// A request for an upgrade, with `headers` besides the required ones.
pub fn request(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Request {
    let mut request =
        format!("ws://{address}{path}").into_client_request().expect("the URL is valid");
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        request.headers_mut().append(name, HeaderValue::from_str(value).expect("a header value"));
    }
    request
}

/// Upgrades `stream`, and returns the client and the response.
#[track_caller]
pub fn upgrade(stream: TcpStream, request: Request) -> (Client, Response) {
    tungstenite::client::client_with_config(request, stream, Some(unlimited()))
        .expect("the server agrees to the upgrade")
}

/// Expects a refusal of the upgrade, and returns its status.
#[track_caller]
pub fn refused(stream: TcpStream, request: Request) -> u16 {
    match tungstenite::client::client(request, stream) {
        Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
            response.status().as_u16()
        }
        other => panic!("not a refusal: {other:?}"),
    }
}

/// A second handle to the socket of `client`, so that another thread can write while this one
/// reads.
pub fn writing_half(client: &Client) -> Client {
    let stream = client.get_ref().try_clone().expect("a descriptor");
    WebSocket::from_raw_socket(stream, Role::Client, Some(unlimited()))
}

/// A client without limits, because the tests check those of the server.
fn unlimited() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

/// Sends a text message and expects the answer.
#[track_caller]
pub fn ask(client: &mut Client, question: &str, answer: &str) {
    client.send(Message::text(question)).expect("the server reads");
    assert_eq!(client.read().expect("an answer"), Message::text(answer));
}

/// Expects a close frame, answers it, expects the server to end its direction of TCP, and ends the
/// other.
#[track_caller]
pub fn expect_close(mut client: Client, code: u16, reason: &str) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: reason.to_owned().into() };
    assert_eq!(client.read().expect("a close frame"), Message::Close(Some(frame)));
    expect_end(&mut client);
}

/// Closes with 1000, expects the server to answer and to end its direction of TCP, and ends the
/// other.
#[track_caller]
pub fn close(mut client: Client) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    client.close(Some(frame)).expect("the server reads");
    // RFC 6455 5.5.1: the answer typically echoes the code. The server may choose the reason.
    match client.read().expect("the server's close frame") {
        Message::Close(Some(CloseFrame { code: CloseCode::Normal, .. })) => expect_end(&mut client),
        other => panic!("not the answer to a close frame: {other:?}"),
    }
}

/// Expects the end of TCP after the closing handshake.
#[track_caller]
fn expect_end(client: &mut Client) {
    match client.read() {
        Err(Error::ConnectionClosed) => {}
        other => panic!("not an orderly end: {other:?}"),
    }
}

/// Expects the end of TCP without a closing handshake.
#[track_caller]
pub fn expect_end_without_close(client: &mut Client) {
    match client.read() {
        Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {}
        other => panic!("not an end of the stream without a close frame: {other:?}"),
    }
}

/// A TCP connection after the handshake, for handwritten frames.
#[track_caller]
pub fn open_raw(address: SocketAddr) -> TcpStream {
    open_on(dial(address))
}

/// Does the handshake on `stream`, for handwritten frames.
#[track_caller]
pub fn open_on<S: Read + Write>(mut stream: S) -> S {
    stream.write_all(GOOD_REQUEST).expect("the server reads");
    expect_bytes(&mut stream, GOOD_RESPONSE);
    stream
}

/// Expects `bytes` as the next input.
#[track_caller]
pub fn expect_bytes(stream: &mut impl Read, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).expect("the server answers");
    assert!(
        read == bytes,
        "got {:?}\nnot {:?}",
        String::from_utf8_lossy(&read),
        String::from_utf8_lossy(bytes)
    );
}

/// Expects a keepalive ping, whose payload the server chooses.
#[track_caller]
pub fn expect_keepalive_ping(stream: &mut impl Read) {
    let mut ping = [0; 10];
    stream.read_exact(&mut ping).expect("a ping");
    assert_eq!(ping[..], frames::server(frames::PING, &ping[2..]).bytes());
}

/// Expects a close frame, answers it, and expects the server to end TCP.
#[track_caller]
pub fn expect_raw_close(mut stream: impl Read + Write, code: u16, reason: &str) {
    let payload = frames::close_payload(code, reason.as_bytes());
    expect_bytes(&mut stream, &frames::server(frames::CLOSE, &payload).bytes());
    stream.write_all(&frames::client(frames::CLOSE, &payload).bytes()).expect("the server reads");
    assert_eq!(read_all(&mut stream), "", "nothing follows a close frame");
}

/// Reads until the server ends its direction.
#[track_caller]
pub fn read_all(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the server ends the stream");
    String::from_utf8(bytes).expect("UTF-8")
}

/// Sends `request` and returns the whole response, headers and body.
#[track_caller]
pub fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = dial(address);
    stream.write_all(request.as_bytes()).expect("the server reads");
    read_all(&mut stream)
}

/// Ends TCP with a reset instead of an orderly end.
pub fn reset(stream: TcpStream) {
    let socket = socket2::SockRef::from(&stream);
    // A linger of zero makes close(2) send RST (socket(7)).
    socket.set_linger(Some(Duration::ZERO)).expect("a socket option");
}

/// Ends the client's direction of TCP. The server's direction stays open.
pub fn half_close(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("the connection is open");
}

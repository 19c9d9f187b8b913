//! A blocking client for measurements other than throughput: many idle connections, short
//! connections, and a very large message.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// An upgraded connection. When dropped it is reset, so that thousands of them leave no ports in
/// TIME_WAIT.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    /// Opens the `index`th of many connections. They come from several local addresses, because one
    /// has only about 28 000 ports.
    pub(crate) fn connect(server: SocketAddr, index: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let host = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + index / PORTS_PER_ADDRESS);
        socket.bind(&SocketAddr::from((host, 0)).into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_read_timeout(Some(IO_TIMEOUT))?;
        socket.set_write_timeout(Some(IO_TIMEOUT))?;
        socket.connect(&server.into())?;
        let mut client = Self { stream: socket.into() };
        client.upgrade(server)?;
        Ok(client)
    }

    /// Sends a short text and waits for its echo.
    pub(crate) fn echo(&mut self, text: &str) -> io::Result<()> {
        let length = text.len() as u8;
        assert!(length < 126, "a short text has a short header");
        let mut frame = vec![0x81, 0x80 | length];
        frame.extend_from_slice(&MASK);
        frame.extend(masked(text.as_bytes()));
        self.stream.write_all(&frame)?;
        let mut echo = vec![0; 2 + text.len()];
        self.stream.read_exact(&mut echo)?;
        match echo[..2] == [0x81, length] && &echo[2..] == text.as_bytes() {
            true => Ok(()),
            false => Err(io::Error::new(ErrorKind::InvalidData, "the echo is wrong")),
        }
    }

    fn upgrade(&mut self, server: SocketAddr) -> io::Result<()> {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        // The server sends nothing after its answer until it receives a message.
        while !answer.ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut piece)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                bytes => answer.extend_from_slice(&piece[..bytes]),
            }
        }
        // The answer to the key above, which is the example of RFC 6455 1.3.
        let answer = String::from_utf8_lossy(&answer);
        match answer.starts_with("HTTP/1.1 101 ") && answer.contains(ACCEPT) {
            true => Ok(()),
            false => Err(io::Error::new(ErrorKind::InvalidData, "the upgrade was refused")),
        }
    }
}

/// Masks `payload`. A part that starts at a multiple of four bytes can be masked separately.
pub(crate) fn masked(payload: &[u8]) -> impl Iterator<Item = u8> {
    payload.iter().zip(MASK.into_iter().cycle()).map(|(byte, key)| byte ^ key)
}

/// The masking key of every frame here.
pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Fewer than Linux's default range, to leave some for TIME_WAIT.
const PORTS_PER_ADDRESS: u32 = 20_000;

/// After this long without an answer, a message is considered lost.
const IO_TIMEOUT: Duration = Duration::from_secs(10);

//! An echo server on sockudo-ws: the handshake of its example, with `forward`, which flushes replies
//! once no more messages are ready.

mod common;

use std::io;

use futures_util::{StreamExt, TryStreamExt, future};
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::{Config, Error, Result, WebSocketStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn main() -> io::Result<()> {
    // Measures the clock, which takes 200 ms, before the runtime starts.
    sockudo_ws::init_clock();
    // Its timeouts need the runtime's timers.
    common::runtime_builder().enable_time().build()?.block_on(serve())
}

async fn serve() -> io::Result<()> {
    let listener = common::listen().await?;
    loop {
        tokio::spawn(echo(common::accept(&listener).await?));
    }
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    upgrade(&mut stream).await?;
    let socket = WebSocketStream::server(stream, Config::default());
    // Of the trait, since the type's own halves are no `Stream` and `Sink`.
    let (replies, messages) = StreamExt::split(socket);
    let messages =
        messages.try_filter(|message| future::ready(message.is_text() || message.is_binary()));
    messages.forward(replies).await
}

async fn upgrade(stream: &mut TcpStream) -> Result<()> {
    let mut head = Vec::with_capacity(4096);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(Error::ConnectionClosed);
        }
        if let Some((request, _)) = parse_request(&head)? {
            let response = build_response(&generate_accept_key(request.key), None, None);
            return Ok(stream.write_all(&response).await?);
        }
    }
}

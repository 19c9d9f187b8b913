//! An echo server on tokio-websockets: the example of its repository. `forward` would not be faster,
//! because it flushes replies before it returns the next message.

mod common;

use std::io;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::task;
use tokio_websockets::{Config, Limits, ServerBuilder};

fn main() -> io::Result<()> {
    common::runtime().block_on(serve())
}

async fn serve() -> io::Result<()> {
    let listener = common::listen().await?;
    loop {
        tokio::spawn(task::unconstrained(echo(common::accept(&listener).await?)));
    }
}

async fn echo(stream: TcpStream) {
    let builder = ServerBuilder::new().config(Config::default().frame_size(usize::MAX));
    let upgraded = builder.limits(Limits::unlimited()).accept(stream).await;
    let Ok((_request, mut socket)) = upgraded else { return };
    while let Some(Ok(message)) = socket.next().await {
        let is_data = message.is_text() || message.is_binary();
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}

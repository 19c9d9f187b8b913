//! An echo server on tokio-tungstenite: the example of its repository.

mod common;

use std::io;

use futures_util::{StreamExt, TryStreamExt, future};
use tokio::net::TcpStream;
use tokio_tungstenite::accept_async;

fn main() -> io::Result<()> {
    common::runtime().block_on(serve())
}

async fn serve() -> io::Result<()> {
    let listener = common::listen().await?;
    loop {
        tokio::spawn(echo(common::accept(&listener).await?));
    }
}

async fn echo(stream: TcpStream) {
    let Ok(socket) = accept_async(stream).await else { return };
    let (replies, messages) = socket.split();
    let messages =
        messages.try_filter(|message| future::ready(message.is_text() || message.is_binary()));
    // An error ends only this connection.
    let _ = messages.forward(replies).await;
}

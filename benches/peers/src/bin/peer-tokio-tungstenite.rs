//! A server on tokio-tungstenite. For echoes, the example of its repository. For fan-out, each
//! connection has a task that sends and one that receives, with a broadcast channel of tokio
//! between them.

mod common;

use std::io;

use futures_util::{StreamExt, TryStreamExt, future};
use tokio::net::TcpStream;
use tokio::sync::broadcast::{self, Sender};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

fn main() -> io::Result<()> {
    common::runtime().block_on(serve())
}

async fn serve() -> io::Result<()> {
    let listener = common::listen().await?;
    let (everyone, _) = broadcast::channel(common::CHANNEL_MESSAGES);
    loop {
        let stream = common::accept(&listener).await?;
        match common::is_broadcast() {
            true => tokio::spawn(send_to_all(stream, everyone.clone())),
            false => tokio::spawn(echo(stream)),
        };
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

async fn send_to_all(stream: TcpStream, everyone: Sender<Message>) {
    let Ok(socket) = accept_async(stream).await else { return };
    let (connection, mut messages) = socket.split();
    let delivery = tokio::spawn(common::deliver(everyone.subscribe(), connection));
    while let Some(Ok(message)) = messages.next().await {
        if message.is_text() || message.is_binary() {
            // This connection is a receiver itself.
            let _ = everyone.send(message);
        }
    }
    delivery.abort();
}

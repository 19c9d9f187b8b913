//! A server on axum, with the router and upgrade of its documentation. For echoes, `forward`
//! flushes replies once no more messages are ready, which is several times as fast on pipelined
//! messages as alternating `recv` and `send`. For fan-out, each connection has a task that sends and
//! one that receives, with a broadcast channel between them, as in its chat example.

mod common;

use std::io;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{StreamExt, TryStreamExt, future};
use tokio::sync::broadcast::{self, Sender};

fn main() -> io::Result<()> {
    common::runtime().block_on(serve())
}

async fn serve() -> io::Result<()> {
    let listener = common::listen().await?.tap_io(|stream| {
        // If the connection has ended, the next read fails too.
        let _ = stream.set_nodelay(true);
    });
    let route = if common::is_broadcast() { any(upgrade_subscriber) } else { any(upgrade) };
    let (everyone, _) = broadcast::channel(common::CHANNEL_MESSAGES);
    axum::serve(listener, Router::new().route("/", route).with_state(everyone)).await
}

async fn upgrade(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo)
}

async fn echo(socket: WebSocket) {
    let (replies, messages) = socket.split();
    let is_data = |message: &Message| matches!(message, Message::Text(_) | Message::Binary(_));
    let messages = messages.try_filter(|message| future::ready(is_data(message)));
    // An error ends only this connection.
    let _ = messages.forward(replies).await;
}

async fn upgrade_subscriber(
    upgrade: WebSocketUpgrade,
    State(everyone): State<Sender<Message>>,
) -> Response {
    upgrade.on_upgrade(|socket| send_to_all(socket, everyone))
}

async fn send_to_all(socket: WebSocket, everyone: Sender<Message>) {
    let (connection, mut messages) = socket.split();
    let delivery = tokio::spawn(common::deliver(everyone.subscribe(), connection));
    while let Some(Ok(message)) = messages.next().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            // This connection is a receiver itself.
            let _ = everyone.send(message);
        }
    }
    delivery.abort();
}

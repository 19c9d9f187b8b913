//! An echo server on axum, with the router and upgrade of its documentation. `forward` flushes
//! replies once no more messages are ready, which is several times as fast on pipelined messages as
//! alternating `recv` and `send`.

mod common;

use std::io;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{StreamExt, TryStreamExt, future};

fn main() -> io::Result<()> {
    common::runtime().block_on(serve())
}

async fn serve() -> io::Result<()> {
    let listener = common::listen().await?.tap_io(|stream| {
        // If the connection has ended, the next read fails too.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, Router::new().route("/", any(upgrade))).await
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

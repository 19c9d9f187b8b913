//! An echo server on axum: the router and the upgrade of its documentation. Replies are flushed
//! when no more messages are ready (`forward`), which is several times as fast on pipelined
//! messages as its `recv` and `send` in turn.

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
        // A connection that is gone already is found out by whoever reads it.
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
    // An error ends this connection only, and there is nobody to tell.
    let _ = messages.forward(replies).await;
}

//! An echo server on actix-ws: the loop of its documentation, with `aggregate_continuations`.

mod common;

use std::io;

use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, rt, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, Session};

fn main() -> io::Result<()> {
    rt::System::new().block_on(serve())
}

async fn serve() -> io::Result<()> {
    let server = HttpServer::new(|| App::new().route("/", web::get().to(upgrade)))
        .workers(common::workers())
        .tcp_nodelay(true)
        .bind("127.0.0.1:0")?;
    println!("listening on {}", server.addrs()[0]);
    server.run().await
}

async fn upgrade(request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Error> {
    let (response, session, messages) = actix_ws::handle(&request, body)?;
    let messages = messages.max_frame_size(MESSAGE_BYTES_MAX).aggregate_continuations();
    rt::spawn(echo(session, messages.max_continuation_size(MESSAGE_BYTES_MAX)));
    Ok(response)
}

async fn echo(mut session: Session, mut messages: AggregatedMessageStream) {
    while let Some(Ok(message)) = messages.recv().await {
        let sent = match message {
            AggregatedMessage::Text(text) => session.text(text).await,
            AggregatedMessage::Binary(bytes) => session.binary(bytes).await,
            AggregatedMessage::Ping(bytes) => session.pong(&bytes).await,
            AggregatedMessage::Pong(_) => Ok(()),
            AggregatedMessage::Close(reason) => {
                // Fails if the connection has ended.
                let _ = session.close(reason).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

const MESSAGE_BYTES_MAX: usize = 64 << 20;

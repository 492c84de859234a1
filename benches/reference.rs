//! The reference for connects: the same actix-web with streams that nobody publishes to. No rooms, no registry, no identity;
//! what remains is what the stack itself asks for a connection: `reference HTTP_PORT`.

use std::env;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Result, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

/// The head, one block, then silence.
async fn sse() -> HttpResponse {
    let hello = stream::iter([Ok::<_, actix_web::Error>(Bytes::from_static(b"retry: 3000\n:\n\n"))]);
    HttpResponse::Ok().content_type("text/event-stream").streaming(hello.chain(stream::pending()))
}

/// The upgrade, the two texts that the generator waits for, then silence.
async fn websocket(request: HttpRequest, _payload: web::Payload) -> Result<HttpResponse> {
    let mut response = actix_web_actors::ws::handshake(&request)?;
    let mut hello = Vec::new();
    for text in [&br#"{"type":"welcome","connection":"0","user":null}"#[..], br#"{"type":"joined","room":"r"}"#] {
        hello.extend_from_slice(&[0x81, text.len() as u8]);
        hello.extend_from_slice(text);
    }
    let hello = stream::iter([Ok::<_, actix_web::Error>(Bytes::from(hello))]);
    Ok(response.streaming(hello.chain(stream::pending())))
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let Some(port) = env::args().skip(1).find_map(|argument| argument.parse::<u16>().ok()) else {
        eprintln!("usage: reference HTTP_PORT");
        std::process::exit(2);
    };
    HttpServer::new(|| App::new().route("/sse", web::get().to(sse)).route("/ws", web::get().to(websocket)))
        .workers(1)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .backlog(4096)
        .bind(("127.0.0.1", port))?
        .run()
        .await
}

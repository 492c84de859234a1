//! The reference for connects: the same actix-web with streams that nobody publishes to. No rooms, no registry, no identity;
//! what remains is what the stack itself asks for a connection, over TLS too: `reference PORT [CERT KEY]`.

use std::{env, sync::Arc};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The head, one block, then silence.
async fn sse() -> HttpResponse {
    let hello = stream::iter([Ok::<_, actix_web::Error>(Bytes::from_static(b"retry: 3000\n:\n\n"))]);
    HttpResponse::Ok().content_type("text/event-stream").streaming(hello.chain(stream::pending()))
}

/// The upgrade, the two texts that the generator waits for, then silence.
async fn websocket(request: HttpRequest, _payload: web::Payload) -> actix_web::Result<HttpResponse> {
    let mut response = actix_web_actors::ws::handshake(&request)?;
    let mut hello = Vec::new();
    for text in [&br#"{"type":"welcome","connection":"0","user":null}"#[..], br#"{"type":"joined","room":"r"}"#] {
        hello.extend_from_slice(&[0x81, text.len() as u8]);
        hello.extend_from_slice(text);
    }
    let hello = stream::iter([Ok::<_, actix_web::Error>(Bytes::from(hello))]);
    Ok(response.streaming(hello.chain(stream::pending())))
}

/// A server configuration with rustls' own defaults.
fn tls(cert: &str, key: &str) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions()?;
    Ok(builder.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (port, files) = match arguments.as_slice() {
        [port] => (port.parse::<u16>()?, None),
        [port, cert, key] => (port.parse()?, Some((cert, key))),
        _ => return Err("usage: reference PORT [CERT KEY]".into()),
    };
    let server = HttpServer::new(|| App::new().route("/sse", web::get().to(sse)).route("/ws", web::get().to(websocket)))
        .workers(1)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .backlog(4096);
    let address = ("127.0.0.1", port);
    let server = match files {
        None => server.bind(address)?,
        Some((cert, key)) => server.bind_rustls_0_23(address, tls(cert, key)?)?,
    };
    Ok(server.run().await?)
}

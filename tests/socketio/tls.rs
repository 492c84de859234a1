//! A hub that ends TLS itself and speaks HTTP/1.1 and HTTP/2 on one port: polls over either, upgrades over the first.

use std::{io::Write, net::TcpStream, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket, client::IntoClientRequest};

use super::{
    shared::{PATIENCE, hub::Setup},
    support::{self, Hub},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/tls");

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn start() -> Hub {
    let config = format!("[server]\ntls = {{ cert = '{FOLDER}/first.pem', key = '{FOLDER}/first.key.pem' }}");
    // Nothing here asks it over plain HTTP, so nobody asks whether it is ready.
    Hub::of(Setup::new(&config).start_unready())
}

fn trusting(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    // A second installation changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{FOLDER}/ca.pem")).expect("a certificate")).expect("a root");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A connection of a client that could speak both.
fn connect(hub: &Hub, protocols: &[&[u8]]) -> Stream {
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(trusting(protocols), name).expect("a client"), hub.connect())
}

fn send(hub: &Hub, method: &str, path: &str, body: &str) -> String {
    let mut stream = connect(hub, &[b"http/1.1"]);
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).expect("a request");
    let answer = support::answer(stream);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

fn socket(hub: &Hub, path: &str) -> WebSocket<Stream> {
    let request = format!("wss://localhost{path}").into_client_request().expect("a request");
    tungstenite::client(request, connect(hub, &[b"http/1.1"])).expect("a WebSocket").0
}

fn text(socket: &mut WebSocket<Stream>) -> String {
    match socket.read().expect("a message") {
        Message::Text(text) => text.to_string(),
        other => panic!("{other:?} is no text"),
    }
}

fn sid(open: &str) -> String {
    open.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id").to_owned()
}

#[test]
fn a_session_upgrades_over_tls_and_loses_nothing() {
    let hub = start();
    let path = "/socket.io/?EIO=4&transport=polling";
    let path = format!("{path}&sid={}", sid(&send(&hub, "GET", path, "")));
    assert_eq!(send(&hub, "POST", &path, "40"), "ok");
    assert!(send(&hub, "GET", &path, "").starts_with("40{"));
    assert_eq!(send(&hub, "POST", &path, r#"42["subscribe","demo"]"#), "ok");
    assert_eq!(send(&hub, "GET", &path, ""), r#"42["joined","demo"]"#);
    let mut socket = socket(&hub, &path.replace("polling", "websocket"));
    socket.send(Message::text("2probe")).expect("it is open");
    assert_eq!(text(&mut socket), "3probe");
    for n in 0..30 {
        if n == 10 {
            assert!(send(&hub, "GET", &path, "").starts_with("42[\"n\",0]"), "a poll after the probe still takes what there is");
        }
        if n == 20 {
            socket.send(Message::text("5")).expect("it is open");
        }
        send(&hub, "POST", "/api/publish", &format!(r#"{{"room":"demo","event":"n","data":{n}}}"#));
    }
    for n in 10..30 {
        assert_eq!(text(&mut socket), format!(r#"42["n",{n}]"#));
    }
    socket.send(Message::text(r#"421["n","demo","#.to_owned() + &"9".repeat(200_000) + "]")).expect("it is open");
    let mut told = [text(&mut socket), text(&mut socket)];
    told.sort_unstable_by_key(String::len);
    assert!(told[0].starts_with("431[") && told[0].contains(r#""ok":true"#), "{}", told[0]);
    assert_eq!(told[1].len(), 200_000 + r#"42["n",]"#.len());
    socket.close(None).expect("it is open");
    while socket.read().is_ok() {}
}

#[test]
fn pages_of_2012_take_a_web_socket_over_tls() {
    let hub = start();
    let sid = send(&hub, "GET", "/socket.io/1/", "").split(':').next().expect("an id").to_owned();
    let mut socket = socket(&hub, &format!("/socket.io/1/websocket/{sid}"));
    assert_eq!(text(&mut socket), "1::");
    socket.send(Message::text(r#"5:::{"name":"subscribe","args":["demo"]}"#)).expect("it is open");
    assert_eq!(text(&mut socket), r#"5:::{"name":"joined","args":["demo"]}"#);
}

/// A session that polls over HTTP/2, all requests over one connection, and moves to a WebSocket beside it.
#[actix_web::test]
async fn a_session_polls_over_http_2_and_upgrades_over_http_1() {
    let hub = start();
    let connector = awc::Connector::new().rustls_0_23(trusting(&[b"h2"]));
    let client = awc::Client::builder().connector(connector).timeout(PATIENCE).finish();
    let url = |path: &str| format!("https://localhost:{}{path}", hub.node.address.port());
    let ask = async |path: &str, body: Option<&'static str>| {
        let sent = match body {
            Some(body) => client.post(url(path)).send_body(body),
            None => client.get(url(path)).send(),
        };
        let mut answer = sent.await.expect("an answer");
        assert_eq!((answer.status().as_u16(), answer.version()), (200, actix_web::http::Version::HTTP_2));
        String::from_utf8(answer.body().await.expect("a body").to_vec()).expect("text")
    };
    let path = "/socket.io/?EIO=4&transport=polling";
    let path = format!("{path}&sid={}", sid(&ask(path, None).await));
    assert_eq!(ask(&path, Some("40")).await, "ok");
    assert!(ask(&path, None).await.starts_with("40{"));
    // The poll waits while the post is answered beside it.
    let (told, posted) = tokio::join!(ask(&path, None), ask(&path, Some(r#"42["subscribe","demo"]"#)));
    assert_eq!((told.as_str(), posted.as_str()), (r#"42["joined","demo"]"#, "ok"));
    let mut socket = socket(&hub, &path.replace("polling", "websocket"));
    socket.send(Message::text("2probe")).expect("it is open");
    assert_eq!(text(&mut socket), "3probe");
    assert_eq!(ask(&path, None).await, "6");
    socket.send(Message::text("5")).expect("it is open");
    ask("/api/publish", Some(r#"{"room":"demo","event":"e"}"#)).await;
    assert_eq!(text(&mut socket), r#"42["e"]"#);
}

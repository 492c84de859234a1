//! The hub as a client: GET with a bound on time and size. For forward auth and for JWKS documents.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use actix_web::http::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Longest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 << 10;

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer. No text holds what was sent.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    #[error("the address is none that can be asked")]
    Address,
    #[error("no answer: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("no whole answer of at most {MAX_ANSWER_BYTES} bytes: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// Asks once, on a connection of its own. Redirects are not followed: to a login page they would end in a 200 that means no.
pub async fn get(url: &str, headers: &[(HeaderName, HeaderValue)], patience: Duration) -> Result<Answer, FetchError> {
    tokio::time::timeout(patience, ask(url, headers)).await.unwrap_or(Err(FetchError::TimedOut(patience)))
}

async fn ask(url: &str, headers: &[(HeaderName, HeaderValue)]) -> Result<Answer, FetchError> {
    let uri: Uri = url.parse().map_err(|_| FetchError::Address)?;
    let (Some(authority), is_tls) = (uri.authority(), uri.scheme_str() == Some("https")) else { return Err(FetchError::Address) };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).header("host", authority.as_str()).header("connection", "close").header("accept", "*/*");
    for (name, value) in headers {
        request = request.header(name.as_str(), value.as_bytes());
    }
    let request = request.body(Empty::new()).map_err(|_| FetchError::Address)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    if is_tls {
        let name = ServerName::try_from(host).map_err(|_| FetchError::Address)?;
        exchange(TlsConnector::from(tls()).connect(name, stream).await?, request).await
    } else {
        exchange(stream, request).await
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Moves the bytes; what goes wrong shows in the answer. It ends with the sender and the body.
    actix_web::rt::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(FetchError::Body)?.to_bytes();
    // The two crates have the same words in different versions; what one has read is valid for the other.
    let status = StatusCode::from_u16(head.status.as_u16()).map_err(|_| FetchError::Address)?;
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        Some((HeaderName::try_from(name.as_str()).ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    };
    Ok(Answer { status, headers: head.headers.iter().filter_map(header).collect(), body })
}

/// The system's root certificates. Without any, plain addresses still work.
fn tls() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    });
    Arc::clone(config)
}

//! The hub as a client: GET with a bound on time and size. For forward auth and for JWKS documents.

use std::{cell::OnceCell, sync::Arc, time::Duration};

use actix_web::http::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use awc::{Client, Connector};
use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// Longest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 << 10;

thread_local! {
    // Its connections live on the thread that opened them.
    static CLIENT: OnceCell<Client> = const { OnceCell::new() };
}

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
    #[error("no answer: {0}")]
    Failed(String),
    #[error("the answer has more than {MAX_ANSWER_BYTES} bytes, or was cut short: {0}")]
    Body(String),
}

/// Asks once. Redirects are not followed: to a login page they would end in a 200 that means no.
pub async fn get(url: &str, headers: &[(HeaderName, HeaderValue)], patience: Duration) -> Result<Answer, FetchError> {
    let mut request = CLIENT.with(|client| client.get_or_init(build).get(url));
    for (name, value) in headers {
        request = request.append_header((name.clone(), value.clone()));
    }
    let asked = async {
        let mut response = request.send().await.map_err(|error| FetchError::Failed(error.to_string()))?;
        let body = response.body().limit(MAX_ANSWER_BYTES).await.map_err(|error| FetchError::Body(error.to_string()))?;
        Ok(Answer { status: response.status(), headers: response.headers().clone(), body })
    };
    tokio::time::timeout(patience, asked).await.unwrap_or(Err(FetchError::TimedOut(patience)))
}

fn build() -> Client {
    // Time is bounded by the caller.
    Client::builder().connector(Connector::new().rustls_0_23(Arc::new(tls()))).disable_redirects().disable_timeout().finish()
}

/// The system's root certificates. Without any, plain addresses still work.
fn tls() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

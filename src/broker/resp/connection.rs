//! One publisher's socket: reads, hands commands to the session in order, writes the replies of a pipelined run at once.
//! Nothing is read while replies are not taken, so a peer that doesn't read can't make the hub hold more.

use std::{io, mem, time::Duration};

use bytes::BytesMut;
use redis_protocol::error::RedisProtocolError;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{error::Elapsed, timeout},
};

use super::{
    Sink,
    decode::{Decoder, ProtocolError},
    reply::{Protocol, Reply},
    session::Session,
};

/// A read takes at most about this much, which bounds what one write answers.
const READ_BYTES: usize = 16 << 10;
/// Replies are written when this many bytes wait, or when no whole command is left.
const WRITE_BYTES: usize = 16 << 10;
/// How much and how long a refused peer's input is still taken, so that it reads the error: a close with input unread would
/// reset the connection and the error would be lost.
const LINGER_BYTES: u64 = 4 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection ended otherwise than by its peer's QUIT or close.
#[derive(Debug, Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("half a command, or replies that nobody took, for too long")]
    Stalled(#[from] Elapsed),
    #[error("encoding a reply: {0}")]
    Encode(#[from] RedisProtocolError),
}

pub async fn run<S: Sink>(mut stream: TcpStream, mut session: Session<S>, stall: Duration) -> Result<(), ConnectionError> {
    let mut decoder = Decoder::default();
    let mut out = BytesMut::new();
    while read(&mut stream, &mut decoder, stall).await? {
        let is_over = answer_all(&mut stream, &mut session, &mut decoder, &mut out, stall).await;
        flush(&mut stream, &mut out, stall).await?;
        match is_over {
            Ok(false) => {}
            Ok(true) => {
                linger(&mut stream).await;
                return Ok(());
            }
            Err(ConnectionError::Protocol(error)) if error != ProtocolError::Http => {
                Reply::error(format_args!("ERR {error}")).encode(Protocol::Resp2, &mut out)?;
                flush(&mut stream, &mut out, stall).await?;
                linger(&mut stream).await;
                return Err(error.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Answers every whole command that was read; true after QUIT.
async fn answer_all<S: Sink>(
    stream: &mut TcpStream,
    session: &mut Session<S>,
    decoder: &mut Decoder,
    out: &mut BytesMut,
    stall: Duration,
) -> Result<bool, ConnectionError> {
    while let Some(arguments) = decoder.decode(&session.limits())? {
        let answer = session.answer(&arguments).await;
        answer.reply.encode(session.protocol(), out)?;
        if answer.is_last {
            return Ok(true);
        }
        if out.len() >= WRITE_BYTES {
            flush(stream, out, stall).await?;
        }
        // A sink that never waits would let one publisher keep the thread.
        tokio::task::consume_budget().await;
    }
    Ok(false)
}

/// False at the end of the input. An idle connection holds no buffer while it waits, and may wait for ever.
async fn read(stream: &mut TcpStream, decoder: &mut Decoder, stall: Duration) -> Result<bool, ConnectionError> {
    loop {
        if decoder.is_empty() {
            *decoder.buffer() = BytesMut::new();
            stream.readable().await?;
        } else {
            timeout(stall, stream.readable()).await??;
        }
        let buffer = decoder.buffer();
        buffer.reserve(READ_BYTES);
        match stream.try_read_buf(buffer) {
            Ok(count) => return Ok(count > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn flush(stream: &mut TcpStream, out: &mut BytesMut, stall: Duration) -> Result<(), ConnectionError> {
    if out.is_empty() {
        return Ok(());
    }
    // Taken, not cleared: an idle connection keeps no buffer.
    let bytes = mem::take(out);
    timeout(stall, stream.write_all(&bytes)).await??;
    Ok(())
}

/// Best effort: whatever goes wrong now, the connection ends.
async fn linger(stream: &mut TcpStream) {
    let _ = timeout(LINGER, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    })
    .await;
}

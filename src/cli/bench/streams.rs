//! The streams of a run: its rooms or users, by number, and all that is said with their names.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;

use super::{
    BenchError,
    wire::{Subscription, Wire},
};

/// Longer than any run.
const TOKEN_LIFE_SECONDS: u64 = 24 * 3600;

#[derive(Debug, Clone, Copy)]
enum StreamKind {
    Room,
    User,
}

pub struct Streams {
    kind: StreamKind,
    /// Makes the names of this run differ from those of any other, so that no history or late event of one comes here.
    run: String,
    /// What a subscriber of each stream sends first.
    handshakes: Vec<Vec<u8>>,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
}

impl Streams {
    /// `on_each`: how many streams a connection asks for.
    pub fn rooms(count: u32, run: String, wire: Wire, host: &str, on_each: u32) -> Self {
        let kind = StreamKind::Room;
        let handshakes = (0..count).map(|n| wire.handshake(host, Subscription::Room(&name(&run, n)), on_each)).collect();
        Self { kind, run, handshakes }
    }

    pub fn users(count: u32, run: String, wire: Wire, host: &str, jwt_secret: &str) -> Result<Self, BenchError> {
        let key = EncodingKey::from_secret(jwt_secret.as_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let handshake = |n| {
            let claims = Claims { sub: &name(&run, n), exp: now + TOKEN_LIFE_SECONDS };
            let token = encode(&Header::default(), &claims, &key)?;
            Ok(wire.handshake(host, Subscription::User { token: &token }, 1))
        };
        let handshakes = (0..count).map(handshake).collect::<Result<_, jsonwebtoken::errors::Error>>().map_err(BenchError::Token)?;
        Ok(Self { kind: StreamKind::User, run, handshakes })
    }

    pub fn count(&self) -> u32 {
        self.handshakes.len() as u32
    }

    /// Subscribers are dealt out in turn.
    pub fn of_subscriber(&self, place: usize) -> u32 {
        (place % self.handshakes.len()) as u32
    }

    /// How many of so many subscribers each stream has.
    pub fn members(&self, subscribers: usize) -> Vec<u64> {
        let count = self.handshakes.len();
        (0..count).map(|n| ((subscribers + count - 1 - n) / count) as u64).collect()
    }

    pub fn handshake(&self, stream: u32) -> &[u8] {
        &self.handshakes[stream as usize]
    }

    /// The name of a room or user.
    pub fn name(&self, stream: u32) -> String {
        name(&self.run, stream)
    }

    pub fn for_users(&self) -> bool {
        matches!(self.kind, StreamKind::User)
    }

    /// The Redis channel of the native dialect.
    pub fn channel(&self, stream: u32) -> String {
        let kind = self.kind_name();
        format!("callboard:{kind}:{}", self.name(stream))
    }

    /// As a publish says whom it is for.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            StreamKind::Room => "room",
            StreamKind::User => "user",
        }
    }
}

fn name(run: &str, stream: u32) -> String {
    format!("bench-{run}-{stream}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_as_subscribers_are_dealt_out() {
        let streams = Streams::rooms(3, "r".into(), Wire::Sse, "h", 1);
        for subscribers in 0..10 {
            let mut dealt = vec![0; 3];
            (0..subscribers).for_each(|place| dealt[streams.of_subscriber(place) as usize] += 1);
            assert_eq!(streams.members(subscribers), dealt, "{subscribers}");
        }
    }

    #[test]
    fn a_user_proves_itself_with_a_token_of_the_secret() {
        let streams = Streams::users(2, "r".into(), Wire::Ws, "h", "secret").unwrap();
        let head = String::from_utf8(streams.handshake(1).to_vec()).unwrap();
        let token = head.lines().find_map(|line| line.strip_prefix("Authorization: Bearer ")).unwrap();
        let key = jsonwebtoken::DecodingKey::from_secret(b"secret");
        let claims = jsonwebtoken::decode::<serde_json::Value>(token, &key, &jsonwebtoken::Validation::default()).unwrap().claims;
        assert_eq!(claims["sub"], "bench-r-1");
        assert_eq!(streams.channel(1), "callboard:user:bench-r-1");
    }
}

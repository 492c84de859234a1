//! Signed room names: a server-rendered page lets its reader into a room without an identity (`?signed=NAME~EXPIRY~SIGNATURE`).
//!
//! The signature is the unpadded base64url text of HMAC-SHA256 over the bytes `room`, newline, EXPIRY in decimal, newline, NAME.
//! Those bytes are no signing input of a token, which holds no newline, so one secret can serve both.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};

use super::AuthError;
use crate::{
    config::{Auth, Secret},
    protocol::RoomName,
};

/// The rooms that signatures let their bearer into, until the first of them ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRooms {
    rooms: Vec<RoomName>,
    /// In seconds since 1970.
    pub end: u64,
}

impl SignedRooms {
    /// All that a client shows; none where it shows none.
    pub fn read<'a>(texts: impl Iterator<Item = &'a str>, secret: Option<&Secret>, now: u64) -> Result<Option<Self>, AuthError> {
        let mut all: Option<Self> = None;
        for text in texts {
            let (room, expiry) = verify(text, secret, now)?;
            let signed = all.get_or_insert(Self { rooms: Vec::new(), end: expiry });
            signed.rooms.push(room);
            signed.end = signed.end.min(expiry);
        }
        Ok(all)
    }

    pub fn contains(&self, room: &RoomName) -> bool {
        self.rooms.contains(room)
    }
}

/// The secret that signs rooms: its own, else that of the tokens.
pub fn secret(auth: &Auth) -> Option<&Secret> {
    auth.room_secret.as_ref().or_else(|| auth.jwt.as_ref()?.secret.as_ref())
}

/// What `?signed=` carries for this room until `expiry`, in seconds since 1970.
pub fn sign(room: &RoomName, expiry: u64, secret: &Secret) -> Result<String, jsonwebtoken::errors::Error> {
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let signature = crypto::sign(&message(room.as_str(), &expiry.to_string()), &key, Algorithm::HS256)?;
    Ok(format!("{room}~{expiry}~{signature}"))
}

fn message(room: &str, expiry: &str) -> Vec<u8> {
    format!("room\n{expiry}\n{room}").into_bytes()
}

/// The room that a signed name lets its bearer into, and until when.
pub fn verify(signed: &str, secret: Option<&Secret>, now: u64) -> Result<(RoomName, u64), AuthError> {
    let secret = secret.ok_or(AuthError::NoRoomSecret)?;
    let mut parts = signed.rsplitn(3, '~');
    let (Some(signature), Some(expiry), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(AuthError::SignedRoom("it is no NAME~EXPIRY~SIGNATURE"));
    };
    let key = DecodingKey::from_secret(secret.expose().as_bytes());
    if !crypto::verify(signature, &message(name, expiry), &key, Algorithm::HS256).unwrap_or(false) {
        return Err(AuthError::SignedRoom("its signature does not fit"));
    }
    let room = RoomName::parse(name).map_err(|_| AuthError::SignedRoom("it is no room name"))?;
    if name.contains('*') {
        // Whoever signs one means a pattern, and it would be none.
        return Err(AuthError::SignedRoom("a signed name has no star"));
    }
    let expiry = expiry.parse().map_err(|_| AuthError::SignedRoom("its expiry is no time"))?;
    if expiry <= now { Err(AuthError::SignedRoom("it has expired")) } else { Ok((room, expiry)) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn auth(text: &str) -> Auth {
        Config::read(Some((Path::new("config.toml"), text)), std::iter::empty()).expect(text).auth
    }

    const OWN: &str = "[auth]\nroom_secret = '0123456789abcdef0123456789abcdef'";

    /// Computed with Python: `hmac.new(key, b"room\n2000000000\ninvoice/42", "sha256")`, base64url, padding removed.
    const VECTOR: &str = "invoice/42~2000000000~WKNTXYpdSQEuX3lLcTiE8xICFstFqXdmGcuhQUivy8U";

    #[test]
    fn a_name_signed_elsewhere_is_understood_byte_for_byte() {
        let auth = auth(OWN);
        let room = RoomName::parse("invoice/42").expect("a name");
        assert_eq!(sign(&room, 2_000_000_000, secret(&auth).expect("set")).expect("it signs"), VECTOR);
        assert_eq!(verify(VECTOR, secret(&auth), 1_999_999_999), Ok((room, 2_000_000_000)));
    }

    #[test]
    fn nothing_else_is_let_in() {
        let auth = auth(OWN);
        let secret = secret(&auth);
        assert_eq!(verify(VECTOR, secret, 2_000_000_000), Err(AuthError::SignedRoom("it has expired")));
        assert_eq!(verify(VECTOR, None, 0), Err(AuthError::NoRoomSecret));
        let misfit = Err(AuthError::SignedRoom("its signature does not fit"));
        for forged in [
            VECTOR.replace("42~", "43~"),
            VECTOR.replace("2000000000", "2000000001"),
            VECTOR.replace("2000000000", "02000000000"),
            VECTOR[..VECTOR.len() - 1].to_owned(),
            format!("{VECTOR}="),
            "invoice/42~2000000000~".to_owned(),
        ] {
            assert_eq!(verify(&forged, secret, 0), misfit, "{forged}");
        }
        for shapeless in ["", "a", "a~1", "~~~"] {
            assert!(matches!(verify(shapeless, secret, 0), Err(AuthError::SignedRoom(_))), "{shapeless}");
        }
        let star = sign(&RoomName::parse("a*").expect("a name"), 10, secret.expect("set")).expect("it signs");
        assert_eq!(verify(&star, secret, 0), Err(AuthError::SignedRoom("a signed name has no star")));
    }

    #[test]
    fn the_secret_of_the_tokens_signs_where_there_is_no_other() {
        let both = auth("[auth]\nroom_secret = 'one'\n[auth.jwt]\nsecret = 'two'");
        assert_eq!(secret(&both).map(Secret::expose), Some("one"));
        assert_eq!(secret(&auth("[auth.jwt]\nsecret = 'two'")).map(Secret::expose), Some("two"));
        assert!(secret(&auth("")).is_none());
    }
}

//! The query of a request: names and values, in order, repeatable.

use actix_web::HttpRequest;

use super::error::ApiError;
use crate::protocol::{ErrorCode, RoomName};

/// The parameter that holds a signed room, `NAME~EXPIRY~SIGNATURE`.
pub const SIGNED_ROOM: &str = "signed";

#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn of(request: &HttpRequest) -> Self {
        Self(form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect())
    }

    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The rooms that are asked for, signed or not, each once, or the default ones. A single empty `room=` asks for none.
    pub fn rooms(&self, default: &[RoomName], limit: usize) -> Result<Vec<RoomName>, ApiError> {
        let signed = self.all(SIGNED_ROOM).filter_map(|signed| signed.rsplitn(3, '~').nth(2));
        let asked: Vec<&str> = self.all("room").chain(signed).collect();
        match asked[..] {
            [] => return Ok(default.to_vec()),
            [""] => return Ok(Vec::new()),
            _ => {}
        }
        let mut rooms: Vec<RoomName> = Vec::new();
        for text in asked {
            let invalid = |why: &dyn std::fmt::Display| ApiError::new(ErrorCode::RoomNameInvalid, format!("the room name {text:?} {why}"));
            if text.contains(char::REPLACEMENT_CHARACTER) {
                // What stood there was something else, and another room than was meant.
                return Err(invalid(&"is not UTF-8"));
            }
            let room = RoomName::parse(text).map_err(|error| invalid(&error))?;
            if !rooms.contains(&room) {
                rooms.push(room);
            }
        }
        if rooms.len() > limit {
            return Err(ApiError::new(ErrorCode::TooManyRooms, format!("{} rooms; a connection may be in {limit}", rooms.len())));
        }
        Ok(rooms)
    }
}

//! Who a client is, and what that lets it do. Decisions only: where a request carries its token, and who fetches keys, is `http`'s.

pub mod jwt;
pub mod keyring;
mod keys;
pub mod recheck;
pub mod rules;
pub mod signed_room;

use std::sync::Arc;

use thiserror::Error;

use crate::protocol::{RoomPattern, UserName};

pub use jwt::{MintError, Verifier, mint, unix_now};
pub use keyring::Keyring;
pub use keys::KeyError;
pub use recheck::{Recheck, Standing};
pub use rules::{Refused, may_join, may_publish};
pub use signed_room::SignedRooms;

/// The proof that a client brought, once it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Who it is; none: anonymous.
    pub user: Option<UserName>,
    /// Rooms it may join where the room's rule says `granted`. None and an empty list grant nothing.
    pub join: Option<Vec<RoomPattern>>,
    /// Rooms it may publish to where the room's rule says `granted`.
    pub publish: Option<Vec<RoomPattern>>,
    /// When the proof ends, in seconds since 1970; none: with the connection.
    pub expires_at: Option<u64>,
    /// Where somebody can be asked whether it still holds.
    pub recheck: Option<Recheck>,
    /// What it was let into beside, whoever it is. No other proof takes this away, or prolongs it.
    pub signed: Option<Arc<SignedRooms>>,
}

impl Identity {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// When a connection with it ends, in seconds since 1970.
    pub fn end(&self) -> Option<u64> {
        self.expires_at.into_iter().chain(self.signed.as_ref().map(|signed| signed.end)).min()
    }

    /// A newer proof in place of the one before: the signed rooms are that one's still.
    pub fn in_place_of(self: Arc<Self>, before: &Self) -> Arc<Self> {
        if self.signed == before.signed {
            return self;
        }
        Arc::new(Self { signed: before.signed.clone(), ..Self::clone(&self) })
    }

    pub fn is_anonymous(&self) -> bool {
        self.user.is_none()
    }
}

/// Why a client is nobody. The text may be shown to it: it says what is wrong with its token, never what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    #[error("an identity is needed here, and none was given")]
    Missing,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Signed with a key that is not among ours, by its `kid`: time to fetch a JWKS document anew.
    #[error("the token's key is not known")]
    UnknownKey,
    #[error("this hub reads no tokens: set auth.jwt, or send none")]
    NoTokens,
    /// They stand behind an address that has not answered yet.
    #[error("the keys that verify tokens are not here yet, try again")]
    NoKeys,
    #[error("this hub reads no signed rooms: set auth.room_secret")]
    NoRoomSecret,
    #[error("the signed room is refused: {0}")]
    SignedRoom(&'static str),
    #[error("the token is invalid: {0}")]
    Invalid(&'static str),
}

//! From polling to WebSocket: what is said on the new socket until it carries the session.
//!
//! Between the probe and the upgrade packet events still go out by polling. The poll that waits is ended by a noop, so that
//! the client, which pauses polling, gets it back. Afterwards what still waits goes out by [`super::polling::frames`].

use bytes::Bytes;

use super::{Carrier, Packet, Version};

/// A WebSocket that was opened with the id of a polling session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Upgrade {
    /// Open; the client is to probe it.
    #[default]
    Fresh,
    /// Probed and answered; the client is to say that it moves.
    Probed,
    /// It carries the session.
    Done,
}

/// What a packet on the new socket asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeStep {
    /// Send this on the new socket, and end the poll that waits, or the next one, with a noop.
    Answer(Bytes),
    /// The session moves to the new socket, for good.
    Move,
    /// This is no upgrade: close the new socket. The session goes on polling.
    Abandon,
}

impl Upgrade {
    /// Takes a packet that came on the new socket before it carries the session.
    pub fn receive(&mut self, version: Version, packet: &Packet<'_>) -> UpgradeStep {
        match (*self, packet) {
            (Self::Fresh, Packet::Ping("probe")) => {
                *self = Self::Probed;
                UpgradeStep::Answer(Packet::Pong("probe").ready(version, Carrier::WebSocket))
            }
            (Self::Probed, Packet::Upgrade) => {
                *self = Self::Done;
                UpgradeStep::Move
            }
            _ => UpgradeStep::Abandon,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::websocket;

    #[test]
    fn a_probe_is_answered_and_the_poll_ended_before_the_session_moves() {
        let mut upgrade = Upgrade::default();
        let answer = UpgradeStep::Answer(websocket::text("3probe"));
        assert_eq!(upgrade.receive(Version::V3, &Packet::Ping("probe")), answer);
        assert_eq!(upgrade.receive(Version::V3, &Packet::Upgrade), UpgradeStep::Move);
        assert_eq!(upgrade, Upgrade::Done);
    }

    #[test]
    fn a_socket_that_says_anything_else_does_not_get_the_session() {
        for first in [Packet::Upgrade, Packet::Ping(""), Packet::Text("2[]"), Packet::Pong("probe")] {
            assert_eq!(Upgrade::Fresh.receive(Version::V4, &first), UpgradeStep::Abandon, "{first:?}");
        }
        assert_eq!(Upgrade::Probed.receive(Version::V4, &Packet::Ping("probe")), UpgradeStep::Abandon);
    }
}

//! The reference of a command: what the session needs to know of it when the reply comes.

use crate::protocol::command::Reference;

/// Written into a [`Reference`] as `<socket> <call or -> [room]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket<'a> {
    pub socket: u32,
    /// The call that waits for an answer.
    pub call: Option<u32>,
    /// The hub's name of the room that a join or leave is about.
    pub room: Option<&'a str>,
}

impl<'a> Ticket<'a> {
    pub fn reference(self) -> Reference {
        let call = self.call.map_or_else(|| "-".to_owned(), |call| call.to_string());
        let room = self.room.map_or_else(String::new, |room| format!(" {room}"));
        Reference(Some(format!("{} {call}{room}", self.socket).into()))
    }

    /// None for a reply that answers no command of this session.
    pub fn read(reference: &'a Reference) -> Option<Self> {
        let mut parts = reference.0.as_deref()?.splitn(3, ' ');
        let socket = parts.next()?.parse().ok()?;
        let call = parts.next()?.parse().ok();
        Some(Self { socket, call, room: parts.next() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_reads_back_as_it_was_written() {
        for (call, room) in [(None, None), (Some(7), None), (None, Some("a b")), (Some(0), Some(" chat/é "))] {
            let ticket = Ticket { socket: 3, call, room };
            assert_eq!(Ticket::read(&ticket.reference()), Some(ticket));
        }
        assert_eq!(Ticket::read(&Reference(None)), None);
    }
}

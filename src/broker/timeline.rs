//! The timeline: from the markers of the clock and the order of what arrives between them, the position of every publication.
//! Pure: nothing here knows of Redis or of time.
//!
//! All subscribers of one Redis see the same messages in the same order, so every node that has listened to a room's channels
//! since some marker counts alike, without a word between the nodes. What can go wrong, and what is done about it, is in
//! docs/decisions/positions.md.

use crate::protocol::Position;

/// The time of the last marker, as this node has seen them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    marker_ms: u64,
}

/// A room on the timeline: since which position this node counts it without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbering {
    since: Position,
    last: Position,
}

impl Timeline {
    /// A marker came. True if it moved the time: one that doesn't is not a place to count from, because nodes that
    /// connected at different times would disagree on it.
    pub fn see(&mut self, marker_ms: u64) -> bool {
        let moves = marker_ms > self.marker_ms;
        self.marker_ms = self.marker_ms.max(marker_ms);
        moves
    }

    /// Just after the last marker, before anything else.
    pub fn now(&self) -> Position {
        Position { marker_ms: self.marker_ms, count: 0 }
    }

    /// Begins to count a room. Right only when the last marker came after the room's channels were subscribed.
    pub fn begin(&self) -> Numbering {
        Numbering { since: self.now(), last: self.now() }
    }

    /// The position of the next publication to a room.
    pub fn number(&self, room: &mut Numbering) -> Position {
        let count = if room.last.marker_ms == self.marker_ms { room.last.count + 1 } else { 1 };
        room.last = Position { marker_ms: self.marker_ms, count };
        room.last
    }

    /// Where a room stands: nothing is numbered at or below this any more.
    pub fn position_of(&self, room: &Numbering) -> Position {
        room.last.max(self.now())
    }
}

impl Numbering {
    /// All that was published after this is numbered.
    pub fn since(&self) -> Position {
        self.since
    }

    /// The last publication's position, or where the counting began.
    pub fn last(&self) -> Position {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(marker_ms: u64, count: u64) -> Position {
        Position { marker_ms, count }
    }

    #[test]
    fn a_count_begins_anew_with_each_marker_and_positions_only_grow() {
        let mut timeline = Timeline::default();
        assert!(timeline.see(1000));
        let mut room = timeline.begin();
        let mut positions = vec![timeline.number(&mut room), timeline.number(&mut room)];
        assert!(timeline.see(2000));
        positions.push(timeline.number(&mut room));
        assert_eq!(positions, [at(1000, 1), at(1000, 2), at(2000, 1)]);
        assert!(positions.is_sorted());
    }

    #[test]
    fn a_marker_that_does_not_move_the_time_changes_nothing() {
        let mut timeline = Timeline::default();
        timeline.see(1000);
        let mut room = timeline.begin();
        timeline.number(&mut room);
        assert!(!timeline.see(1000) && !timeline.see(900));
        assert_eq!(timeline.number(&mut room), at(1000, 2));
    }

    #[test]
    fn a_silent_room_stands_at_the_last_marker() {
        let mut timeline = Timeline::default();
        timeline.see(1000);
        let mut room = timeline.begin();
        timeline.number(&mut room);
        timeline.see(5000);
        assert_eq!(timeline.position_of(&room), at(5000, 0));
        assert_eq!(room.last(), at(1000, 1));
        assert_eq!(room.since(), at(1000, 0));
    }
}

//! What the model can do without.

/// A cure that is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twin {
    /// What a faster node has written past is given up.
    NothingLate,
    /// What a node has written is taken to be there for ever.
    AllClaims,
    /// The reader doesn't say that it had no place for something.
    TearsUnsaid,
    /// A node that hears the room from now on counts from the marker before.
    NoMarkerAwaited,
    /// After an outage all is fetched up to now, also what waits to be delivered.
    FetchesWhatWaits,
    /// After an outage that left a hole, a room goes on before its members were told.
    GoesOnUntold,
}

impl Twin {
    pub const OF_THE_NODES: [Self; 4] = [Self::TearsUnsaid, Self::NoMarkerAwaited, Self::FetchesWhatWaits, Self::GoesOnUntold];
    pub const OF_THE_SCRIPTS: [Self; 2] = [Self::NothingLate, Self::AllClaims];
}

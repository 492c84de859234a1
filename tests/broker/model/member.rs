//! One who listens at a node all the time, and what must be true of what it sees.

pub type Outcome = Result<(), String>;

/// What a client sees.
#[derive(Default)]
pub struct Member {
    pub last: Option<u64>,
    /// It was told that something is missing in front of the next event.
    is_told: bool,
    /// Something is missing, and was not told of.
    pub hole: Option<u64>,
}

impl Member {
    pub fn see(&mut self, number: u64) -> Outcome {
        if let Some(last) = self.last.replace(number) {
            check(number > last, || format!("event {number} came after {last}"))?;
            if number > last + 1 && !std::mem::take(&mut self.is_told) {
                self.hole = Some(last + 1);
            }
        }
        Ok(())
    }

    /// Of all that is missing so far, and just after.
    pub fn hear_of_gap(&mut self) {
        (self.hole, self.is_told) = (None, true);
    }
}

pub fn check(is_so: bool, what: impl FnOnce() -> String) -> Outcome {
    if is_so { Ok(()) } else { Err(what()) }
}

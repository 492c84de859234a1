//! Whether other nodes share the broker, from the markers that come by. A node that is alone waits for nobody's reports.

/// With no other node's marker for so long there is none: each sends one a second.
const QUIET_MS: u64 = 3_000;

#[derive(Debug, Default)]
pub struct Company {
    /// The first marker since another node was heard, or since the link came up.
    quiet_since: Option<u64>,
    is_alone: bool,
}

impl Company {
    pub fn see(&mut self, marker_ms: u64, is_foreign: bool) {
        if is_foreign {
            self.quiet_since = Some(marker_ms);
            self.is_alone = false;
        } else {
            let since = *self.quiet_since.get_or_insert(marker_ms);
            self.is_alone |= marker_ms.saturating_sub(since) > QUIET_MS;
        }
    }

    /// The link is lost; while it is, silence says nothing.
    pub fn lose(&mut self) {
        self.quiet_since = None;
    }

    pub fn is_alone(&self) -> bool {
        self.is_alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_alone_after_three_silent_seconds_and_not_during_an_outage() {
        let mut company = Company::default();
        company.see(1_000, false);
        company.see(3_000, false);
        assert!(!company.is_alone(), "it may not have heard them yet");
        company.see(4_001, false);
        assert!(company.is_alone());
        company.see(5_000, true);
        assert!(!company.is_alone());
        company.lose();
        company.see(60_000, false);
        assert!(!company.is_alone(), "nothing was heard while nothing could be");
    }
}

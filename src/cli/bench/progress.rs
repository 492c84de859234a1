//! The progress bar: one line on standard error that is overwritten, if a person looks at it.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(200);
const WIDTH: usize = 30;

pub struct Progress {
    is_terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    pub fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), shown: None }
    }

    /// Shows how much of a step is done, from 0 to 1, and `text` behind it. What is not looked at is not even spelled.
    pub fn show(&mut self, done: f64, text: impl FnOnce() -> String) {
        if self.is_terminal && self.shown.is_none_or(|shown| shown.elapsed() > PAUSE) {
            self.shown = Some(Instant::now());
            // A bar that can't be shown is no reason to stop.
            let _ = write!(io::stderr(), "\r\x1b[K{} {}", bar(done), text());
        }
    }

    pub fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// The part of a whole, as [`Progress::show`] wants it.
pub fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn bar(done: f64) -> String {
    let done = done.clamp(0.0, 1.0);
    let filled = (done * WIDTH as f64) as usize;
    format!("[{}{}] {:3.0} %", "#".repeat(filled), "-".repeat(WIDTH - filled), done * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_from_left_to_right_and_never_leaves_its_frame() {
        assert_eq!(bar(0.5), "[###############---------------]  50 %");
        assert_eq!(bar(-1.0), format!("[{}]   0 %", "-".repeat(WIDTH)));
        assert_eq!(bar(7.0), format!("[{}] 100 %", "#".repeat(WIDTH)));
        assert_eq!(share(0, 0), 0.0);
    }
}

//! What this test has logged. Each test has a thread of its own, and all actors of its bus live there.

use std::{cell::RefCell, sync::Once};

thread_local! {
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Memory;

impl log::Log for Memory {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("callboard")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LOGGED.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

pub(super) fn remember() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Memory).expect("no test sets another logger");
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// The lines that hold this text.
pub fn logged(text: &str) -> Vec<String> {
    LOGGED.with_borrow(|lines| lines.iter().filter(|line| line.contains(text)).cloned().collect())
}

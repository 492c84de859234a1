//! A receipt counts the connections of this node that took a publication, for the publisher who waits to know.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::oneshot;

/// Travels with a publication to each group. When the last copy is dropped, the count is final and told.
#[derive(Debug, Clone)]
pub struct Receipt(Arc<Count>);

#[derive(Debug)]
struct Count {
    delivered: AtomicUsize,
    publisher: Mutex<Option<oneshot::Sender<usize>>>,
}

impl Receipt {
    pub fn new() -> (Self, oneshot::Receiver<usize>) {
        let (publisher, told) = oneshot::channel();
        (Self(Arc::new(Count { delivered: AtomicUsize::new(0), publisher: Mutex::new(Some(publisher)) })), told)
    }

    pub fn add(&self, connections: usize) {
        self.0.delivered.fetch_add(connections, Ordering::Relaxed);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let publisher = self.publisher.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(publisher) = publisher {
            // The publisher may have stopped waiting.
            let _ = publisher.send(*self.delivered.get_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_told_when_the_last_copy_is_gone_and_not_before() {
        let (receipt, mut told) = Receipt::new();
        let copy = receipt.clone();
        receipt.add(2);
        drop(receipt);
        assert!(told.try_recv().is_err());
        copy.add(3);
        drop(copy);
        assert_eq!(told.try_recv(), Ok(5));
    }
}

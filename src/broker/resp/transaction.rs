//! What waits between MULTI and EXEC. Commands run one after another at EXEC; unlike in Redis, others' may come between.

use super::command::{Plain, Refusal};

/// redis-py wraps every pipeline in MULTI and EXEC unless told otherwise, so this is the longest pipeline of many publishers.
pub const MAX_COMMANDS: usize = 10_000;
pub const MAX_BYTES: usize = 8 << 20;

#[derive(Debug, Default)]
pub struct Transaction {
    commands: Vec<Plain>,
    bytes: usize,
    is_aborted: bool,
}

impl Transaction {
    pub fn push(&mut self, command: Plain) -> Result<(), Refusal> {
        if self.is_aborted {
            // It will never run, so nothing is kept; Redis answers QUEUED all the same.
            return Ok(());
        }
        self.bytes += command.retained_bytes();
        if self.commands.len() == MAX_COMMANDS || self.bytes > MAX_BYTES {
            self.abort();
            return Err(Refusal::TransactionTooLarge { commands: MAX_COMMANDS, bytes: MAX_BYTES });
        }
        self.commands.push(command);
        Ok(())
    }

    /// A command was refused: EXEC will refuse the whole.
    pub fn abort(&mut self) {
        *self = Self { is_aborted: true, ..Self::default() };
    }

    pub fn into_commands(self) -> Result<Vec<Plain>, Refusal> {
        if self.is_aborted { Err(Refusal::ExecAborted) } else { Ok(self.commands) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_transaction_is_bounded_in_commands_and_stays_aborted() {
        let mut transaction = Transaction::default();
        for _ in 0..MAX_COMMANDS {
            transaction.push(Plain::Ping(None)).unwrap();
        }
        assert!(matches!(transaction.push(Plain::Ping(None)), Err(Refusal::TransactionTooLarge { .. })));
        transaction.push(Plain::Ping(None)).unwrap();
        assert!(transaction.commands.is_empty(), "an aborted transaction keeps nothing");
        assert_eq!(transaction.into_commands(), Err(Refusal::ExecAborted));
    }

    #[test]
    fn a_transaction_is_bounded_in_bytes() {
        let mut transaction = Transaction::default();
        let half = Plain::Echo(Bytes::from(vec![b'x'; MAX_BYTES / 2 - size_of::<Plain>()]));
        transaction.push(half.clone()).unwrap();
        transaction.push(half).unwrap();
        assert!(transaction.push(Plain::Ping(None)).is_err());
    }
}

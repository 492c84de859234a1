//! The bus: where publications come from.

pub mod resp;

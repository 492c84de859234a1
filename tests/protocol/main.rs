//! The words and wires, from outside: vectors of the real packages, tables of the malformed, and properties.

mod dialects;
mod sources;

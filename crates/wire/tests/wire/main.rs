//! The wire, judged by vectors that others computed, by a table of everything a peer can do wrong, and by chance.

mod any_bytes;
mod round_trips;
mod validator;
mod vectors;

//! The brain of the host: Control, Lane and the messages between them

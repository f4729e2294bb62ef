//! Control as a whole, in memory: scripted controllers behind real queue machines, lanes that answer at once or when told.

mod barrier;
mod caches;
mod ends;
mod equal;
mod facts;
mod failover;
mod meanwhile;
mod predecessor;
mod recorded;
mod settings;
mod suspects;
mod waits;
mod world;

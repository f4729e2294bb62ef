//! Names for the things the two machines talk about, beside those that fences know. All are given by the machines, never by a peer.

use interlock_fence::id;

id!(
    /// One TCP connection, unique within the machine that opened it.
    ConnId(u32), "conn"
);
id!(
    /// One piece of work that may block, done by the driver outside the reactors.
    JobId(u32), "job"
);

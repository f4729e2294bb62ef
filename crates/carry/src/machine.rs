use interlock_base::{Instant, Span};
use interlock_proto::{SendList, Taken};

/// A sans-io machine with connections, as a driver sees it.
pub trait Machine {
    /// How the machine names a connection.
    type Conn: Copy + Ord;

    /// Bytes came. What is wrong with them is the machine's business: it will say so in its outputs.
    fn handle_bytes(&mut self, now: Instant, conn: Self::Conn, bytes: &[u8]) -> Taken;

    /// `len` bytes of payload were placed; `digest` is the continued CRC-32C, or 0 if none was asked for.
    fn handle_placed(&mut self, now: Instant, conn: Self::Conn, len: u32, digest: u32);

    /// If the next bytes of the stream, `min` or more, are payload of one span: where they go, and the CRC-32C so far.
    fn direct(&self, conn: Self::Conn, min: u32) -> Option<(Span, Option<u32>)>;

    /// The kernel took so many more bytes of what was polled.
    fn handle_given(&mut self, now: Instant, conn: Self::Conn, bytes: u64);

    /// Appends everything that is ready to be sent, up to the machine's bound per call.
    fn poll_send(&mut self, conn: Self::Conn, list: &mut SendList);

    /// True while the machine cannot take bytes of this connection: it waits for an answer to one of its outputs.
    fn is_blocked(&self, conn: Self::Conn) -> bool;

    /// So many bytes that came on a connection are kept until the machine takes them; 0 once it has.
    fn handle_kept(&mut self, conn: Self::Conn, bytes: usize) {
        let _ = (conn, bytes);
    }
}

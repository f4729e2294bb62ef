//! Any bytes to an NBD server, without a socket: what must hold, for the fuzzer and for `cargo test`.

use super::handshake::{Handshake, Offer, Offers, SAY_MAX, Standing};
use super::transmission::{Command, PAYLOAD_MAX, Request, Then, Transmission, View};
use super::wire::STRING_MAX;

const VIEW: View = View { size: 1 << 40, block: 4096, read_only: false };

struct Shop;

impl Offers for Shop {
    fn find(&self, name: &str) -> Option<Offer> {
        (0..3).filter_map(|at| self.nth(at)).find(|offer| offer.name == name)
    }

    fn nth(&self, at: usize) -> Option<Offer> {
        let View { size, block, read_only } = VIEW;
        let name = ["a".into(), "disk".into(), "n".repeat(STRING_MAX)].get(at)?.clone();
        let description = "a disk".into();
        Some(Offer {
            name,
            description,
            size,
            read_only,
            block_min: block,
            block_preferred: block,
            payload_max: PAYLOAD_MAX,
        })
    }
}

/// The first byte says how many bytes come at once. What is said is bounded, every byte is used or ends the connection, and
/// what would be submitted is aligned, inside and allowed.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_nbd(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let step = usize::from(*step) + 1;
    let mut handshake = Handshake::new();
    let mut machine: Option<Transmission> = None;
    let mut at = 0;
    while at < bytes.len() {
        let piece = &bytes[at..(at + step).min(bytes.len())];
        if let Some(machine) = &mut machine {
            let (used, goes_on) = transmit(machine, piece);
            at += used;
            if !goes_on {
                return;
            }
            continue;
        }
        let used = handshake.handle_bytes(&Shop, piece);
        let mut said = handshake.take_output().len();
        while handshake.is_listing() && said < SAY_MAX {
            handshake.list(&Shop);
            said += handshake.take_output().len();
        }
        assert!(said < SAY_MAX + 2 * STRING_MAX * (1 + step / 16), "{said} bytes for {}", piece.len());
        at += used;
        match handshake.standing() {
            Standing::Asking => assert!(used > 0 || handshake.is_listing(), "no progress"),
            Standing::Agreed(agreed) => machine = Some(Transmission::new(agreed)),
            Standing::Goodbye | Standing::Broken(_) => return,
        }
    }
}

/// How many bytes were used, and whether the connection goes on.
fn transmit(machine: &mut Transmission, piece: &[u8]) -> (usize, bool) {
    let taken = machine.handle_bytes(&VIEW, piece);
    assert!(taken.used <= piece.len());
    let mut used = taken.used;
    match taken.then {
        Then::More => assert!(used > 0, "no progress"),
        Then::Announced { len } => {
            assert!(len > 0 && len <= PAYLOAD_MAX);
            // As if there were no memory, now and then.
            if len.is_multiple_of(3) {
                machine.handle_no_memory();
            }
        }
        Then::Place { len, .. } => {
            assert!(len > 0 && len as usize <= piece.len());
            used += len as usize;
            machine.handle_placed(len).iter().for_each(allowed);
        }
        Then::Submit(request) => allowed(&request),
        Then::Refuse { cookie, errno, why } => assert!(machine.error(cookie, errno, why).len() < STRING_MAX + 32),
        Then::Disconnect | Then::Broken(_) => return (used, false),
    }
    (used, true)
}

fn allowed(request: &Request) {
    let (offset, len) = match request.command {
        Command::Read { offset, len } | Command::Write { offset, len, .. } => {
            assert!(len <= PAYLOAD_MAX);
            (offset, len)
        }
        Command::Trim { offset, len, .. } | Command::WriteZeroes { offset, len, .. } => (offset, len),
        Command::Flush => (0, 0),
        Command::BlockStatus { len } => (0, len),
    };
    assert!(offset + u64::from(len) <= VIEW.size && (offset | u64::from(len)).is_multiple_of(VIEW.block.into()));
}

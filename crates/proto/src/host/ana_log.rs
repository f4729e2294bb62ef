//! The ANA log, whole: one command where that holds it, otherwise piece by piece, and never two halves of two logs.
//!
//! A controller states how many groups and namespaces its log can name, not how long it is. Where one ordinary command
//! cannot hold the longest log, only the groups are asked for (RGO): which group a namespace is in its Identify page says.
//! A controller that does not know RGO, or ignores it, is asked for all of it.
//! A log that takes more than one command may change between two of them, so its header is read again at the end, and if
//! the change count is another one by then, all of it is. A controller that knows no offsets into its logs (LPA) would
//! answer each piece with the first one: it is asked for as much as one command of it may move, and for no second piece.
//!
//! NVM Express Base Specification, "Asymmetric Namespace Access", "Get Log Page command".

use crate::MAX_CONTROL_DATA;
use alloc::vec::Vec;
use interlock_wire::admin::GetLog;
use interlock_wire::ana::{LSP_GROUPS_ONLY, Log, LogError};
use interlock_wire::identify::IdentifyController;
use interlock_wire::log::LID_ANA;
use interlock_wire::status::Status;

/// Most bytes read at once: below every MDTS in the field, and all of it for most subsystems.
const CHUNK: u32 = 16 * 1024;
/// How often a log that changes while it is read is begun anew, the first time included.
const TRIES: u8 = 4;
/// Bytes of the header.
const HEADER: u32 = 16;
/// LPA: Log Page Offset and a length of 32 bits may be used.
const LPA_OFFSETS: u8 = 1 << 2;

/// Why there is no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AnaLogError {
    /// It makes no sense.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It did not hold still.
    #[error("the ANA log changed during each of {TRIES} reads: check whether the target's ports flap")]
    Unsteady,
    /// It is longer than one command of a controller that knows no offsets into its logs.
    #[error(
        "the ANA log is longer than the {0} bytes of one command, and the controller knows no offsets into its logs"
    )]
    OnePiece(u32),
    /// A piece was shorter than asked for.
    #[error("the ANA log came short: {got} bytes instead of {asked}")]
    Short {
        /// Bytes asked for.
        asked: u32,
        /// Bytes received.
        got: u32,
    },
}

/// One reading.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AnaLog {
    groups_only: bool,
    /// The longest that the log can be.
    most: u32,
    chunk: u32,
    bytes: Vec<u8>,
    pieces: u32,
    /// All of it is there, and this was its change count: is it still?
    check: Option<u64>,
    tries: u8,
    /// The longest that it can be with the namespaces, for a controller that does not know RGO.
    whole: u32,
    /// The controller knows offsets into its logs.
    offsets: bool,
}

/// Bytes as a length in dwords that one log may have here.
fn bounded(len: u64) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX).min(MAX_CONTROL_DATA) & !3
}

impl AnaLog {
    /// Of a controller that states this; `max_transfer`: most bytes that one command of it may move.
    #[must_use]
    pub fn new(identify: &IdentifyController, max_transfer: u32) -> Self {
        let (groups, namespaces) = (identify.nanagrpid.get(), identify.max_namespaces());
        let offsets = identify.lpa & LPA_OFFSETS != 0;
        let chunk = if offsets { CHUNK.min(max_transfer) } else { max_transfer.min(MAX_CONTROL_DATA) };
        let chunk = (chunk & !3).max(HEADER);
        let whole = bounded(Log::max_len(groups, namespaces));
        let groups_only = whole > chunk;
        let most = if groups_only { bounded(Log::max_len(groups, 0)) } else { whole };
        Self { groups_only, most, chunk, bytes: Vec::new(), pieces: 0, check: None, tries: 1, whole, offsets }
    }

    /// What to read next.
    #[must_use]
    pub fn ask(&self) -> GetLog {
        let lsp = if self.groups_only { LSP_GROUPS_ONLY } else { 0 };
        let at = u32::try_from(self.bytes.len()).expect("the log is bounded by MAX_CONTROL_DATA");
        let (at, len) = if self.check.is_some() { (0, HEADER) } else { (at, self.chunk.min(self.most - at)) };
        GetLog { lsp, ..GetLog::new(LID_ANA, len).at(u64::from(at)) }
    }

    /// The controller answered what was [asked](Self::ask) with this error. True if that says only that it does not know RGO:
    /// then it is asked for all of its log next. False: there is no log, for now.
    #[must_use]
    pub fn handle_error(&mut self, status: Status) -> bool {
        if !self.groups_only || !status.is(Status::INVALID_FIELD) {
            return false;
        }
        self.ask_for_all();
        true
    }

    /// That was read. The log once it is whole; else there is more to ask.
    ///
    /// # Errors
    /// There is none; begin again later.
    pub fn handle_answer(&mut self, data: &[u8]) -> Result<Option<Log>, AnaLogError> {
        let asked = self.ask().len;
        if data.len() != asked as usize {
            return Err(AnaLogError::Short { asked, got: u32::try_from(data.len()).unwrap_or(u32::MAX) });
        }
        if let Some(before) = self.check {
            let mut count = [0; 8];
            count.copy_from_slice(&data[..8]);
            if u64::from_le_bytes(count) == before {
                return Ok(Some(Log::parse(&self.bytes)?));
            }
            if self.tries >= TRIES {
                return Err(AnaLogError::Unsteady);
            }
            self.tries += 1;
            self.restart();
            return Ok(None);
        }
        self.bytes.extend_from_slice(data);
        self.pieces += 1;
        match Log::parse(&self.bytes) {
            Ok(log) if self.pieces == 1 => Ok(Some(log)),
            Ok(log) => {
                self.check = Some(log.change_count);
                Ok(None)
            }
            Err(LogError::Truncated { .. }) if self.bytes.len() < self.most as usize => {
                if self.offsets {
                    Ok(None)
                } else {
                    Err(AnaLogError::OnePiece(self.chunk))
                }
            }
            // It gives the namespaces all the same.
            Err(LogError::Truncated { .. }) if self.groups_only => {
                self.ask_for_all();
                Ok(None)
            }
            // Two halves of two logs make no sense, either.
            Err(_) if self.pieces > 1 && self.tries < TRIES => {
                self.tries += 1;
                self.restart();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn ask_for_all(&mut self) {
        self.groups_only = false;
        self.most = self.whole;
        self.restart();
    }

    fn restart(&mut self) {
        self.bytes.clear();
        self.pieces = 0;
        self.check = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_wire::ana::{Group, State};

    fn log(change_count: u64, groups: u32, namespaces: u32) -> Log {
        let group = |id| Group {
            id,
            change_count: 0,
            state: State::ALL[0],
            nsids: if id == 1 { (1..=namespaces).collect() } else { Vec::new() },
        };
        Log { change_count, groups: (1..=groups).map(group).collect() }
    }

    fn identify(groups: u32, namespaces: u32) -> IdentifyController {
        let mut identify = IdentifyController::default();
        identify.nanagrpid.set(groups);
        identify.mnan.set(namespaces);
        identify.lpa = LPA_OFFSETS;
        identify
    }

    /// Reads with a controller whose log is this at each command; the last one from then on. Counts the commands.
    fn read(mut reading: AnaLog, logs: &[Log], knows_rgo: bool) -> (Result<Log, AnaLogError>, Vec<GetLog>) {
        let mut asked = Vec::new();
        loop {
            let get = reading.ask();
            let log = logs.get(asked.len()).or(logs.last()).expect("a log");
            asked.push(get);
            assert!(asked.len() < 1_000, "it has an end");
            let mut page = log.encode(knows_rgo && get.lsp & LSP_GROUPS_ONLY != 0);
            page.resize(page.len().max(get.offset as usize + get.len as usize), 0);
            let data = &page[get.offset as usize..][..get.len as usize];
            match reading.handle_answer(data) {
                Ok(Some(log)) => return (Ok(log), asked),
                Ok(None) => {}
                Err(error) => return (Err(error), asked),
            }
        }
    }

    #[test]
    fn what_one_command_holds_is_one_command() {
        let whole = log(5, 2, 1_000);
        let (got, asked) = read(AnaLog::new(&identify(2, 1_000), u32::MAX), core::slice::from_ref(&whole), true);
        assert_eq!((got, asked.len(), asked[0].lsp), (Ok(whole), 1, 0));
    }

    #[test]
    fn of_many_possible_namespaces_only_the_groups_are_read() {
        let many = log(5, 2, 3);
        for namespaces in [5_000, 32_700, 1 << 20, u32::MAX] {
            let (got, asked) =
                read(AnaLog::new(&identify(2, namespaces), 128 * 1024), core::slice::from_ref(&many), true);
            assert!(got.expect("read").groups.iter().all(|group| group.nsids.is_empty()));
            assert_eq!((asked.len(), asked[0].lsp, asked[0].len), (1, LSP_GROUPS_ONLY, 80), "MNAN {namespaces}");
        }
        // A controller that gives the namespaces all the same is read all the same.
        let (got, asked) = read(AnaLog::new(&identify(2, 32_700), 128 * 1024), core::slice::from_ref(&many), false);
        assert_eq!((got, asked.last().map(|get| get.lsp)), (Ok(many), Some(0)));
    }

    #[test]
    fn a_log_that_changes_between_two_pieces_is_read_again() {
        // 4 KiB at once: the groups alone are longer.
        let reading = || AnaLog::new(&identify(200, 10), 4096);
        let (old, new) = (log(5, 200, 10), log(6, 200, 10));
        let (got, asked) = read(reading(), core::slice::from_ref(&old), true);
        assert_eq!(got.map(|log| log.change_count), Ok(5));
        assert_eq!(
            asked.iter().map(|get| (get.offset, get.len)).collect::<Vec<_>>(),
            [(0, 4096), (4096, 2320), (0, 16)]
        );
        let (got, asked) = read(reading(), &[old.clone(), new.clone()], true);
        assert_eq!((got.map(|log| log.change_count), asked.len()), (Ok(6), 6));
        let flapping: Vec<_> = (0..100).map(|count| log(count, 200, 10)).collect();
        assert_eq!(read(reading(), &flapping, true).0, Err(AnaLogError::Unsteady));
    }

    #[test]
    fn a_controller_that_refuses_rgo_is_asked_for_all_of_it() {
        let mut reading = AnaLog::new(&identify(2, 32_700), 128 * 1024);
        assert_eq!(reading.ask().lsp, LSP_GROUPS_ONLY);
        for other in [Status::INTERNAL_ERROR, Status::INVALID_LOG_PAGE, Status::INVALID_OPCODE] {
            assert!(!reading.handle_error(other), "{other} says nothing of RGO");
        }
        assert!(reading.handle_error(Status::INVALID_FIELD.with_dnr()));
        assert!(!reading.handle_error(Status::INVALID_FIELD), "there is nothing else to leave out");
        let many = log(5, 2, 30_000);
        let (got, asked) = read(reading, core::slice::from_ref(&many), false);
        assert_eq!((got, asked.len()), (Ok(many), 9), "8 pieces and the header");
        assert!(asked.iter().all(|get| get.lsp == 0));
    }

    #[test]
    fn of_a_controller_without_offsets_no_second_piece_is_asked_for() {
        let without = |groups, namespaces| IdentifyController { lpa: 0, ..identify(groups, namespaces) };
        let long = log(5, 600, 10);
        let (got, asked) = read(AnaLog::new(&without(600, 10), 128 * 1024), core::slice::from_ref(&long), true);
        assert_eq!((got.map(|log| log.groups.len()), asked.len()), (Ok(600), 1), "it fits into one command");
        let (got, asked) = read(AnaLog::new(&without(200, 10), 4096), core::slice::from_ref(&long), true);
        assert_eq!((got, asked.len()), (Err(AnaLogError::OnePiece(4096)), 1));
        let (got, _) = read(AnaLog::new(&without(2, 32_700), 4096), &[log(5, 2, 3)], true);
        assert_eq!(got.map(|log| log.groups.len()), Ok(2));
    }

    /// Whatever moment the log changes at, and however it is read: what comes out is one that was there.
    #[test]
    fn what_is_read_is_a_log_that_was_there_at_one_moment() {
        let states = |change: u64| {
            let mut now = log(change, 200, 10);
            for group in &mut now.groups {
                group.state = State::ALL[(change as usize + group.id as usize) % 5];
            }
            now
        };
        let was = |read: &Log| {
            let same = |(a, b): (&Group, &Group)| (a.id, a.state) == (b.id, b.state);
            read.groups.iter().zip(&states(read.change_count).groups).all(same) && read.groups.len() == 200
        };
        let mut torn = 0;
        for (most, knows_rgo) in [(4096, true), (4096, false), (1024, true)] {
            for changes_at in 0..9 {
                for again_after in [1, 2, 3, 7, 100] {
                    let at = |command: usize| match command {
                        _ if command < changes_at => states(1),
                        _ => states(2 + ((command - changes_at) / again_after) as u64),
                    };
                    let logs: Vec<Log> = (0..40).map(at).collect();
                    match read(AnaLog::new(&identify(200, 10), most), &logs, knows_rgo).0 {
                        Ok(read) => assert!(was(&read), "{most} {changes_at} {again_after}"),
                        Err(error) => {
                            assert_eq!(error, AnaLogError::Unsteady);
                            torn += 1;
                        }
                    }
                }
            }
        }
        assert!(torn > 0, "one that never holds still is told");
    }

    #[test]
    fn what_is_short_or_nonsense_is_no_log() {
        let mut reading = AnaLog::new(&identify(1, 1), u32::MAX);
        assert_eq!(reading.handle_answer(&[0; 8]), Err(AnaLogError::Short { asked: 52, got: 8 }));
        let mut page = log(1, 1, 1).encode(false);
        page[16] = 0;
        assert_eq!(reading.handle_answer(&page), Err(AnaLogError::Log(LogError::GroupZero)));
        let endless = AnaLog::new(&identify(1, u32::MAX), 64);
        let (got, _) = read(endless, &[log(1, 300, 1)], true);
        assert_eq!(got.map(|log| log.change_count), Ok(1), "read in pieces of 64 bytes");
    }
}

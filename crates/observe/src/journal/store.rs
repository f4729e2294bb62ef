//! The database: its format, how it is opened, and what happens to one that cannot be.

use super::writer::unix_ms;
use super::{Begin, Bounds, FLOOR, RESERVE};
use interlock_api::Event;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The format that this program writes (`PRAGMA user_version`).
pub(crate) const FORMAT: u32 = 1;
/// `IlkJ`: what `file` and SQLite call the application id.
const MAGIC: u32 = 0x496c_6b4a;
/// Damaged files that are kept aside; the oldest go.
const ASIDE: usize = 3;
/// A reader waits so long for a writer, and the other way round.
const BUSY: Duration = Duration::from_secs(5);
/// The smallest bound by size.
const BYTES_MIN: u64 = 1 << 20;
/// Of the bound by size, receipts have this part: no flood of other events pushes them out.
const RECEIPTS_SHARE: u64 = 4;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// So much more than needed is removed when the file is too large: every tenth event.
const TRIM_SHARE: u64 = 10;

const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        unix_ms INTEGER NOT NULL,
        event TEXT NOT NULL,
        controller TEXT,
        json TEXT NOT NULL
    ) STRICT;
    CREATE INDEX by_event ON events (event);
";

/// Whose journal it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Host NQN.
    pub hostnqn: String,
    /// Host Identifier.
    pub hostid: String,
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A later program wrote it.
    #[error("{} has format {format}, this program knows up to {FORMAT}: use version {writer} or later", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        format: u32,
        /// Who wrote it.
        writer: String,
    },
    /// It belongs to another host identity.
    #[error("{} belongs to the host {hostnqn}: move it away, or give that identity", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        hostnqn: String,
    },
    /// The system refused.
    #[error("cannot {what} {}: {error}", file.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        file: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// SQLite refused.
    #[error("{}: {why}", file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// Why, in its words.
        why: String,
    },
}

impl JournalError {
    pub(super) fn io(what: &'static str, file: &Path, error: io::Error) -> Self {
        Self::Io { what, file: file.to_owned(), error }
    }

    fn database(file: &Path, fault: &Fault) -> Self {
        Self::Database { file: file.to_owned(), why: fault.to_string() }
    }
}

/// What SQLite or the system complains about.
#[derive(Debug)]
pub(super) enum Fault {
    Database(rusqlite::Error),
    /// What stands in it makes no sense.
    Damage(String),
    System(io::Error),
    /// An event is no JSON. Ours always are.
    Event(serde_json::Error),
}

impl Fault {
    /// True if the file is at fault, and not the disk or whoever holds a lock.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Database(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            Self::Damage(_) => true,
            Self::System(_) | Self::Event(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "{error}"),
            Self::Damage(why) => f.write_str(why),
            Self::System(error) => write!(f, "{error}"),
            Self::Event(error) => write!(f, "{error}"),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Event(error)
    }
}

/// The journal, for its writer.
#[derive(Debug)]
pub(super) struct Store {
    file: PathBuf,
    db: Connection,
    reserved: u64,
}

/// What is to be done with a file that is there.
enum Found {
    /// It is ours: the next number.
    Ours(u64),
    /// Nobody has written to it.
    Empty,
}

impl Store {
    /// Opens it, or begins one; a damaged one is set aside.
    pub(super) fn open(file: &Path, owner: &Owner) -> Result<(Self, Begin), JournalError> {
        let mut notes = Vec::new();
        let mut next = 1;
        let mut db = None;
        match look(file, owner) {
            Ok((found, connection)) => {
                if let Found::Ours(number) = found {
                    next = number;
                    db = Some(connection);
                } else if let Err(fault) = begin(&connection, owner) {
                    return Err(JournalError::database(file, &fault));
                } else {
                    // There was one, and somebody has removed it: its numbers were given all the same.
                    if file.with_file_name(FLOOR).exists() {
                        next = unix_ms();
                        notes.push(format!(
                            "{} is gone, and with it what happened before: numbers of events continue beyond those that it had",
                            file.display()
                        ));
                    }
                    db = Some(connection);
                }
            }
            Err(Refused::Error(error)) => return Err(error),
            Err(Refused::Damaged(fault)) => {
                next = salvage(file).unwrap_or_else(unix_ms);
                notes.push(set_aside(file, &fault).map_err(|error| JournalError::io("set aside", file, error))?);
            }
        }
        let db = match db {
            Some(db) => db,
            None => fresh(file, owner).map_err(|fault| JournalError::database(file, &fault))?,
        };
        let mut store = Self { file: file.to_owned(), db, reserved: 0 };
        store.reserve(next + RESERVE).map_err(|fault| JournalError::database(file, &fault))?;
        Ok((store, Begin { next, notes }))
    }

    /// After damage that showed itself while it was used.
    pub(super) fn begin_anew(&mut self, owner: &Owner, fault: &Fault) -> Result<String, Fault> {
        // The connection must let go of the file first.
        self.db = Connection::open_in_memory()?;
        let note = set_aside(&self.file, fault)?;
        self.db = fresh(&self.file, owner)?;
        let reserved = std::mem::take(&mut self.reserved);
        self.reserve(reserved)?;
        Ok(note)
    }

    /// Keeps events, and that numbers below `reserve` may have been told already.
    pub(super) fn insert(&mut self, events: &[Arc<Event>], reserve: u64) -> Result<(), Fault> {
        let transaction = self.db.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT OR IGNORE INTO events (seq, unix_ms, event, controller, json) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for event in events {
                insert.execute(params![
                    signed(event.seq),
                    signed(event.unix_ms),
                    event.what.name(),
                    event.controller,
                    serde_json::to_string(event.as_ref())?
                ])?;
            }
        }
        if reserve > self.reserved + RESERVE / 2 {
            put(&transaction, "reserved", &reserve.to_string())?;
        }
        transaction.commit()?;
        if reserve > self.reserved + RESERVE / 2 {
            self.reserved = reserve;
        }
        Ok(())
    }

    fn reserve(&mut self, reserve: u64) -> Result<(), Fault> {
        put(&self.db, "reserved", &reserve.to_string())?;
        put(&self.db, "ended", "no")?;
        self.reserved = reserve;
        Ok(())
    }

    /// An end in order: the next number is exactly this.
    pub(super) fn end(&mut self, next: u64) -> Result<(), Fault> {
        self.reserve(next)?;
        put(&self.db, "ended", "yes")?;
        self.db.pragma_update(None, "wal_checkpoint", "TRUNCATE").or_else(returned_rows)?;
        Ok(())
    }

    /// Bytes that are in use.
    pub(super) fn bytes(&self) -> u64 {
        let get = |name| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap_or(0);
        let pages = get("page_count") - get("freelist_count");
        u64::try_from(pages * get("page_size")).unwrap_or(0)
    }

    /// Counts time that the daemon has run, and remembers where each day of it begins. Gives the first number that is not
    /// older than `age` of such time; `None`: it has not run for so long.
    fn lived(&self, more: Duration, age: Duration) -> Result<Option<u64>, Fault> {
        let number = |key: &str| Ok::<_, Fault>(get(&self.db, key)?.and_then(|text| text.parse::<u64>().ok()));
        let lived = Duration::from_secs(number("lived_s")?.unwrap_or(0)) + more;
        put(&self.db, "lived_s", &lived.as_secs().to_string())?;
        let day = |lived: Duration| format!("lived:{:08}", lived.as_secs() / DAY.as_secs());
        if number(&day(lived))?.is_none() {
            put(&self.db, &day(lived), &next(&self.db)?.to_string())?;
        }
        let Some(since) = lived.checked_sub(age) else { return Ok(None) };
        let sql = "SELECT key, value FROM meta WHERE key >= 'lived:' AND key <= ?1 ORDER BY key DESC LIMIT 1";
        let found =
            self.db.query_row(sql, [day(since)], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
        let Some((key, mark)) = found.optional()? else { return Ok(None) };
        self.db.execute("DELETE FROM meta WHERE key >= 'lived:' AND key < ?1", [key])?;
        Ok(mark.parse().ok())
    }

    /// Bytes of receipts.
    fn receipt_bytes(&self) -> Result<u64, Fault> {
        let sql = "SELECT coalesce(sum(length(json)), 0) FROM events WHERE event = 'fenced'";
        let bytes: i64 = self.db.query_row(sql, [], |row| row.get(0))?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// Removes what is too old, and the oldest of what is too much; `lived` is how long the daemon has run since the last
    /// time. Too old is what is so by the clock *and* by the time that the daemon has run since: a clock that is a year
    /// ahead removes nothing. What is too much goes, the oldest first, but receipts only when they have more than their
    /// share.
    pub(super) fn trim(&mut self, bounds: Bounds, now_ms: u64, lived: Duration) -> Result<(), Fault> {
        let age = u64::try_from(bounds.age.as_millis()).unwrap_or(u64::MAX);
        let oldest = signed(now_ms.saturating_sub(age));
        if let Some(mark) = self.lived(lived, bounds.age)? {
            self.db.execute("DELETE FROM events WHERE unix_ms < ?1 AND seq < ?2", [oldest, signed(mark)])?;
        }
        while self.bytes() > bounds.bytes.max(BYTES_MIN) {
            let kinds = if self.receipt_bytes()? > bounds.bytes.max(BYTES_MIN) / RECEIPTS_SHARE { "=" } else { "<>" };
            let of = format!("FROM events WHERE event {kinds} 'fenced'");
            let count: i64 = self.db.query_row(&format!("SELECT count(*) {of}"), [], |row| row.get(0))?;
            let share = (count / i64::try_from(TRIM_SHARE).unwrap_or(10)).max(1);
            let remove = format!("DELETE FROM events WHERE seq IN (SELECT seq {of} ORDER BY seq LIMIT ?1)");
            if self.db.execute(&remove, [share])? == 0 {
                break;
            }
        }
        // Each step gives back one page.
        let mut vacuum = self.db.prepare("PRAGMA incremental_vacuum")?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        Ok(())
    }

    /// So that the next look is at the file.
    #[cfg(test)]
    pub(super) fn forget_what_it_knows(&self) {
        self.db.execute_batch("PRAGMA cache_size = 0; PRAGMA shrink_memory;").expect("no more than a wish");
    }
}

/// A pragma that answers with rows is no failure.
fn returned_rows(error: rusqlite::Error) -> rusqlite::Result<()> {
    if matches!(error, rusqlite::Error::ExecuteReturnedResults) { Ok(()) } else { Err(error) }
}

/// SQLite knows no unsigned numbers; ours never come near the difference.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn put(db: &Connection, key: &str, value: &str) -> Result<(), Fault> {
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", [key, value])?;
    Ok(())
}

fn get(db: &Connection, key: &str) -> Result<Option<String>, Fault> {
    Ok(db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?)
}

/// Why a file is not used.
enum Refused {
    Damaged(Fault),
    Error(JournalError),
}

/// Opens a file that may be anything.
fn look(file: &Path, owner: &Owner) -> Result<(Found, Connection), Refused> {
    let judged = |fault: Fault| {
        if fault.is_damage() { Refused::Damaged(fault) } else { Refused::Error(JournalError::database(file, &fault)) }
    };
    let db = connect(file).map_err(judged)?;
    let number = |name: &str| -> Result<u32, Fault> { Ok(db.pragma_query_value(None, name, |row| row.get(0))?) };
    let magic = number("application_id").map_err(judged)?;
    let format = number("user_version").map_err(judged)?;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| judged(error.into()))?;
    if (magic, format, tables) == (0, 0, 0) {
        return Ok((Found::Empty, db));
    }
    if magic != MAGIC {
        return Err(Refused::Damaged(Fault::Damage("it is no journal of this program".into())));
    }
    if format > FORMAT {
        let writer = get(&db, "writer").ok().flatten().unwrap_or_else(|| "unknown".into());
        return Err(Refused::Error(JournalError::Newer { file: file.to_owned(), format, writer }));
    }
    let sound: String =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| judged(error.into()))?;
    if sound != "ok" {
        return Err(Refused::Damaged(Fault::Damage(sound)));
    }
    let hostid = get(&db, "hostid").map_err(judged)?.unwrap_or_default();
    if hostid != owner.hostid {
        let hostnqn = get(&db, "hostnqn").map_err(judged)?.unwrap_or_default();
        return Err(Refused::Error(JournalError::Foreign { file: file.to_owned(), hostnqn }));
    }
    let next = next(&db).map_err(judged)?;
    Ok((Found::Ours(next), db))
}

/// The number that nobody has been told: exactly the next after an end in order, else one that is surely beyond.
fn next(db: &Connection) -> Result<u64, Fault> {
    let last: Option<i64> = db.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))?;
    let last = last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0);
    let reserved = get(db, "reserved")?.and_then(|text| text.parse().ok()).unwrap_or(last + RESERVE);
    Ok(reserved.max(last + 1))
}

/// What can still be learnt of the numbers in a damaged file.
fn salvage(file: &Path) -> Option<u64> {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    next(&db).ok().map(|next| next + RESERVE)
}

fn connect(file: &Path) -> Result<Connection, Fault> {
    let db = Connection::open(file)?;
    db.busy_timeout(BUSY)?;
    // What was committed survives a crash of the process; the last of it may not survive a loss of power.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(db)
}

fn fresh(file: &Path, owner: &Owner) -> Result<Connection, Fault> {
    let db = connect(file)?;
    begin(&db, owner)?;
    Ok(db)
}

/// Makes an empty file a journal.
fn begin(db: &Connection, owner: &Owner) -> Result<(), Fault> {
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "WAL").or_else(returned_rows)?;
    let transaction = db.unchecked_transaction()?;
    transaction.pragma_update(None, "application_id", MAGIC)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.execute_batch(SCHEMA)?;
    put(&transaction, "writer", env!("CARGO_PKG_VERSION"))?;
    put(&transaction, "hostnqn", &owner.hostnqn)?;
    put(&transaction, "hostid", &owner.hostid)?;
    Ok(transaction.commit()?)
}

/// Gives a damaged file another name, with what SQLite keeps beside it.
fn set_aside(file: &Path, fault: &Fault) -> io::Result<String> {
    let stem = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut aside = file.with_file_name(format!("{stem}.damaged-{}", unix_ms()));
    let mut again = 1;
    while aside.exists() {
        aside = file.with_file_name(format!("{stem}.damaged-{}-{again}", unix_ms()));
        again += 1;
    }
    std::fs::rename(file, &aside)?;
    for more in ["-wal", "-shm"] {
        let beside = |path: &Path| PathBuf::from(format!("{}{more}", path.display()));
        if more == "-wal" && beside(file).exists() {
            std::fs::rename(beside(file), beside(&aside))?;
        } else if beside(file).exists() {
            std::fs::remove_file(beside(file))?;
        }
    }
    forget_oldest(file, &format!("{stem}.damaged-"))?;
    Ok(format!(
        "the journal {} is damaged ({fault}): it was set aside as {}, and a new one begins",
        file.display(),
        aside.display()
    ))
}

fn forget_oldest(file: &Path, prefix: &str) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let mut old: Vec<PathBuf> = std::fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(prefix) && !name.ends_with("-wal")
        })
        .collect();
    old.sort();
    for path in old.iter().take(old.len().saturating_sub(ASIDE)) {
        std::fs::remove_file(path)?;
        // Most have none.
        let _ = std::fs::remove_file(format!("{}-wal", path.display()));
    }
    Ok(())
}

/// The journal, for readers: sees what was committed, and never keeps the writer waiting.
#[derive(Debug)]
pub struct Reader {
    file: PathBuf,
    db: Connection,
}

impl Reader {
    pub(super) fn open(file: &Path) -> Result<Self, JournalError> {
        let failed = |error: rusqlite::Error| JournalError::database(file, &error.into());
        let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        db.busy_timeout(BUSY).map_err(failed)?;
        Ok(Self { file: file.to_owned(), db })
    }

    /// At most `most` events with numbers above `after` and below `before`, in order.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn between(&self, after: u64, before: u64, most: usize) -> Result<Vec<Event>, JournalError> {
        let sql = "SELECT json FROM events WHERE seq > ?1 AND seq < ?2 ORDER BY seq LIMIT ?3";
        self.select(sql, params![signed(after), signed(before), limit(most)])
    }

    /// The last `most` events below `before`, in order.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn last(&self, before: u64, most: usize) -> Result<Vec<Event>, JournalError> {
        let sql = "SELECT json FROM events WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
        self.select(sql, params![signed(before), limit(most)]).map(reversed)
    }

    /// The last `most` events of this kind with numbers above `after` and below `before`, in order. Kinds are named as in
    /// JSON: `fenced`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_kind(&self, kind: &str, after: u64, before: u64, most: usize) -> Result<Vec<Event>, JournalError> {
        let sql = "SELECT json FROM events WHERE event = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4";
        self.select(sql, params![kind, signed(after), signed(before), limit(most)]).map(reversed)
    }

    /// What one failover's story is made of: of its process, what was connected and lost before the event `id`; from there
    /// on what concerns its controller, and what was connected and lost besides. At most `most` of either, in order.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn about(&self, id: u64, most: usize) -> Result<Vec<Event>, JournalError> {
        let began = self.of_kind("started", 0, id, 1)?.first().map_or(0, |event| event.seq);
        let before = "SELECT json FROM events WHERE seq >= ?1 AND seq < ?2
             AND event IN ('started', 'connected', 'lost', 'given_up') ORDER BY seq DESC LIMIT ?3";
        let mut events = self.select(before, params![signed(began), signed(id), limit(most)]).map(reversed)?;
        let after =
            "SELECT json FROM events WHERE seq >= ?1 AND (event IN ('started', 'shut_down', 'connected', 'lost')
             OR controller = (SELECT controller FROM events WHERE seq = ?1)) ORDER BY seq LIMIT ?2";
        events.extend(self.select(after, params![signed(id), limit(most)])?);
        Ok(events)
    }

    fn select(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Event>, JournalError> {
        let failed = |error: rusqlite::Error| JournalError::database(&self.file, &error.into());
        let mut statement = self.db.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(values, |row| row.get::<_, String>(0)).map_err(failed)?;
        let mut events = Vec::new();
        for json in rows {
            // A line that is no event of this format is left out: its number is missing, which readers see.
            if let Ok(event) = serde_json::from_str(&json.map_err(failed)?) {
                events.push(event);
            }
        }
        Ok(events)
    }
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

fn reversed(mut events: Vec<Event>) -> Vec<Event> {
    events.reverse();
    events
}

//! The shape of a product: an identity that is kept, one process per identity, a store that outlives the process, and the
//! events from the beginning.
//!
//! ```sh
//! cargo run --example service -- STATE-DIR nqn.2026-11.io.example:disk 127.0.0.1:4420 127.0.0.1:4421
//! ```
//!
//! It connects every path, reads the first block of namespace 1 every second, and ends gracefully when its standard input
//! ends. Kill it with SIGKILL and start it again: the new process fences what the old one may have left before it writes.

use interlock_host::{
    ControllerSpec, FileStore, Host, HostId, HostSettings, IdentityLock, Nqn, Outcome, Pool, PoolConfig,
};
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{fs, thread};

const WITHIN: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let state = args.next().ok_or("give the state directory first")?;
    let subnqn = Nqn::new(args.next().ok_or("give the NQN of the subsystem second")?)?;
    let paths = args.map(|arg| arg.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;

    // Who this host is must not change: targets know it, and the fence of a dead process rests on it.
    let settings = identity(Path::new(&state))?;
    // A host has one process at a time. Held until this value is dropped.
    let lock = IdentityLock::take(settings.hostid)?;
    for note in lock.notes() {
        writeln!(io::stderr(), "{note}")?;
    }
    // What may be under way is recorded here before the first write, so that the next process can fence it.
    let store = FileStore::open(&state, &settings)?;

    let pool = Pool::new(PoolConfig::default())?;
    let host = Host::start_with(pool.reactors(), settings, Box::new(store))?;
    // Before anything is connected: nothing is missed.
    let events = host.subscribe();
    let teller = thread::spawn(move || {
        // Ends with the host.
        for event in events {
            // An error of standard error has nowhere to be reported.
            writeln!(io::stderr(), "{event}").unwrap_or_default();
        }
    });

    // A path that is not there is no reason to end: it is tried again until it is.
    for path in paths {
        host.connect(ControllerSpec::new(path.ip().to_string(), path.port(), subnqn.clone()))?;
    }
    let stop = stdin_ends();
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(Duration::from_secs(1)) {
        let Ok(namespace) = host.namespace(subnqn.as_str(), 1) else {
            writeln!(io::stdout(), "namespace 1 is not there yet")?;
            continue;
        };
        let (outcome, buf) = namespace.read(0, 1).wait();
        match (outcome, buf) {
            (Outcome::Ok, Some(buf)) => writeln!(io::stdout(), "the first byte is {:#04x}", buf.as_slice()[0])?,
            (outcome, _) => writeln!(io::stdout(), "the read ended with {outcome:?}")?,
        }
    }

    // Outstanding requests complete first; a shutdown that takes longer is an error, and the next start fences the rest.
    host.shutdown(WITHIN)?;
    drop(host);
    pool.shutdown(WITHIN)?;
    teller.join().map_err(|_| "the thread that prints events panicked")?;
    Ok(())
}

/// The identity in `STATE-DIR/hostid`, made at the first start.
fn identity(state: &Path) -> Result<HostSettings, Box<dyn Error>> {
    let file = state.join("hostid");
    match fs::read_to_string(&file) {
        Ok(text) => {
            let hostid: HostId = text.trim().parse().map_err(|why| format!("{}: {why}", file.display()))?;
            Ok(HostSettings { hostnqn: Nqn::of_host(hostid), hostid })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let settings = HostSettings::random()?;
            fs::create_dir_all(state)?;
            // Never half an identity: written beside, made durable, renamed.
            let beside = state.join("hostid.new");
            let mut new = fs::File::create(&beside)?;
            writeln!(new, "{}", settings.hostid)?;
            new.sync_all()?;
            fs::rename(&beside, &file)?;
            fs::File::open(state)?.sync_all()?;
            Ok(settings)
        }
        // An identity that cannot be read is not a new one.
        Err(error) => Err(format!("{}: {error}", file.display()).into()),
    }
}

/// Hears when standard input ends.
fn stdin_ends() -> mpsc::Receiver<()> {
    let (told, stop) = mpsc::channel::<()>();
    thread::spawn(move || {
        // Whatever ends it ends it.
        io::stdin().lock().read_to_end(&mut Vec::new()).unwrap_or_default();
        drop(told);
    });
    stop
}

//! Serves a namespace as a disk: over NBD, or as a block device of the kernel.
//!
//! ```sh
//! cargo run -p interlock-export --example disk -- --nbd /tmp/disk.sock nqn.2026-11.io.interlock:target 127.0.0.1:4420 127.0.0.1:4421
//! cargo run -p interlock-export --example disk -- --ublk 0 --state /var/lib/disk NQN ADDRESS:PORT...
//! ```
//!
//! It ends in order when its input ends. If it is killed, a ublk device stays, and the next run with the same number and
//! state directory takes it over.

use interlock_export::{ExportSettings, NbdServer, NbdSettings, Stop, UblkDevice, UblkSettings};
use interlock_host::{ControllerSpec, FileStore, Host, HostId, HostSettings, Namespace, Nqn, Pool, PoolConfig};
use std::error::Error;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Everything that is waited for, but for a fence.
const WITHIN: Duration = Duration::from_secs(30);
/// A predecessor's lives may have to be waited out.
const FENCE_WITHIN: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Args {
    nbd: Option<PathBuf>,
    ublk: Option<u32>,
    state: Option<PathBuf>,
    rest: Vec<String>,
}

fn args() -> Result<Args, Box<dyn Error>> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--nbd" => args.nbd = Some(value()?.into()),
            "--ublk" => args.ublk = Some(value()?.parse()?),
            "--state" => args.state = Some(value()?.into()),
            _ => args.rest.push(word),
        }
    }
    Ok(args)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = args()?;
    let (subnqn, paths) = args.rest.split_first().ok_or("give the NQN of the subsystem and its addresses")?;
    let pool = Pool::new(PoolConfig::default())?;
    let host = match &args.state {
        Some(dir) => {
            let settings = identity(dir)?;
            Host::start_with(
                pool.reactors(),
                settings.clone(),
                Box::new(FileStore::open(dir.join("host"), &settings)?),
            )?
        }
        None => Host::start(pool.reactors(), HostSettings::random()?)?,
    };
    for path in paths {
        let path: SocketAddr = path.parse()?;
        let mut spec = ControllerSpec::new(path.ip().to_string(), path.port(), Nqn::new(subnqn)?);
        spec.reconnect.delay = Duration::from_secs(1);
        host.connect_and_wait(spec, WITHIN)?;
    }
    let export = ExportSettings::new("disk", namespace(&host, subnqn)?);
    let mut out = std::io::stdout();
    if let Some(socket) = args.nbd {
        let server = NbdServer::start(pool.reactors(), NbdSettings::new(socket))?;
        server.add(export)?;
        writeln!(out, "ready {}", server.socket().display())?;
        wait_for_the_end()?;
        writeln!(out, "{:?}", server.status())?;
        server.stop(Stop::Drain, WITHIN)?;
    } else {
        let settings = UblkSettings { id: args.ublk, ..UblkSettings::new(export) };
        let device = UblkDevice::start(pool.reactors(), &host, settings, FENCE_WITHIN)?;
        let how = if device.is_recovered() { " recovered" } else { "" };
        writeln!(out, "ready {}{how}", device.path().display())?;
        for receipt in host.status()?.receipts {
            writeln!(out, "{receipt:?}")?;
        }
        wait_for_the_end()?;
        writeln!(out, "{:?}", device.status())?;
        device.stop(Stop::Drain, WITHIN)?;
    }
    host.shutdown(WITHIN)?;
    pool.shutdown(WITHIN)?;
    Ok(())
}

fn wait_for_the_end() -> std::io::Result<()> {
    let mut word = [0; 1];
    while std::io::stdin().read(&mut word)? > 0 && word != *b"q" {}
    Ok(())
}

/// The same host after every start: its predecessor's lives can be fenced only by itself.
fn identity(dir: &std::path::Path) -> Result<HostSettings, Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let file = dir.join("hostid");
    if let Ok(bytes) = std::fs::read(&file) {
        let hostid = HostId(bytes.try_into().map_err(|_| "hostid does not have 16 bytes")?);
        return Ok(HostSettings { hostnqn: Nqn::of_host(hostid), hostid });
    }
    let settings = HostSettings::random()?;
    std::fs::write(file, settings.hostid.0)?;
    Ok(settings)
}

fn namespace(host: &Host, subnqn: &str) -> Result<Namespace, Box<dyn Error>> {
    let until = Instant::now() + WITHIN;
    loop {
        match host.namespace(subnqn, 1) {
            Ok(namespace) => return Ok(namespace),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            Err(_) => std::thread::yield_now(),
        }
    }
}

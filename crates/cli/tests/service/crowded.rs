//! One client of the control socket cannot make the daemon want more than its share: not controllers, not attempts.

use crate::scene::{PATIENCE, Scene, say, wait_for};
use rustix::process::{Signal, getuid};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Controllers that may be wanted, and that the hostile client asks for.
const MOST: u64 = 1_024;
const ASKED: u64 = 5_000;
/// The longest that a status, or a connect of somebody good, may take; machines that run tests are busy.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What the daemon's own bounds are: attempts of one user, and of one process.
const ATTEMPTS: usize = 256;

const HOSTILE: &str = "INTERLOCK_TEST_HOSTILE_USER";

/// Whether another user can be made: then what it asks for is on its own account.
fn is_root() -> bool {
    getuid().is_root()
}

fn ask(socket: &Path, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let head = "POST /v1/controllers HTTP/1.0\r\nHost: x\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, answer)
}

fn body(port: u16, number: u64, wait: bool) -> String {
    format!(
        "{{\"traddr\":\"127.0.0.1\",\"trsvcid\":{port},\"subnqn\":\"nqn.2014-08.org.example:{number}\",\
         \"first_attempt_decides\":{wait}}}"
    )
}

/// The hostile client: this program as another user. It says how many of its requests were granted, and the first refusal.
#[test]
#[ignore = "a process that the other tests begin"]
fn hostile_user() {
    let Ok(orders) = std::env::var(HOSTILE) else { return };
    let mut orders = orders.split(' ');
    let mut order = || orders.next().expect("a socket, a port, and whether to wait");
    let (socket, port, wait) = (Path::new(order()), order().parse().expect("a port"), order() == "true");
    let (parts, each) = if wait { (2 * ATTEMPTS as u64, 1) } else { (4, ASKED / 4) };
    let asking = |part: u64| {
        let answers = (0..each).map(|n| ask(socket, &body(port, part * each + n, wait)));
        answers.collect::<Vec<_>>()
    };
    let (send, answers) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for part in 0..parts {
            let send = send.clone();
            scope.spawn(move || send.send(asking(part)));
        }
        drop(send);
        let mut refused = 0;
        let mut granted = 0;
        for (status, answer) in answers.into_iter().flatten() {
            refused += u64::from(status == 409);
            granted += u64::from(status == 200);
            if status == 409 && refused == 1 {
                say(&format!("refused: {}", answer.lines().last().unwrap_or_default()));
            }
            // Those that wait for a silent target wait for a minute: what was refused at once is known by now.
            if wait && refused == ATTEMPTS as u64 {
                say(&format!("count: {granted} {refused}"));
                std::process::exit(0);
            }
        }
        say(&format!("count: {granted} {refused}"));
    });
}

fn begin(scene: &Scene, port: u16, wait: bool) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["--exact", "crowded::hostile_user", "--ignored", "--nocapture"])
        .env(HOSTILE, format!("{} {port} {wait}", scene.dir.join("c.sock").display()))
        .stderr(Stdio::piped());
    if is_root() {
        command.uid(65_534).gid(65_534);
    }
    command.spawn().expect("it begins")
}

/// A daemon that everybody may ask.
fn scene(name: &str) -> Scene {
    let mut scene = Scene::new(name, &[]);
    scene.stop(Signal::TERM);
    let text = format!("[daemon]\nmax_controllers = {MOST}\n");
    std::fs::write(scene.dir.join("interlock.toml"), text).expect("a file");
    scene.start();
    let all = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(scene.dir.join("c.sock"), all).expect("ours");
    scene
}

/// What the hostile client said.
fn said(child: Child) -> (String, [u64; 2]) {
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let refused = text.lines().find_map(|line| line.split_once("refused: ")).map_or("", |(_, rest)| rest).to_owned();
    let count = text.lines().find_map(|line| line.split_once("count: ")).unwrap_or_else(|| panic!("{text}")).1;
    let count: Vec<u64> = count.split(' ').map(|word| word.parse().expect("a number")).collect();
    (refused, [count[0], count[1]])
}

#[test]
fn one_user_asks_for_five_thousand_controllers_and_gets_its_share() {
    let mut scene = scene("crowded");
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let mut hostile = begin(&scene, port, false);
    let mut slowest = Duration::ZERO;
    let mut looks = 0;
    while hostile.try_wait().expect("ours").is_none() {
        let begun = Instant::now();
        let limits = &scene.status()["limits"];
        slowest = slowest.max(begun.elapsed());
        looks += 1;
        assert_eq!(limits["controllers_max"], MOST);
        assert!(limits["controllers"].as_u64().expect("a number") <= MOST, "{limits}");
    }
    let (refused, [granted, not]) = said(hostile);
    let share = if is_root() { MOST / 4 } else { MOST - 1 };
    assert_eq!([granted, not], [share, ASKED - share]);
    let problem: Value = serde_json::from_str(&refused).expect("JSON");
    assert_eq!(problem["kind"], "in-use");
    assert!(problem["error"].as_str().expect("text").contains("of 1024 controllers that may be wanted"), "{problem}");
    assert!(problem["hints"].to_string().contains("max_controllers"), "{problem}");
    assert!(looks > 0 && slowest < WAIT_MAX, "{looks} looks, the slowest {slowest:?}");
    if is_root() {
        let begun = Instant::now();
        scene.connect(1, &["-c", "1"]);
        assert!(begun.elapsed() < WAIT_MAX, "the good one waited {:?}", begun.elapsed());
        // What is given back can be asked for again, and what was wanted is, after a restart.
        let gone: Vec<String> = (0..4).map(|n| format!("nqn.2014-08.org.example:{n}")).collect();
        gone.iter().for_each(|nqn| _ = scene.does(&["disconnect", "-n", nqn]));
        let taken = |scene: &Scene| scene.status()["limits"]["controllers"].as_u64().expect("a number");
        wait_for("they have ended", || (taken(&scene) == share + 2 - 4).then_some(()));
        scene.stop(Signal::TERM);
        scene.start();
        wait_for("all of it is wanted again", || (taken(&scene) == share + 2 - 4).then_some(()));
    }
}

#[test]
fn one_user_waits_for_so_many_attempts_and_others_connect() {
    let scene = scene("attempts");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let (refused, [granted, not]) = said(begin(&scene, port, true));
    assert_eq!([granted, not], [0, ATTEMPTS as u64]);
    let problem: Value = serde_json::from_str(&refused).expect("JSON");
    assert!(
        problem["error"].as_str().expect("text").contains("connections that may be attempted at once"),
        "{problem}"
    );
    let begun = Instant::now();
    scene.connect(0, &["-c", "1"]);
    scene.status();
    assert!(begun.elapsed() < WAIT_MAX, "the good one waited {:?}", begun.elapsed());
}

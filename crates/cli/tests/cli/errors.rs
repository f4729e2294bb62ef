//! What users read when something is wrong, word for word.
//!
//! `tests/golden/errors.txt` has a command and what it prints on standard error, one after the other: a change of a sentence
//! stands in the difference of a commit. `UPDATE_GOLDEN=1` writes the file again. None of these needs a daemon or a target.

use crate::child::run;
use std::path::PathBuf;

const SOCKET: &str = "--socket /nonexistent/c.sock";
const NQN: &str = "nqn.2014-08.org.example:s";

fn commands() -> Vec<String> {
    let with_socket = [
        "list",
        "status",
        "connect -a 192.0.2.1 -n nqn.2014-08.org.example:s",
        "set nvme0 -l 5",
        "fence --wait nvme0n1",
        "export nvme0n1",
        "events",
        "explain",
        "doctor",
        "set nvme0",
        "explain first",
        "history -n 0",
        "disconnect",
        "fence",
        "disconnect -d nvme0 -o json",
    ];
    let others = [
        format!("connect -a 192.0.2.1:4420 -n {NQN}"),
        format!("connect -a tcp://192.0.2.1 -n {NQN}"),
        "connect -a 192.0.2.1".to_owned(),
        format!("connect -a 192.0.2.1 -n {NQN} --tls"),
        format!("connect -a 192.0.2.1 -n {NQN} --assumed-cqt soon"),
        format!("connect -a 192.0.2.1 -n {NQN} --clock-slew 101"),
        format!("connect -t rdma -a 192.0.2.1 -n {NQN}"),
        "discover -a 127.0.0.1 -s 1".to_owned(),
        format!("doctor -a 127.0.0.1 -s 1 -n {NQN}"),
        "io read nvme:192.0.2.1".to_owned(),
        "io copy one two".to_owned(),
        "io read nvme:192.0.2.1/nqn.2014-08.org.example:s/0".to_owned(),
        "io read nvme:192.0.2.1/nqn.2014-08.org.example:s --length much".to_owned(),
        "target".to_owned(),
        "target --port everywhere --namespace mem:1M".to_owned(),
        "target --port 0 --namespace disk.img".to_owned(),
        "target --port 0 --namespace mem:1M --fault kind=hold-write,port=0".to_owned(),
        "target ctl status".to_owned(),
        "target ctl --control /nonexistent/t.sock status".to_owned(),
        "drill resett".to_owned(),
        "drill --no-fence nowhere".to_owned(),
        "id-ns nvme0n1".to_owned(),
        "smart-log nvme0".to_owned(),
        "resv-report nvme0n1".to_owned(),
        "read nvme0n1".to_owned(),
        format!("connect -a 192.0.2.1 -n {NQN} -D"),
        format!("connect -a 192.0.2.1 -n {NQN} -k soon"),
        "discover -a 192.0.2.1 -p".to_owned(),
        "conect".to_owned(),
        "list -o xml".to_owned(),
        "list --output-format-version 9".to_owned(),
        "config validate /nonexistent.toml".to_owned(),
        "daemon --config /nonexistent.toml".to_owned(),
        "top --once --source sys --sysfs /nonexistent".to_owned(),
        "completion tcsh".to_owned(),
    ];
    with_socket.iter().map(|command| format!("{command} {SOCKET}")).chain(others).collect()
}

#[test]
fn errors_are_what_was_looked_at() {
    let mut text = String::new();
    for command in commands() {
        let output = run(&command.split(' ').collect::<Vec<_>>());
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success() && !said.is_empty(), "{command}");
        text.push_str(&format!("$ interlock {command}\n{}\n\n", said.trim_end()));
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/errors.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &text).expect("the file is written");
    }
    let kept = std::fs::read_to_string(&file).expect("the texts");
    assert_eq!(text, kept, "run this test with UPDATE_GOLDEN=1 and look at the difference");
}

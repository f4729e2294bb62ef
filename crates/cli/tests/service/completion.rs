//! Completion in shells, with what is connected at the moment.

use crate::child::NQN;
use crate::scene::{Scene, say};
use std::path::PathBuf;
use std::process::Command;

/// What a shell offers for lines, by a script of its own that is given the completion script and prints what it offers.
fn offered(scene: &Scene, shell: &str, script: &str, line: &str) -> Option<Vec<String>> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_interlock"));
    let dir = program.parent().expect("a directory");
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new(shell)
        .args(["-c", script])
        .env("PATH", path)
        .env("LINE", line)
        .env("INTERLOCK_SOCKET", scene.dir.join("c.sock"))
        .output();
    let Ok(output) = output else {
        say(&format!("SKIPPED: {shell} is not installed"));
        return None;
    };
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && error.is_empty(), "{shell}: {line}: {error}");
    Some(text.lines().map(str::to_owned).collect())
}

/// As the shell does it when somebody presses the key.
const BASH: &str = r#"
source <(interlock completion bash)
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_WORDBREAKS=$' \t\n"'"'"'><=;|&(:'
read -ra COMP_WORDS <<< "$LINE"
[[ $LINE == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_interlock_with_names interlock "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_offers_what_is_connected() {
    let mut scene = Scene::new("completion", &[]);
    scene.connect(0, &[]);
    scene.connect(1, &[]);
    scene.does(&["export", "nvme0n1", "--name", "disk 0"]);
    let has = |line: &str, name: &str| {
        let Some(all) = offered(&scene, "bash", BASH, line) else { return };
        assert!(all.iter().any(|one| one == name), "{line}: {name}: {all:?}");
    };
    has("interlock reset ", "nvme1");
    has("interlock reset nvme0 nvme-s", "nvme-subsys0");
    has("interlock status nvme0", "nvme0n1");
    has("interlock fence --wait ", "nvme0n1");
    has("interlock unexport di", "disk\\ 0");
    has("interlock disconnect -n nqn.", NQN);
    // Bash takes what stands after the colon for the word.
    let (_, rest) = NQN.split_once(':').expect("an NQN of ours");
    has(&format!("interlock disconnect -n {}", &NQN[..NQN.len() - 3]), rest);
    has("interlock disc", "disconnect-all");
    has("interlock set nvme0 --ctrl", "--ctrl-loss-tmo");
    let Some(all) = offered(&scene, "bash", BASH, "interlock set nvme0 -l ") else { return };
    assert!(!all.iter().any(|one| one.starts_with("nvme")), "a number stands there: {all:?}");
    // Without a daemon the line is left alone.
    scene.stop(rustix::process::Signal::TERM);
    let all = offered(&scene, "bash", BASH, "interlock reset ").expect("bash is there");
    assert!(!all.iter().any(|one| one.starts_with("nvme")), "{all:?}");
}

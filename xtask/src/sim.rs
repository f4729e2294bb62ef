//! Runs the simulator: built fast, with every assertion of the cores on and with the feature that lets it switch guards
//! off. It is a program of its own, so that nothing else is ever built with that feature.

use crate::house;
use anyhow::{Context, Result};
use std::process::{Command, ExitCode};

/// `cargo xtask sim [...]`: the arguments are the simulator's own.
///
/// # Errors
/// If cargo cannot be run.
pub fn main(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--profile", "sim", "--package", "interlock-sim", "--features", "mutations", "--"])
        .args(args)
        .env("INTERLOCK_SIM_SOURCE", format!("{:016x}", source()?))
        .current_dir(house::root())
        .status()
        .context("cargo cannot be run")?;
    // Its status says more than yes and no; one that was ended by a signal has none.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What decides what a seed means: a number for the source of the cores and of the simulator (FNV-1a).
///
/// # Errors
/// If a file cannot be read.
pub fn source() -> Result<u64> {
    let mut files = Vec::new();
    for name in ["base", "wire", "fence", "proto", "host-core", "target-core", "check", "sim"] {
        let mut folders = vec![house::root().join("crates").join(name).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("{} cannot be listed", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        let text = std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let name = file.strip_prefix(house::root()).unwrap_or(&file).to_string_lossy().into_owned();
        for byte in name.bytes().chain(text) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    Ok(hash)
}

/// Who enables a feature of `host-core` or `sim` that lets guards be switched off, but for the simulator's own feature,
/// in words.
///
/// # Errors
/// If cargo cannot be run or answers something unexpected.
pub fn enablers() -> Result<Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(house::root())
        .output()
        .context("cargo metadata cannot be run")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let features = dependency["features"].as_array().into_iter().flatten();
            if features.into_iter().any(|feature| feature == "mutations") {
                found.push(format!("`{name}` imports `{}` with `mutations`", dependency["name"]));
            }
        }
        for (feature, enables) in package["features"].as_object().into_iter().flatten() {
            let enables = enables.as_array().into_iter().flatten().filter_map(|word| word.as_str());
            for word in enables.filter(|word| word.ends_with("mutations")) {
                let own = feature == "mutations"
                    && match name {
                        "interlock-sim" => word == "interlock-host-core/mutations",
                        // Both are the same switch.
                        "interlock-host-core" => word == "interlock-fence/mutations",
                        _ => false,
                    };
                if !own {
                    found.push(format!("feature `{feature}` of `{name}` enables `{word}`"));
                }
            }
        }
    }
    Ok(found)
}

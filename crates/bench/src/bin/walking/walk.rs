//! Whoever walks a tree: `find`, and every file that can be read is read by its whole path, as scripts do it.

use crate::cpu;
use anyhow::Result;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walked {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Listed, and not there any more when they were read.
    pub(crate) gone: u64,
    pub(crate) time: Duration,
}

/// A walk that begins anew at its end. It goes on where it was interrupted: a tree may be larger than a stretch is long.
#[derive(Debug)]
pub(crate) struct Walk {
    root: PathBuf,
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
    whole: u64,
    read: u64,
    read_in_all: u64,
}

impl Walk {
    pub(crate) const fn of(root: PathBuf) -> Self {
        Self { root, directories: Vec::new(), files: Vec::new(), whole: 0, read: 0, read_in_all: 0 }
    }

    /// Walks that came to the end.
    pub(crate) const fn whole(&self) -> u64 {
        self.whole
    }

    /// Files that the last whole walk read.
    pub(crate) const fn files_of_a_walk(&self) -> u64 {
        self.read_in_all
    }

    /// Walks until it is over, on a core of its own if one is given.
    pub(crate) fn run(&mut self, core: Option<usize>, over: &AtomicBool) -> Result<Walked> {
        if let Some(core) = core {
            cpu::pin_me(core)?;
        }
        let began = Instant::now();
        let mut walked = Walked::default();
        let mut text = Vec::new();
        while !over.load(Ordering::Relaxed) {
            if let Some(file) = self.files.pop() {
                text.clear();
                match File::open(&file).and_then(|mut file| file.read_to_end(&mut text)) {
                    Ok(bytes) => {
                        walked.files += 1;
                        walked.bytes += bytes as u64;
                        self.read += 1;
                    }
                    Err(_) => walked.gone += 1,
                }
            } else if let Some(directory) = self.directories.pop() {
                self.look_into(&directory)?;
            } else {
                if self.read > 0 {
                    self.whole += 1;
                    self.read_in_all = std::mem::take(&mut self.read);
                }
                self.directories.push(self.root.clone());
            }
        }
        walked.time = began.elapsed();
        Ok(walked)
    }

    fn look_into(&mut self, directory: &PathBuf) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // Links lead to what is walked anyway.
            if kind.is_dir() {
                self.directories.push(entry.path());
            } else if kind.is_file() && entry.metadata().is_ok_and(|data| data.permissions().mode() & 0o444 != 0) {
                self.files.push(entry.path());
            }
        }
        Ok(())
    }
}

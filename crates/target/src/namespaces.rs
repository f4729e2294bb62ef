//! Namespaces that come, grow and go while hosts are connected.
//!
//! The order is what matters: a lane must have what holds the blocks before a host can name them, and must not lose it
//! before no host can. Changes are made one after the other, under one lock. What a lane begins is thus an operation on what holds
//! the blocks of the namespace that its command was checked against: the lane itself refuses what it finds another namespace for.

use crate::config::{Backing as BackingConfig, NamespaceConfig};
use crate::control::ControlMail;
use crate::lane::LaneMail;
use crate::shape::open;
use crate::store::Backing;
use crate::target::{ANSWER_WITHIN, Kept, SUBSYSTEM, Target, TargetError};
use interlock_target_core::{Event, NSID_MAX, Namespace, NamespaceError, NamespaceKey};
use std::sync::{PoisonError, mpsc};

impl Target {
    /// Adds a namespace; connected hosts are told. Answers its NSID: the lowest free one if none was asked for.
    ///
    /// # Errors
    /// If it cannot be opened, or its identifier is taken. Nothing has changed then.
    pub fn add_namespace(&self, config: &NamespaceConfig) -> Result<u32, TargetError> {
        config.check(self.config.ana_groups)?;
        let mut kept = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let lowest = || (1..=NSID_MAX).find(|nsid| !kept.contains_key(nsid)).unwrap_or(NSID_MAX);
        let nsid = config.nsid.unwrap_or_else(lowest);
        if kept.contains_key(&nsid) {
            return Err(NamespaceError::Taken(nsid).into());
        }
        let (namespace, backing) = open(nsid, config, self.config.state.as_deref())?;
        let added = self.attach_namespace(&namespace, &backing).and_then(|()| {
            let namespace = namespace.clone();
            Ok(self.ask(move |control, _| control.add_namespace(SUBSYSTEM, namespace))??)
        });
        if let Err(error) = added {
            self.detach_namespace(nsid)?;
            return Err(error);
        }
        let config = NamespaceConfig { nsid: Some(nsid), ..config.clone() };
        kept.insert(nsid, Kept { config, backing });
        Ok(nsid)
    }

    /// Changes the size of a namespace; connected hosts are told. A file that is too short is made longer, and none is
    /// cut; without a size a file namespace becomes as large as its file is now. Answers the size in bytes.
    ///
    /// # Errors
    /// If it is not there, or cannot have this size. Nothing has changed then.
    pub fn resize_namespace(&self, nsid: u32, bytes: Option<u64>) -> Result<u64, TargetError> {
        let mut kept = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = kept.get_mut(&nsid).ok_or(NamespaceError::Absent(nsid))?;
        let block = u64::from(namespace.config.block_size);
        let refused = |bytes, why: String| TargetError::Resize { nsid, bytes, why };
        if let Some(bytes) = bytes
            && bytes < block
        {
            return Err(refused(bytes, format!("it has blocks of {block} bytes")));
        }
        let size = match (&namespace.backing, bytes) {
            (Backing::File(file), wanted) => {
                let has = file.lengthen(wanted).map_err(|error| refused(wanted.unwrap_or(0), error.to_string()))?;
                match wanted {
                    Some(wanted) if wanted > has => {
                        return Err(refused(wanted, format!("its device has {has}")));
                    }
                    _ => wanted.unwrap_or(has),
                }
            }
            (_, None) => return Err(refused(0, "say how large it is to be; only a file has a size of its own".into())),
            (Backing::Memory(memory), Some(wanted)) => {
                if wanted > memory.room() {
                    return Err(refused(wanted, format!("it can grow to {} without a restart", memory.room())));
                }
                let before = self.ask(move |control, _| {
                    let known = control.namespaces(SUBSYSTEM).and_then(|all| all.get(nsid));
                    known.map_or(0, |namespace| namespace.blocks << namespace.block_shift)
                })?;
                if wanted > before {
                    memory.grow(before, wanted).map_err(|error| refused(wanted, error.to_string()))?;
                }
                wanted
            }
            (Backing::Null, Some(wanted)) => wanted,
        };
        let blocks = size / block;
        self.ask(move |control, _| control.resize_namespace(SUBSYSTEM, nsid, blocks))??;
        match &mut namespace.config.backing {
            BackingConfig::Memory { bytes } | BackingConfig::Null { bytes } => *bytes = size,
            BackingConfig::File { .. } => {}
        }
        Ok(blocks * block)
    }

    /// Somebody says that a flush of the namespace which failed was dealt with: flushes may succeed again. Answers whether one
    /// had failed.
    ///
    /// # Errors
    /// If the namespace is not there, or this cannot be remembered: nothing has changed then.
    pub fn clear_flush_error(&self, nsid: u32) -> Result<bool, TargetError> {
        let backing = {
            let kept = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get(&nsid).ok_or(NamespaceError::Absent(nsid))?.backing.clone()
        };
        match backing {
            Backing::File(opened) => Ok(opened.flushes().clear()?),
            Backing::Memory(_) | Backing::Null => Ok(false),
        }
    }

    /// Takes a namespace away; connected hosts are told. What is under way on it ends as it began.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove_namespace(&self, nsid: u32) -> Result<(), TargetError> {
        let mut kept = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        self.ask(move |control, _| control.remove_namespace(SUBSYSTEM, nsid))??;
        kept.remove(&nsid);
        self.detach_namespace(nsid)
    }

    pub(crate) fn attach_namespace(&self, namespace: &Namespace, backing: &Backing) -> Result<(), TargetError> {
        let key = NamespaceKey { subsystem: SUBSYSTEM, nsid: namespace.nsid };
        if let Backing::File(opened) = backing {
            let control = self.control.clone();
            opened.flushes().set_teller(move |why| {
                let event = Event::FlushFailed { namespace: key, why: why.into() };
                control.send(ControlMail::Event(interlock_ring::now(), event));
            });
        }
        for lane in &self.lanes {
            let (attached, answer) = mpsc::channel();
            let (namespace, backing) = (namespace.clone(), backing.clone());
            lane.send(LaneMail::Attach { key, namespace, backing, attached });
            answer.recv_timeout(ANSWER_WITHIN).map_err(|_| TargetError::Gone)??;
        }
        Ok(())
    }

    fn detach_namespace(&self, nsid: u32) -> Result<(), TargetError> {
        let key = NamespaceKey { subsystem: SUBSYSTEM, nsid };
        for lane in &self.lanes {
            let (detached, answer) = mpsc::channel();
            lane.send(LaneMail::Detach { key, detached });
            answer.recv_timeout(ANSWER_WITHIN).map_err(|_| TargetError::Gone)?;
        }
        Ok(())
    }
}

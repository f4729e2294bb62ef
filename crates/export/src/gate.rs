//! Whether clients of an export may reach its namespace at the moment.
//!
//! The handle opens and shuts it; every connection and queue looks at its number in each turn, which is one load, and
//! at the rest only when that has changed. While it is shut clients get errors, and what they had in flight is abandoned:
//! guarded by the host until it is answered or fenced, and never sent again.

use interlock_host::Namespace;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub(crate) struct Gate {
    /// Grows with every change.
    number: AtomicU64,
    namespace: Mutex<Option<Namespace>>,
}

impl Gate {
    /// Open from the start.
    pub(crate) fn open_to(namespace: Namespace) -> Self {
        Self { number: AtomicU64::new(1), namespace: Mutex::new(Some(namespace)) }
    }

    /// Opens it to this namespace, or shuts it; false if it stood so already.
    pub(crate) fn set(&self, namespace: Option<Namespace>) -> bool {
        let mut now = self.namespace.lock().unwrap_or_else(PoisonError::into_inner);
        if now.as_ref().map(Namespace::head) == namespace.as_ref().map(Namespace::head) {
            return false;
        }
        *now = namespace;
        // With the lock: whoever reads the number and then the namespace gets one that is at least as new.
        self.number.fetch_add(1, Ordering::Release);
        true
    }

    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The namespace behind it; `None`: it is shut.
    pub(crate) fn namespace(&self) -> Option<Namespace> {
        self.namespace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.namespace.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

//! Which exports there are and who is connected: what the handle, the listener and the connections share.
//!
//! It is looked at when something begins or ends, never for a command.

use super::handshake::{Offer, Offers};
use super::memory::{Allowance, NbdMemory};
use super::succession::{Predecessors, Roll};
use super::transmission::{PAYLOAD_MAX, View};
use crate::disk::Disk;
use crate::gate::Gate;
use crate::status::Published;
use crate::{ConnectionStatus, Counters, ExportError, ExportSettings, ExportStatus, Stop};
use interlock_base::Instant;
use interlock_host::{Namespace, Shape};
use interlock_ring::{BufPool, Cx, Waker};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// One export.
pub(super) struct Export {
    pub(super) settings: ExportSettings,
    pub(super) gate: Gate,
    size: AtomicU64,
    write_protected: AtomicBool,
    /// Of connections that are gone.
    past: Mutex<Counters>,
}

impl Export {
    fn new(settings: ExportSettings) -> Self {
        let shape = settings.namespace.shape();
        let export = Self {
            gate: Gate::open_to(settings.namespace.clone()),
            settings,
            size: AtomicU64::new(0),
            write_protected: AtomicBool::new(false),
            past: Mutex::default(),
        };
        export.reshape(shape);
        export
    }

    fn reshape(&self, shape: Shape) {
        self.size.store(shape.blocks.saturating_mul(u64::from(shape.block_size)), Ordering::Relaxed);
        self.write_protected.store(shape.read_only, Ordering::Relaxed);
    }

    /// Bytes per block, as clients were promised when it was made.
    fn block_size(&self) -> u32 {
        self.settings.namespace.shape().block_size
    }

    /// What it is at this moment.
    pub(super) fn view(&self) -> View {
        View {
            size: self.size.load(Ordering::Relaxed),
            block: self.block_size(),
            read_only: self.settings.read_only || self.write_protected.load(Ordering::Relaxed),
        }
    }

    fn offer(&self) -> Offer {
        let View { size, block, read_only } = self.view();
        Offer {
            name: self.settings.name.clone(),
            description: self.settings.description.clone(),
            size,
            read_only,
            block_min: block,
            block_preferred: block.max(4096),
            payload_max: PAYLOAD_MAX,
        }
    }
}

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    GoOn = 0,
    Drain = 1,
    Drop = 2,
}

/// A connection, as others see it.
pub(super) struct Seat {
    id: u64,
    pid: Option<i32>,
    since: Instant,
    waker: OnceLock<Waker>,
    order: AtomicU8,
    export: OnceLock<Arc<Export>>,
    pub(super) counters: Published,
    pub(super) roll: Roll,
}

impl Seat {
    /// Once the connection runs: whom to wake with orders.
    pub(super) fn set_waker(&self, waker: Waker) {
        let _ = self.waker.set(waker); // a connection is attached once
    }

    pub(super) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::GoOn,
            1 => Order::Drain,
            _ => Order::Drop,
        }
    }

    fn tell(&self, order: Order) {
        // An order is never taken back: `Drain` does not undo `Drop`.
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Its connection looks at what has changed.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

/// A connection's place in the table; given up when it is dropped, wherever that happens.
pub(super) struct Seated {
    table: Arc<Table>,
    pub(super) seat: Arc<Seat>,
    pub(super) allowance: Allowance,
}

/// The exports that may be chosen now.
impl Offers for Seated {
    fn find(&self, name: &str) -> Option<Offer> {
        let state = self.table.lock();
        let open = || state.exports.iter().filter(|export| export.gate.is_open());
        let mut all = open();
        let only = all.next().filter(|_| name.is_empty() && all.next().is_none());
        only.or_else(|| open().find(|export| export.settings.name == name)).map(|export| export.offer())
    }

    fn nth(&self, at: usize) -> Option<Offer> {
        let state = self.table.lock();
        let mut open = state.exports.iter().filter(|export| export.gate.is_open());
        open.nth(at).map(|export| export.offer())
    }
}

impl Seated {
    /// Takes its place at an export, behind those that have one. `None` if that is gone, or everything ends.
    pub(super) fn choose(&self, cx: &Cx<'_>, name: &str) -> Option<(Arc<Export>, Predecessors)> {
        let state = self.table.lock();
        let export = state.exports.iter().find(|export| export.settings.name == name)?;
        if state.closing || self.seat.order() != Order::GoOn || !export.gate.is_open() {
            return None;
        }
        let predecessors = Predecessors::ask(self.seat.id, state.seats_of(export), cx);
        let _ = self.seat.export.set(Arc::clone(export)); // a client chooses once
        Some((Arc::clone(export), predecessors))
    }

    /// What is behind the gate of this export, for the reactor of `cx`; `None`: it is shut, or no lane runs there.
    pub(super) fn disk(&self, cx: &Cx<'_>, export: &Export) -> Option<Disk> {
        let door = export.gate.namespace()?.local(cx)?;
        Some(Disk::new(door, self.buffers().clone(), export.settings.on_loss))
    }

    /// The buffers of this connection.
    pub(super) fn buffers(&self) -> &BufPool {
        self.allowance.buffers()
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut state = self.table.lock();
        state.seats.remove(&self.seat.id);
        if let Some(export) = self.seat.export.get() {
            let counters = Counters { in_flight: 0, held: 0, held_since: None, ..self.seat.counters.get() };
            export.past.lock().unwrap_or_else(PoisonError::into_inner).add(&counters);
        }
        drop(state);
        self.seat.roll.tell_gone();
        self.table.changed.notify_all();
    }
}

#[derive(Default)]
struct State {
    exports: Vec<Arc<Export>>,
    seats: BTreeMap<u64, Arc<Seat>>,
    last: u64,
    closing: bool,
}

/// All of it.
pub(super) struct Table {
    state: Mutex<State>,
    changed: Condvar,
    memory: NbdMemory,
}

impl Table {
    pub(super) fn new(memory: NbdMemory) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), memory }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection; `None` if there are too many, too much is held, or everything ends.
    pub(super) fn seat(self: &Arc<Self>, pid: Option<i32>, since: Instant) -> Option<Seated> {
        let allowance = self.memory.admit(pid)?;
        let mut state = self.lock();
        if state.closing {
            return None;
        }
        state.last += 1;
        let seat = Arc::new(Seat {
            id: state.last,
            pid,
            since,
            waker: OnceLock::new(),
            order: AtomicU8::new(Order::GoOn as u8),
            export: OnceLock::new(),
            counters: Published::default(),
            roll: Roll::default(),
        });
        state.seats.insert(seat.id, Arc::clone(&seat));
        Some(Seated { table: Arc::clone(self), seat, allowance })
    }

    pub(super) fn add(&self, settings: ExportSettings) -> Result<(), ExportError> {
        if settings.name.len().max(settings.description.len()) > super::wire::STRING_MAX {
            return Err(ExportError::TooLong);
        }
        let mut state = self.lock();
        if state.exports.iter().any(|export| export.settings.name == settings.name) {
            return Err(ExportError::NameTaken { name: settings.name });
        }
        state.exports.push(Arc::new(Export::new(settings)));
        Ok(())
    }

    pub(super) fn reshape(&self, name: &str, shape: Shape) -> Result<(), ExportError> {
        let state = self.lock();
        let export = state.exports.iter().find(|export| export.settings.name == name);
        export.map(|export| export.reshape(shape)).ok_or_else(|| no_such(&state, name))
    }

    /// Opens an export to this namespace, or shuts it.
    pub(super) fn set_gate(&self, name: &str, namespace: Option<Namespace>) -> Result<(), ExportError> {
        let state = self.lock();
        let Some(export) = state.exports.iter().find(|export| export.settings.name == name) else {
            return Err(no_such(&state, name));
        };
        if let Some(namespace) = &namespace
            && namespace.shape().block_size != export.block_size()
        {
            return Err(ExportError::BlockSize {
                name: name.to_owned(),
                promised: export.block_size(),
                now: namespace.shape().block_size,
            });
        }
        if export.gate.set(namespace) {
            state.seats_of(export).for_each(|seat| seat.wake());
        }
        Ok(())
    }

    pub(super) fn remove(&self, name: &str, how: Stop, within: Duration) -> Result<(), ExportError> {
        let mut state = self.lock();
        let Some(at) = state.exports.iter().position(|export| export.settings.name == name) else {
            return Err(no_such(&state, name));
        };
        let mine: Vec<Arc<Seat>> = state.seats_of(&state.exports[at]).cloned().collect();
        if how == Stop::IfUnused && !mine.is_empty() {
            return Err(ExportError::InUse { name: name.to_owned(), connections: mine.len() });
        }
        state.exports.remove(at);
        drop(state);
        self.end(&mine, how, within)
    }

    /// Ends everything; nobody is seated afterwards.
    pub(super) fn close(&self, how: Stop, within: Duration) -> Result<(), ExportError> {
        let mut state = self.lock();
        if how == Stop::IfUnused {
            for export in &state.exports {
                let connections = state.seats_of(export).count();
                if connections > 0 {
                    return Err(ExportError::InUse { name: export.settings.name.clone(), connections });
                }
            }
        }
        state.closing = true;
        state.exports.clear();
        let all: Vec<Arc<Seat>> = state.seats.values().cloned().collect();
        drop(state);
        self.end(&all, how, within)
    }

    fn end(&self, seats: &[Arc<Seat>], how: Stop, within: Duration) -> Result<(), ExportError> {
        let order = if how == Stop::Force { Order::Drop } else { Order::Drain };
        for seat in seats {
            seat.tell(order);
        }
        let left = |state: &State| seats.iter().filter(|seat| state.seats.contains_key(&seat.id)).count();
        let waiting = self.changed.wait_timeout_while(self.lock(), within, |state| left(state) > 0);
        let (state, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        match left(&state) {
            0 => Ok(()),
            connections => Err(ExportError::NotEnded { connections, within }),
        }
    }

    pub(super) fn status(&self, socket: &Path) -> Vec<ExportStatus> {
        let state = self.lock();
        let status = |export: &Arc<Export>| {
            let mut counters = *export.past.lock().unwrap_or_else(PoisonError::into_inner);
            let connections: Vec<ConnectionStatus> = state
                .seats_of(export)
                .map(|seat| ConnectionStatus {
                    id: seat.id,
                    pid: seat.pid,
                    since: seat.since,
                    counters: seat.counters.get(),
                })
                .collect();
            connections.iter().for_each(|connection| counters.add(&connection.counters));
            let View { size, block, read_only } = export.view();
            let ExportSettings { name, namespace, on_loss, .. } = &export.settings;
            ExportStatus {
                name: name.clone(),
                socket: socket.to_owned(),
                subnqn: namespace.subnqn().to_owned(),
                nsid: namespace.nsid(),
                size,
                block_size: block,
                read_only,
                on_loss: *on_loss,
                open: export.gate.is_open(),
                counters,
                connections,
            }
        };
        state.exports.iter().map(status).collect()
    }
}

impl State {
    fn seats_of<'a>(&'a self, export: &'a Arc<Export>) -> impl Iterator<Item = &'a Arc<Seat>> {
        self.seats.values().filter(move |seat| seat.export.get().is_some_and(|of| Arc::ptr_eq(of, export)))
    }
}

fn no_such(state: &State, name: &str) -> ExportError {
    let known = state.exports.iter().map(|export| export.settings.name.clone()).collect();
    ExportError::NoSuchExport { name: name.to_owned(), known }
}

//! The numbers and structures of ublk's interface, and the memory that it shares.
//!
//! Names are those of the kernel's documentation ("Userspace block device driver (ublk driver)"). Structures are written
//! and read field by field, so that no layout is assumed.
#![allow(unsafe_code)]

use rustix::mm::{MapFlags, ProtFlags};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;

/// Bytes of a control command, and of an I/O command.
const CTRL_CMD_LEN: u32 = 32;
const IO_CMD_LEN: u32 = 16;

/// `_IOC` of the kernel: direction, size, type `u`, number.
const fn ioc(direction: u32, len: u32, number: u32) -> u32 {
    direction << 30 | len << 16 | (b'u' as u32) << 8 | number
}

const fn read(number: u32) -> u32 {
    ioc(2, CTRL_CMD_LEN, number)
}

const fn read_write(number: u32) -> u32 {
    ioc(3, CTRL_CMD_LEN, number)
}

pub(super) const GET_DEV_INFO: u32 = read(0x02);
pub(super) const ADD_DEV: u32 = read_write(0x04);
pub(super) const DEL_DEV: u32 = read_write(0x05);
pub(super) const START_DEV: u32 = read_write(0x06);
pub(super) const STOP_DEV: u32 = read_write(0x07);
pub(super) const SET_PARAMS: u32 = read_write(0x08);
pub(super) const START_USER_RECOVERY: u32 = read_write(0x10);
pub(super) const END_USER_RECOVERY: u32 = read_write(0x11);
pub(super) const GET_FEATURES: u32 = read(0x13);
pub(super) const DEL_DEV_ASYNC: u32 = read(0x14);
pub(super) const UPDATE_SIZE: u32 = read_write(0x15);
pub(super) const QUIESCE_DEV: u32 = read_write(0x16);
pub(super) const TRY_STOP_DEV: u32 = read_write(0x17);

pub(super) const FETCH_REQ: u32 = ioc(3, IO_CMD_LEN, 0x20);
pub(super) const COMMIT_AND_FETCH_REQ: u32 = ioc(3, IO_CMD_LEN, 0x21);

pub(super) const F_USER_RECOVERY: u64 = 1 << 3;
pub(super) const F_USER_RECOVERY_REISSUE: u64 = 1 << 4;
pub(super) const F_CMD_IOCTL_ENCODE: u64 = 1 << 6;
pub(super) const F_UPDATE_SIZE: u64 = 1 << 10;
pub(super) const F_QUIESCE: u64 = 1 << 12;
pub(super) const F_SAFE_STOP_DEV: u64 = 1 << 17;

/// Device states.
pub(super) const S_DEV_LIVE: u16 = 1;
pub(super) const S_DEV_QUIESCED: u16 = 2;

pub(super) const OP_READ: u8 = 0;
pub(super) const OP_WRITE: u8 = 1;
pub(super) const OP_FLUSH: u8 = 2;
pub(super) const OP_DISCARD: u8 = 3;
pub(super) const OP_WRITE_ZEROES: u8 = 5;
pub(super) const IO_F_FUA: u32 = 1 << 13;
pub(super) const IO_F_NOUNMAP: u32 = 1 << 15;

pub(super) const ATTR_READ_ONLY: u32 = 1;
pub(super) const ATTR_VOLATILE_CACHE: u32 = 1 << 2;
pub(super) const ATTR_FUA: u32 = 1 << 3;
pub(super) const PARAM_TYPE_BASIC: u32 = 1;
pub(super) const PARAM_TYPE_DISCARD: u32 = 1 << 1;

/// Bytes per sector, whatever the block size.
pub(super) const SECTOR: u64 = 512;

/// Bytes of one request's descriptor.
const DESC_LEN: usize = 24;

/// Descriptors of all queues lie at multiples of what a queue of the largest depth (4096) needs, in whole pages.
const QUEUE_STRIDE: u64 = (4096 * DESC_LEN as u64).next_multiple_of(PAGE as u64);

const PAGE: usize = 4096;

/// One request of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Desc {
    pub(super) op: u8,
    pub(super) flags: u32,
    pub(super) sectors: u32,
    pub(super) start: u64,
}

/// The requests of one queue, as the kernel writes them.
pub(super) struct Requests {
    at: *mut std::ffi::c_void,
    len: usize,
    depth: u16,
}

impl Requests {
    /// Maps those of queue `queue` of a character device.
    pub(super) fn map(device: BorrowedFd<'_>, queue: u16, depth: u16) -> io::Result<Self> {
        let len = (usize::from(depth) * DESC_LEN).next_multiple_of(PAGE);
        let offset = u64::from(queue) * QUEUE_STRIDE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this program.
        let at = unsafe { rustix::mm::mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, device, offset) }?;
        Ok(Self { at, len, depth })
    }

    /// The request of a tag whose fetch has completed, and that was not committed yet: the kernel does not write it then.
    pub(super) fn get(&self, tag: u16) -> Desc {
        assert!(tag < self.depth, "a tag of another queue");
        let at = self.at.cast::<u8>().wrapping_add(usize::from(tag) * DESC_LEN);
        // SAFETY: `tag < depth`, so that the 24 bytes lie in the mapping, which lives as long as `self`; descriptors are
        // 8-byte aligned. The kernel has written them before it completed the fetch that this thread has reaped.
        let (op_flags, sectors, start) = unsafe {
            let word = at.cast::<u32>();
            (word.read_volatile(), word.add(1).read_volatile(), word.add(2).cast::<u64>().read_volatile())
        };
        Desc { op: op_flags as u8, flags: op_flags & !0xff, sectors, start }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; nothing borrows from it.
        let _ = unsafe { rustix::mm::munmap(self.at, self.len) }; // fails only for what is no mapping
    }
}

//! Nothing but the cores, in a world without an operating system. See `Cargo.toml`.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use interlock_base as _;
use interlock_check as _;
use interlock_fence as _;
use interlock_host_core as _;
use interlock_proto as _;
use interlock_target_core as _;
use interlock_wire as _;

struct Nowhere;

// SAFETY: it never gives memory out, which an allocator may do; so there is nothing to give back either.
unsafe impl GlobalAlloc for Nowhere {
    unsafe fn alloc(&self, _layout: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _at: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static NOWHERE: Nowhere = Nowhere;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

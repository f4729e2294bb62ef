//! NVMe, Fabrics and TCP structures as typed bytes.
//!
//! Both roles of every exchange stand on the same definitions: what a host encodes is what a target decodes, and one
//! validator says for both of them what a PDU may look like. Nothing here keeps state, asks for the time or holds
//! payload; whatever a peer sends is either turned into a typed value or refused with the reason.
//!
//! - [`pdu`]: the PDUs of the TCP transport and their one validator.
//! - [`sqe`]: submission and completion queue entries, and the SGL forms that TCP knows.
//! - [`status`]: status codes with their names in words.
//! - [`fabrics`], [`property`]: Connect, Disconnect, and the properties that bring a controller up and down.
//! - [`admin`], [`identify`], [`log`], [`ana`], [`discovery`], [`ccr`]: what travels on an admin queue.
//! - [`nvm`]: the commands of the NVM command set.
//! - [`digest`]: CRC-32C. [`nqn`]: names of hosts and subsystems.
//!
//! # Example
//! A host asks for a cross-controller reset, and the target reads what it asks:
//!
//! ```
//! use interlock_wire::ccr::{CrossControllerReset, Instance};
//! use interlock_wire::{FromBytes, IntoBytes, sqe::Sqe, status::Status};
//!
//! let lost = Instance { cntlid: 7, ciu: 3, cirn: 0x1234_5678_9abc_def0 };
//! let sent = CrossControllerReset { impacted: lost }.to_sqe();
//! let bytes = sent.as_bytes(); // 64 bytes, as they are sent
//!
//! let received = Sqe::read_from_bytes(bytes).expect("a submission queue entry has 64 bytes");
//! assert_eq!(CrossControllerReset::from_sqe(&received)?.impacted, lost);
//!
//! // A command that names no instance is refused with the status that answers it.
//! let nameless = Sqe::new(interlock_wire::ccr::OPCODE);
//! assert_eq!(CrossControllerReset::from_sqe(&nameless), Err(Status::INVALID_FIELD.with_dnr()));
//! # Ok::<(), Status>(())
//! ```
//!
//! Sources: the NVM Express Base, NVM Command Set and TCP Transport Specifications; each item names its section.
#![no_std]

extern crate alloc;

/// Declares a structure of the wire: its size, and the offset of every field, are proven at compile time.
macro_rules! wire {
    (
        $(#[$meta:meta])*
        $svis:vis struct $name:ident [$size:literal] {
            $( $(#[$fmeta:meta])* $off:literal => $vis:vis $field:ident : $ty:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned,
        )]
        #[repr(C)]
        $svis struct $name { $( $(#[$fmeta])* $vis $field: $ty, )* }
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        $( const _: () = assert!(core::mem::offset_of!($name, $field) == $off); )*

        impl Default for $name {
            /// All zero.
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    };
}

pub mod admin;
pub mod ana;
pub mod ccr;
pub mod digest;
pub mod discovery;
pub mod fabrics;
pub mod identify;
pub mod log;
pub mod nqn;
pub mod nvm;
pub mod pdu;
pub mod property;
pub mod sqe;
pub mod status;

pub use zerocopy::{FromBytes, FromZeros, IntoBytes};

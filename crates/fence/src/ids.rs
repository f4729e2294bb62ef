//! Names for the things that a fence talks about. All are given by the host, never by a peer.

/// A name that prints with a prefix.
#[doc(hidden)]
#[macro_export]
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// One lane: one reactor's share of the data plane.
    LaneId(u16), "lane"
);
id!(
    /// One configured way to a subsystem: a port that is kept connected. Linux would print it as `nvmeN`.
    CtrlId(u32), "nvme"
);
id!(
    /// One life of one controller: from enable to reset. Never reused within a host.
    LifeId(u64), "life"
);
id!(
    /// One namespace as the application sees it, merged over its paths. Linux would print it as `nvmeXnY`.
    HeadId(u32), "head"
);

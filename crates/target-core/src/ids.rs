//! Names for the things that `Control` and its lanes talk about.

use core::fmt;

/// One reactor's share of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

/// One accepted connection. Unique per lane; the driver never uses a number twice on one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

/// A port of the target, with the number that Identify and the discovery log show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// A subsystem, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubsystemId(pub u16);

/// A namespace of the target: NSIDs are unique within one subsystem only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceKey {
    /// The subsystem.
    pub subsystem: SubsystemId,
    /// The namespace within it.
    pub nsid: u32,
}

/// A life, as the target counts them: 1, 2, 3 ... over all subsystems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LifeId(pub u64);

/// One enable-to-reset span of one controller. A fence is bound to exactly one of these (`fence_bound_to_one_life`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// The target's own number for it, never used twice.
    pub id: LifeId,
    /// The subsystem of the controller.
    pub subsystem: SubsystemId,
    /// Controller Identifier.
    pub cntlid: u16,
    /// Controller Instance Uniquifier, never 0.
    pub ciu: u8,
    /// Controller Instance Random Number, never 0.
    pub cirn: u64,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}/{:02x}/{:016x}", self.cntlid, self.ciu, self.cirn)
    }
}

/// One operation given to a namespace. Unique while it is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaId(pub u64);

//! What is recorded of the disks that a life serves, for a successor: either match protects, the subsystem or one identifier.

use alloc::vec::Vec;
use interlock_wire::identify::NamespaceIds;

/// Most disks that are recorded of one life; of what comes later only the subsystem is known.
pub(crate) const MAX_DISKS: usize = super::scan::MAX_NAMESPACES;

/// Adds what a life serves now to what was recorded of it. True if that is more than before.
pub(crate) fn note<'a>(recorded: &mut Vec<NamespaceIds>, found: impl Iterator<Item = &'a NamespaceIds>) -> bool {
    let before = recorded.len();
    for ids in found.filter(|ids| ids.is_known()) {
        if recorded.len() < MAX_DISKS && !recorded.contains(ids) {
            recorded.push(*ids);
        }
    }
    recorded.len() > before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(uuid: u8, nguid: u8) -> NamespaceIds {
        let id = |id: u8| (id != 0).then_some([id; 16]);
        NamespaceIds { uuid: id(uuid), nguid: id(nguid), ..NamespaceIds::default() }
    }

    #[test]
    fn what_a_life_serves_is_recorded_once() {
        let mut recorded = Vec::new();
        assert!(note(&mut recorded, [ids(7, 0), ids(0, 0), ids(7, 0)].iter()));
        assert!(!note(&mut recorded, [ids(7, 0)].iter()));
        assert!(note(&mut recorded, [ids(7, 8)].iter()), "it states more now");
        let many: Vec<_> = (0..2 * MAX_DISKS as u128)
            .map(|n| NamespaceIds { uuid: Some(n.to_be_bytes()), ..NamespaceIds::default() })
            .collect();
        note(&mut recorded, many.iter());
        assert_eq!(recorded.len(), MAX_DISKS);
    }
}

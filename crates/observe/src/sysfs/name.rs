//! What a name says: `nvme0` is a controller, `nvme0n1` a namespace, `nvme0c1n1` a path.

/// Numbers of a namespace device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Instance of the subsystem.
    pub(super) subsystem: u32,
    /// Instance of the namespace within it (not the NSID).
    pub(super) namespace: u32,
}

/// A block device of the nvme driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockName {
    /// `nvmeSnN`: a head, or without multipath the namespace itself.
    Head(Numbers),
    /// `nvmeScCnN`: a path.
    Path(Numbers),
}

impl BlockName {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (subsystem, rest) = number(name.strip_prefix("nvme")?)?;
        if let Some(rest) = rest.strip_prefix('n') {
            let (namespace, rest) = number(rest)?;
            return rest.is_empty().then_some(Self::Head(Numbers { subsystem, namespace }));
        }
        let (_, rest) = number(rest.strip_prefix('c')?)?;
        let (namespace, rest) = number(rest.strip_prefix('n')?)?;
        rest.is_empty().then_some(Self::Path(Numbers { subsystem, namespace }))
    }
}

pub(super) fn is_controller(name: &str) -> bool {
    name.strip_prefix("nvme").and_then(number).is_some_and(|(_, rest)| rest.is_empty())
}

/// True for what can be a device's name: one component of a path, and no way out of it.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_is_none() {
        let numbers = Numbers { subsystem: 0, namespace: 12 };
        assert_eq!(BlockName::parse("nvme0n12"), Some(BlockName::Head(numbers)));
        assert_eq!(BlockName::parse("nvme0c31n12"), Some(BlockName::Path(numbers)));
        for other in [
            "nvme0",
            "nvme0n1p1",
            "ng0n1",
            "nvme0c1",
            "nvme-subsys0",
            "nvmen1",
            "nvme0n",
            "hwmon0",
            "nvme99999999999n1",
        ] {
            assert_eq!(BlockName::parse(other), None, "{other}");
        }
        assert!(is_controller("nvme0") && is_controller("nvme127"));
        assert!(!is_controller("nvme") && !is_controller("nvme0n1") && !is_controller("nvme-subsys0"));
        assert!(is_plain("nvme-subsys0") && !is_plain("../x") && !is_plain("") && !is_plain("a/b") && !is_plain("."));
    }
}

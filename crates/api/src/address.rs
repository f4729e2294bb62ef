//! One address may be written in several ways: the form in which two of them can be compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address or name in its one form: an IP address as RFC 5952 writes it, without brackets, an IPv4 address that IPv6
/// carries as IPv4, a scope only where it means something (link-local), a name in lower case without its last dot.
///
/// Nothing is resolved: a name and the address that it leads to stay different.
#[must_use]
pub fn canonical_address(text: &str) -> String {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let (address, scope) = bare.split_once('%').map_or((bare, None), |(address, scope)| (address, Some(scope)));
    let ip = match address.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => match numbers_and_dots(bare) {
            Some(ip) => IpAddr::V4(ip),
            None => return bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase(),
        },
    };
    match (ip.to_canonical(), scope) {
        (IpAddr::V6(ip), Some(scope)) if is_link_local(&ip) => format!("{ip}%{scope}"),
        (ip, _) => ip.to_string(),
    }
}

/// True if both are the same address or name, however they are written.
#[must_use]
pub fn same_address(one: &str, other: &str) -> bool {
    canonical_address(one) == canonical_address(other)
}

/// A link-local address without its interface, and that; `None` for every other address or name. The text has its one form.
#[must_use]
pub fn link_local(canonical: &str) -> Option<(&str, Option<&str>)> {
    let (address, scope) =
        canonical.split_once('%').map_or((canonical, None), |(address, scope)| (address, Some(scope)));
    let ip: Ipv6Addr = address.parse().ok()?;
    is_link_local(&ip).then_some((address, scope))
}

const fn is_link_local(ip: &Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80 || ip.segments()[0] & 0xff0f == 0xff02
}

/// IPv4 in the short forms that `getaddrinfo` takes for an address: `127.1`, `0x7f.1`, `2130706433`.
fn numbers_and_dots(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last().filter(|(_, bytes)| bytes.len() <= 3)?;
    let room = 8 * (4 - u32::try_from(bytes.len()).ok()?);
    if *last >= 1 << room || bytes.iter().any(|byte| *byte > 255) {
        return None;
    }
    let high = bytes.iter().fold(0, |all, byte| all << 8 | byte);
    u32::try_from(high << room | last).ok().map(Ipv4Addr::from)
}

/// Decimal, octal after `0`, hexadecimal after `0x`.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    // A sign is no digit, though the parser would take it.
    digits.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| u64::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_form() {
        for (text, want) in [
            ("::1", "::1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("[::1]", "::1"),
            ("::1%lo", "::1"),
            ("FD00:0::5", "fd00::5"),
            ("::ffff:192.0.2.5", "192.0.2.5"),
            (" 192.0.2.5", "192.0.2.5"),
            ("127.1", "127.0.0.1"),
            ("0x7f.0.0.01", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("fe80:0::77%eth0", "fe80::77%eth0"),
            ("FE80::77", "fe80::77"),
            ("Array.Example.", "array.example"),
            ("256.1", "256.1"),
            ("1.2.3.4.5", "1.2.3.4.5"),
            ("+1.2", "+1.2"),
            ("", ""),
            ("10.example", "10.example"),
        ] {
            assert_eq!(canonical_address(text), want, "{text}");
            assert_eq!(canonical_address(want), want, "the form of the form");
        }
        assert!(!same_address("fe80::77%eth0", "fe80::77%eth1"));
        assert!(!same_address("192.0.2.5", "192.0.2.50"));
    }

    #[test]
    fn the_interface_of_a_link_local_address_is_a_part_of_it() {
        assert_eq!(link_local("fe80::1%eth0"), Some(("fe80::1", Some("eth0"))));
        assert_eq!(link_local("fe80::1"), Some(("fe80::1", None)));
        for other in ["fd00::1", "192.0.2.1", "fe80.example"] {
            assert_eq!(link_local(other), None, "{other}");
        }
        let asked = |traddr: &str, iface: Option<&str>| {
            let request = crate::ConnectRequest {
                host_iface: iface.map(str::to_owned),
                ..crate::ConnectRequest::new(traddr, 4420, "nqn.2014-08.org.example:x")
            };
            let request = request.canonical();
            (request.traddr, request.host_iface)
        };
        let one = ("fe80::1%eth0".to_owned(), None);
        assert_eq!(asked("fe80::1%eth0", None), one);
        assert_eq!(asked("FE80:0::1", Some("eth0")), one);
        assert_eq!(asked("[fe80::1%eth0]", Some("eth0")), one);
        assert_eq!(asked("fe80::1%eth0", Some("eth1")), ("fe80::1%eth0".into(), Some("eth1".into())), "it contradicts");
        assert_eq!(asked("192.0.2.1", Some("eth0")), ("192.0.2.1".into(), Some("eth0".into())));
    }
}

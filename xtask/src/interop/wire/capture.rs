//! What a capture shows: which bytes of which connection passed where, and when.
//!
//! A host's own log says what it believes. The packets say what was sent.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

/// One TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) at: u64,
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    /// Sequence number of the first byte of payload.
    pub(super) seq: u32,
    /// Bytes of payload.
    pub(super) len: u32,
    pub(super) syn: bool,
}

/// A connection, by its two ends; the host's is first.
pub(super) type Flow = (SocketAddrV4, SocketAddrV4);

/// All segments from one address, in the order of their capture.
#[derive(Clone, Debug, Default)]
pub(super) struct Capture(Vec<Segment>);

impl Capture {
    /// Reads a file of `interop/wire capture`: those sent from `host`.
    pub(super) fn read(file: &Path, host: &str) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        Self::parse(&bytes, host.parse()?)
    }

    fn parse(bytes: &[u8], host: Ipv4Addr) -> Result<Self> {
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        ensure!(bytes.len() >= 24 && word(bytes) == 0xa1b2_3c4d, "not a pcap file with nanoseconds");
        let (mut rest, mut segments) = (&bytes[24..], Vec::new());
        while rest.len() >= 16 {
            let at = u64::from(word(rest)) * 1_000_000_000 + u64::from(word(&rest[4..]));
            let kept = word(&rest[8..]) as usize;
            ensure!(rest.len() >= 16 + kept, "the last frame is cut off");
            segments.extend(segment(at, &rest[16..16 + kept]).filter(|segment| *segment.from.ip() == host));
            rest = &rest[16 + kept..];
        }
        Ok(Self(segments))
    }

    /// Segments with payload.
    pub(super) fn payload(&self) -> impl Iterator<Item = &Segment> {
        self.0.iter().filter(|segment| segment.len > 0)
    }

    /// When each connection began. One port of the host may be used again; not within the minutes of a case.
    pub(super) fn flows(&self) -> BTreeMap<Flow, u64> {
        let mut flows = BTreeMap::new();
        for segment in self.0.iter().filter(|segment| segment.syn) {
            flows.entry((segment.from, segment.to)).or_insert(segment.at);
        }
        flows
    }

    /// Connections that began before `at`.
    pub(super) fn flows_before(&self, at: u64) -> Vec<Flow> {
        self.flows().into_iter().filter(|(_, began)| *began < at).map(|(flow, _)| flow).collect()
    }

    /// Payload of these connections after `at`.
    pub(super) fn after<'a>(&'a self, flows: &'a [Flow], at: u64) -> impl Iterator<Item = &'a Segment> {
        self.payload().filter(move |segment| segment.at > at && flows.contains(&(segment.from, segment.to)))
    }

    /// What passed here at `at` or before.
    pub(super) fn carried(&self, at: u64) -> Carried {
        let mut flows: BTreeMap<Flow, (u32, Vec<(u32, u32)>)> = BTreeMap::new();
        for segment in self.0.iter().filter(|segment| segment.at <= at) {
            let flow = (segment.from, segment.to);
            if segment.syn {
                flows.insert(flow, (segment.seq, Vec::new()));
            } else if let Some((first, ranges)) = flows.get_mut(&flow).filter(|_| segment.len > 0) {
                let start = segment.seq.wrapping_sub(*first);
                ranges.push((start, start.saturating_add(segment.len)));
            }
        }
        for (_, ranges) in flows.values_mut() {
            ranges.sort_unstable();
            ranges.dedup_by(|next, merged| {
                let touches = next.0 <= merged.1;
                if touches {
                    merged.1 = merged.1.max(next.1);
                }
                touches
            });
        }
        Carried(flows)
    }
}

/// Which bytes of each connection passed a place: ranges that do not touch, counted from its first sequence number. A
/// connection carries less than 4 GiB here.
pub(super) struct Carried(BTreeMap<Flow, (u32, Vec<(u32, u32)>)>);

impl Carried {
    /// True if every byte of `segment` did.
    pub(super) fn has(&self, segment: &Segment) -> bool {
        let Some((first, ranges)) = self.0.get(&(segment.from, segment.to)) else { return false };
        let start = segment.seq.wrapping_sub(*first);
        let place = ranges.partition_point(|(from, _)| *from <= start);
        place > 0 && start.saturating_add(segment.len) <= ranges[place - 1].1
    }
}

/// The TCP segment in an Ethernet frame whose end may have been cut off.
fn segment(at: u64, frame: &[u8]) -> Option<Segment> {
    let ip = frame.get(14..).filter(|_| frame[12..14] == [0x08, 0x00])?;
    let header = usize::from(ip.first()? & 0x0f) * 4;
    let tcp = ip.get(header..header + 20).filter(|_| ip[9] == 6)?;
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    let whole = u32::from(u16::from_be_bytes([ip[2], ip[3]]));
    let headers = header as u32 + u32::from(tcp[12] >> 4) * 4;
    Some(Segment {
        at,
        from: SocketAddrV4::new(address(12), port(0)),
        to: SocketAddrV4::new(address(16), port(2)),
        seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        len: whole.checked_sub(headers)?,
        syn: tcp[13] & 0x02 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(from: u8, seq: u32, len: u16, syn: bool) -> Vec<u8> {
        let mut frame = vec![0; 14];
        frame[12] = 0x08;
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, from, 10, 0, 0, 9];
        ip[2..4].copy_from_slice(&(40 + len).to_be_bytes());
        frame.extend(ip);
        let mut tcp = [0; 20];
        tcp[..4].copy_from_slice(&[0x80, 0, 0x11, 0x44]);
        tcp[4..8].copy_from_slice(&seq.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp[13] = if syn { 0x02 } else { 0x10 };
        frame.extend(tcp);
        frame
    }

    fn capture(frames: &[(u64, Vec<u8>)]) -> Capture {
        let mut file = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
        file.resize(24, 0);
        for (at, frame) in frames {
            for word in [0, *at as u32, frame.len() as u32, frame.len() as u32] {
                file.extend(word.to_le_bytes());
            }
            file.extend(frame);
        }
        Capture::parse(&file, Ipv4Addr::new(10, 0, 0, 1)).unwrap()
    }

    #[test]
    fn only_segments_of_the_host_are_read_and_cut_payload_counts_whole() {
        let capture = capture(&[(1, frame(1, 5, 0, true)), (2, frame(1, 6, 1000, false)), (3, frame(9, 7, 10, false))]);
        let lens: Vec<u32> = capture.payload().map(|segment| segment.len).collect();
        assert_eq!(lens, [1000]);
        assert_eq!(capture.flows().into_values().collect::<Vec<_>>(), [1]);
        assert_eq!(capture.flows_before(1), []);
        let flows = capture.flows_before(2);
        assert_eq!(capture.after(&flows, 1).count(), 1);
        assert_eq!(capture.after(&flows, 2).count(), 0);
    }

    #[test]
    fn bytes_were_carried_only_if_all_of_them_passed_in_time() {
        let first = u32::MAX - 99;
        let at = |offset: u32| first.wrapping_add(offset);
        let capture = capture(&[
            (1, frame(1, first, 0, true)),
            (2, frame(1, at(1), 100, false)),
            (3, frame(1, at(151), 50, false)),
            (4, frame(1, at(101), 50, false)),
        ]);
        let all = Segment { len: 200, ..*capture.payload().next().unwrap() };
        assert!(!capture.carried(3).has(&all));
        let carried = capture.carried(4);
        assert!(carried.has(&all));
        assert!(carried.has(&Segment { seq: at(151), len: 50, ..all }));
        assert!(!carried.has(&Segment { len: 201, ..all }));
        assert!(!carried.has(&Segment { seq: first, ..all }));
        let other = Segment { from: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 1), ..all };
        assert!(!carried.has(&other));
    }

    #[test]
    fn a_file_that_is_no_capture_is_refused() {
        assert!(Capture::parse(&[0; 24], Ipv4Addr::LOCALHOST).is_err());
        assert!(Capture::parse(&[], Ipv4Addr::LOCALHOST).is_err());
    }
}

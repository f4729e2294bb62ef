//! A tapped conversation as a capture file that any dissector reads.
//!
//! No interface is opened and no privilege needed: the packets are made. Addresses are those of the rigs (a network for
//! documentation), sequence numbers and check sums are right, each connection begins with its three-way handshake.
//! Payload is cut into segments of at most [`MSS`] bytes, and every segment is acknowledged by the next one that goes
//! the other way, as on a quiet network.

use crate::rig::joint::{Line, Tapped};
use crate::rig::target;
use etherparse::PacketBuilder;
use interlock_base::Instant;
use interlock_wire::pdu::Direction;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Most bytes of one segment: what a jumbo frame carries, so that a capture stays readable.
pub const MSS: usize = 8948;

/// Link type Ethernet, of the file's header.
const ETHERNET: u32 = 1;

const HOST: [u8; 4] = [192, 0, 2, 100];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TARGET_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// One connection.
struct Conn {
    host_port: u16,
    port: u16,
    /// Next sequence numbers: of the host, of the target.
    next: [u32; 2],
}

/// Writes the conversation. Microsecond times, the classic format.
///
/// # Errors
/// Of the writer.
pub fn write(lines: &[Line], out: &mut impl Write) -> io::Result<()> {
    out.write_all(&0xA1B2_C3D4_u32.to_le_bytes())?;
    out.write_all(&2_u16.to_le_bytes())?;
    out.write_all(&4_u16.to_le_bytes())?;
    out.write_all(&[0; 8])?;
    out.write_all(&65_535_u32.to_le_bytes())?;
    out.write_all(&ETHERNET.to_le_bytes())?;
    let mut conns: BTreeMap<usize, Conn> = BTreeMap::new();
    for (at, number, what) in lines {
        match what {
            Tapped::Open(port) => {
                let host_port = 50_000 + u16::try_from(*number).unwrap_or(0);
                let mut conn = Conn { host_port, port: *port, next: [1000, 2000] };
                conn.packet(out, *at, Direction::ToController, Kind::Syn, &[])?;
                conn.packet(out, *at, Direction::ToHost, Kind::Syn, &[])?;
                conn.packet(out, *at, Direction::ToController, Kind::Data, &[])?;
                conns.insert(*number, conn);
            }
            Tapped::Bytes(dir, bytes) => {
                let Some(conn) = conns.get_mut(number) else { continue };
                for segment in bytes.chunks(MSS) {
                    conn.packet(out, *at, *dir, Kind::Data, segment)?;
                }
            }
            Tapped::End(dir, orderly) => {
                let Some(conn) = conns.get_mut(number) else { continue };
                conn.packet(out, *at, *dir, if *orderly { Kind::Fin } else { Kind::Rst }, &[])?;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Syn,
    Data,
    Fin,
    Rst,
}

impl Conn {
    fn packet(&mut self, out: &mut impl Write, at: Instant, dir: Direction, kind: Kind, data: &[u8]) -> io::Result<()> {
        let target = match target::address(self.port).ip() {
            std::net::IpAddr::V4(ip) => ip.octets(),
            std::net::IpAddr::V6(_) => unreachable!("the rigs' addresses are of version 4"),
        };
        let up = dir == Direction::ToController;
        let (mine, other) = (usize::from(!up), usize::from(up));
        let (seq, ack) = (self.next[mine], self.next[other]);
        let builder = if up {
            PacketBuilder::ethernet2(HOST_MAC, TARGET_MAC).ipv4(HOST, target, 64).tcp(
                self.host_port,
                self.port,
                seq,
                65_535,
            )
        } else {
            PacketBuilder::ethernet2(TARGET_MAC, HOST_MAC).ipv4(target, HOST, 64).tcp(
                self.port,
                self.host_port,
                seq,
                65_535,
            )
        };
        let builder = match kind {
            Kind::Syn => builder.syn(),
            Kind::Data if data.is_empty() => builder,
            Kind::Data => builder.psh(),
            Kind::Fin => builder.fin(),
            Kind::Rst => builder.rst(),
        };
        // Only the very first packet acknowledges nothing.
        let builder = if kind == Kind::Syn && up { builder } else { builder.ack(ack) };
        let mut packet = Vec::with_capacity(builder.size(data.len()));
        builder.write(&mut packet, data).map_err(io::Error::other)?;
        let counted = data.len() as u32 + u32::from(matches!(kind, Kind::Syn | Kind::Fin));
        self.next[mine] = seq.wrapping_add(counted);
        let micros = at.as_nanos() / 1000;
        let (seconds, micros) = ((micros / 1_000_000) as u32, (micros % 1_000_000) as u32);
        let len = packet.len() as u32;
        for field in [seconds, micros, len, len] {
            out.write_all(&field.to_le_bytes())?;
        }
        out.write_all(&packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    /// Each packet of a capture.
    fn packets(file: &[u8]) -> Vec<&[u8]> {
        let (mut at, mut all) = (24, Vec::new());
        while at < file.len() {
            let len = u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("4 bytes")) as usize;
            all.push(&file[at + 16..at + 16 + len]);
            at += 16 + len;
        }
        all
    }

    /// What a receiver would put together is what was said, in both directions, with every check sum right.
    #[test]
    fn a_capture_carries_every_byte_in_order() {
        for story in crate::golden::STORIES {
            let lines = story.tell();
            let mut file = Vec::new();
            write(&lines, &mut file).expect("memory takes everything");
            let mut heard: BTreeMap<(u16, bool), (u32, Vec<u8>)> = BTreeMap::new();
            for packet in packets(&file) {
                let sliced = SlicedPacket::from_ethernet(packet).expect("a packet");
                let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (sliced.net, sliced.transport) else {
                    panic!("{}: a packet that is not TCP", story.name);
                };
                assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
                let sum = tcp.to_header().calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()).expect("short");
                assert_eq!(tcp.checksum(), sum, "{}", story.name);
                let up = tcp.source_port() >= 50_000;
                let key = (if up { tcp.source_port() } else { tcp.destination_port() }, up);
                if tcp.syn() {
                    heard.insert(key, (tcp.sequence_number() + 1, Vec::new()));
                }
                let (next, bytes) = heard.get_mut(&key).expect("it began with SYN");
                if !tcp.syn() {
                    assert_eq!(tcp.sequence_number(), *next, "{}: no gap", story.name);
                    *next += tcp.payload().len() as u32 + u32::from(tcp.fin());
                    bytes.extend_from_slice(tcp.payload());
                }
            }
            let mut said: BTreeMap<(u16, bool), Vec<u8>> = BTreeMap::new();
            for (_, number, what) in &lines {
                if let Tapped::Bytes(dir, bytes) = what {
                    let key = (50_000 + *number as u16, *dir == Direction::ToController);
                    said.entry(key).or_default().extend_from_slice(bytes);
                }
            }
            for (key, bytes) in said {
                assert_eq!(heard[&key].1, bytes, "{}", story.name);
            }
        }
    }
}

//! What a peer can make the target hold, and for how long.

use crate::rig::*;
use interlock_target_core::{ConnId, Event, Fault, Loss, Payer, ToLane};
use interlock_wire::admin::GetLog;
use interlock_wire::fabrics::{Cc, Connect, ConnectAnswer};
use interlock_wire::log::{LID_CCR, LID_CHANGED_NAMESPACES, LID_ERROR, LID_FIRMWARE, LID_SMART};
use interlock_wire::nvm::{Command, DsmRange};
use interlock_wire::status::Status;

fn dropped(rig: &Rig, loss: Loss) -> usize {
    rig.events.iter().filter(|event| matches!(event, Event::Dropped { why, .. } if *why == loss)).count()
}

const fn write(slba: u64, nlb: u32) -> Command {
    Command::Write { slba, nlb, fua: false }
}

#[test]
fn a_connection_without_a_connect_has_so_long() {
    let mut config = config();
    config.limits.handshake_ms = 3000;
    let mut rig = Rig::new(config);
    let silent = rig.dial(A);
    let refused = rig.dial(A);
    let connect = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms: 0 };
    let host = Host::new(1);
    assert_ne!(rig.connect(refused, connect, &host.data("nqn.2026-01.test:other", 0xFFFF)).status(), Status::SUCCESS);
    let (living, _) = host.admin(&mut rig, A, SUBNQN);
    rig.advance(2999);
    assert!(rig.is_open(silent) && rig.is_open(refused));
    rig.advance(2);
    assert!(!rig.is_open(silent) && !rig.is_open(refused) && rig.is_open(living));
    assert_eq!((dropped(&rig, Loss::Handshake), rig.lanes[LANE_A].connections()), (2, 1));
}

#[test]
fn the_oldest_without_a_connect_makes_room() {
    let mut config = config();
    config.limits.half_open = 3;
    let mut rig = Rig::new(config);
    let a = Host::new(1).live(&mut rig, A);
    let silent: Vec<_> = (0..3).map(|_| rig.dial(A)).collect();
    // A host that means it gets in although the places are taken.
    let second = Host::new(2).live(&mut rig, A);
    assert!(!rig.is_open(silent[0]) && rig.is_open(silent[1]) && rig.is_open(silent[2]));
    assert_eq!(dropped(&rig, Loss::Crowded), 1);
    for path in [a, second] {
        assert_eq!(path.read(&mut rig, 0), 0);
    }
}

#[test]
fn connections_are_bounded() {
    let mut config = config();
    config.limits.connections = 5;
    let mut rig = Rig::new(config);
    let a = Host::new(1).live(&mut rig, A);
    let (silent, second) = (rig.dial(A), Host::new(2).admin(&mut rig, A, SUBNQN).0);
    let third = Host::new(3).admin(&mut rig, A, SUBNQN).0;
    assert!(!rig.is_open(silent) && rig.is_open(second) && rig.is_open(third), "who has no Connect makes room");
    let fourth = rig.dial(A);
    assert!(!rig.is_open(fourth), "nobody of this address can make room");
    assert!(rig.is_open(a.io) && rig.is_open(second) && rig.is_open(third));
    assert_eq!((dropped(&rig, Loss::Crowded), rig.lanes[LANE_A].connections()), (2, 4));
    rig.from = address(2);
    Host::new(4).admin(&mut rig, A, SUBNQN);
    rig.from = address(1);
    rig.hang_up(third);
    assert!(
        {
            let conn = rig.dial(A);
            !rig.is_open(conn)
        },
        "the last place is for others"
    );
    rig.hang_up(second);
    Host::new(3).admin(&mut rig, A, SUBNQN);
}

#[test]
fn who_has_most_without_a_connect_makes_room_for_others() {
    let mut config = config();
    config.limits.half_open = 4;
    let mut rig = Rig::new(config);
    let modest = rig.dial(A);
    rig.from = address(2);
    let many: Vec<_> = (0..20).map(|_| rig.dial(A)).collect();
    assert!(rig.is_open(modest), "the oldest of all, and not of those that are too many");
    assert_eq!(many.iter().filter(|conn| rig.is_open(**conn)).count(), 3);
    let refused: Vec<u64> = rig.lanes[LANE_A].payer_views().map(|view| view.refused).collect();
    assert_eq!(refused, [0, 17]);
}

#[test]
fn a_ghost_without_data_is_not_charged_to_who_came_after_it() {
    for zeroes in [
        Command::WriteZeroes { slba: 5, nlb: 4, deallocate: true, fua: false },
        Command::WriteZeroes { slba: 0, nlb: 64, deallocate: false, fua: false },
    ] {
        let mut rig = Rig::new(config());
        let lost = Host::new(1).live(&mut rig, A);
        rig.script(Fault::HoldWrites { port: A });
        rig.submit(lost.io, zeroes.to_sqe(1), &[], 0);
        rig.script(Fault::ResetConnections { port: A });
        // Nobody is there. The ghost goes to the media, and before it is done somebody else comes.
        rig.slow_media = true;
        rig.script(Fault::Release);
        for n in 2..4 {
            rig.from = address(n);
            rig.dial(A);
        }
        rig.slow_media = false;
        while rig.media_step() {}
        let views: Vec<_> = rig.lanes[LANE_A].payer_views().map(|view| (view.payer, view.connections)).collect();
        assert_eq!(views, [2, 3].map(|n| (Payer::at(address(n)), 1)), "each has its own account");
    }
}

#[test]
fn of_those_with_as_many_without_a_connect_the_oldest_makes_room() {
    let mut config = config();
    config.limits.half_open = 4;
    let mut rig = Rig::new(config);
    let mut from = |n| {
        rig.from = address(n);
        let conn = rig.dial(A);
        (rig.wires.keys().filter(|conn| rig.is_open(**conn)).copied().collect::<Vec<_>>(), conn)
    };
    let [(_, first), (_, second), (_, third), (_, newest)] = [1, 2, 3, 9].map(&mut from);
    let (open, fifth) = from(4);
    assert_eq!(open, [second, third, newest, fifth], "whose address is highest has had no time to connect");
    // Who has one already is not to end those of others.
    let (open, again) = from(4);
    assert_eq!(open, [second, third, newest, again]);
    assert!(first < second);
}

#[test]
fn who_has_its_share_ends_no_connect_of_others() {
    let mut config = config();
    config.limits.connections = 64;
    config.limits.memory = 64 << 20;
    let mut rig = Rig::new(config);
    let mut has = 0;
    loop {
        let conn = rig.dial(A);
        if !rig.is_open(conn) {
            break;
        }
        let connect = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms: 0 };
        assert_eq!(rig.connect(conn, connect, &Host::new(1).data(SUBNQN, 0xFFFF)).status(), Status::SUCCESS);
        has += 1;
    }
    rig.from = address(2);
    let modest = rig.dial(A);
    rig.from = address(1);
    for _ in 0..100 {
        let conn = rig.dial(A);
        assert!(!rig.is_open(conn), "it has its share: {has} of 64");
    }
    assert!(rig.is_open(modest), "of whoever has one connection, where the other one has {has}");
    // Who has less finds room.
    rig.from = address(2);
    Host::new(7).live(&mut rig, A);
    assert!(rig.is_open(modest));
}

/// A life that drains has its CNTLID, and a target may let lives drain for a minute.
#[test]
fn who_comes_and_goes_takes_no_place_of_others_with_lives_that_drain() {
    let mut config = config();
    config.limits.controllers = 8;
    config.subsystems[0].cqt_ms = 60_000;
    config.subsystems[0].quiesce_ms = 60_000;
    let mut rig = Rig::new(config);
    let mut busy = 0;
    for _ in 0..200 {
        let Some(conn) = all_controllers(&mut rig, &Host::new(1), 1).pop() else {
            busy += 1;
            continue;
        };
        set_cc(&mut rig, conn, Cc::new(false).with_enable(true));
        rig.hang_up(conn);
    }
    assert!(busy > 100 && rig.control.lives().count() < 64, "{} lives drain", rig.control.lives().count());
    rig.from = address(2);
    Host::new(2).live(&mut rig, A);
    // They end, and there is room again.
    rig.advance(60_000);
    rig.from = address(1);
    assert_eq!((rig.control.lives().count(), all_controllers(&mut rig, &Host::new(1), 1).len()), (1, 1));
}

/// Hosts come and go without end, and each makes what errors it can.
#[test]
fn a_target_does_not_grow_with_the_hosts_that_it_has_seen() {
    let mut rig = Rig::new(config());
    let mut size = |rounds: u32| {
        for n in 0..rounds {
            let host = 1 + (n % 190) as u8;
            rig.from = address(host);
            let a = Host::new(host).live(&mut rig, A);
            rig.ask(a.io, Command::Read { slba: BLOCKS, nlb: 1, fua: false }.to_sqe(1), &[], 512);
            rig.hang_up(a.io);
            rig.hang_up(a.admin);
            rig.advance(1000);
            rig.events.clear();
            rig.wires.retain(|_, wire| wire.open);
        }
        [format!("{:?}", rig.lanes[LANE_A]).len(), format!("{:?}", rig.control).len()]
    };
    // As many ended lives as are remembered, then some more.
    let (before, after) = (size(4200), size(400));
    assert!(after[0] < before[0] + 300 && after[1] < before[1] + before[1] / 50, "{before:?} {after:?}");
}

#[test]
fn zeros_that_a_host_asks_for_are_not_held() {
    for digests in [false, true] {
        let mut rig = Rig::new(config());
        rig.digests = digests;
        let a = Host::new(1).live(&mut rig, A);
        rig.largest_answer = 0;
        for lid in [LID_ERROR, LID_SMART, LID_FIRMWARE, LID_CHANGED_NAMESPACES, LID_CCR] {
            let page = log(&mut rig, a.admin, lid, 65_536);
            assert!(page[4096..].iter().all(|byte| *byte == 0));
            let (head, whole) = (log(&mut rig, a.admin, lid, 512), &page[..512]);
            assert_eq!(head, whole, "log {lid:#x} is the same in pieces of any length");
        }
        assert!(rig.largest_answer <= 4096, "{} bytes for pages of nothing", rig.largest_answer);
    }
}

/// Connects admin queues until there is no controller for one more; names the connections.
fn all_controllers(rig: &mut Rig, host: &Host, most: usize) -> Vec<ConnId> {
    let mut got = Vec::new();
    let connect = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms: host.kato_ms };
    while got.len() < most {
        let conn = rig.dial(A);
        let status = rig.connect(conn, connect, &host.data(SUBNQN, 0xFFFF)).status();
        if status != Status::SUCCESS {
            assert_eq!(status, Status::CONNECT_CONTROLLER_BUSY, "without DNR: it may try again");
            rig.hang_up(conn);
            break;
        }
        got.push(conn);
    }
    got
}

#[test]
fn one_address_cannot_have_all_controllers_whatever_it_calls_itself() {
    let mut config = config();
    config.limits.controllers = 20;
    let mut rig = Rig::new(config);
    let mut got = Vec::new();
    for name in 1..=20 {
        // The name of the host that comes later among them: it spends nothing of what that one has.
        got.extend(all_controllers(&mut rig, &Host::new(name), 1));
    }
    assert_eq!(got.len(), 16);
    rig.from = address(2);
    Host::new(1).live(&mut rig, A);
    rig.from = address(1);
    rig.hang_up(got[0]);
    assert_eq!(
        all_controllers(&mut rig, &Host::new(30), 20).len(),
        0,
        "the other one has a place now, and one was left to others"
    );
    rig.hang_up(got[1]);
    assert_eq!(all_controllers(&mut rig, &Host::new(30), 20).len(), 1);
}

#[test]
fn one_network_cannot_have_all_controllers_whatever_the_address() {
    let mut config = config();
    config.limits.controllers = 20;
    let mut rig = Rig::new(config);
    let mut got = 0;
    for n in 0..200 {
        rig.from = core::net::IpAddr::from([0x2001, 0xdb8, 7, n, 0, 0, 0, 1]);
        got += all_controllers(&mut rig, &Host::new(1 + n as u8 % 8), 1).len();
    }
    assert!((16..20).contains(&got), "{got} of 20");
    rig.from = address(9);
    assert_eq!(all_controllers(&mut rig, &Host::new(100), 1).len(), 1, "there is one for somebody else");
}

#[test]
fn who_keeps_nothing_alive_and_says_nothing_makes_room_for_another_address() {
    let mut config = config();
    config.limits.controllers = 20;
    config.limits.connections = 200;
    let mut rig = Rig::new(config);
    // They work, keep alive or fall silent; and no place is left.
    rig.from = address(10);
    let working = Host::new(1).live(&mut rig, A);
    rig.from = address(11);
    let keeps_alive = Host { kato_ms: 120_000, ..Host::new(2) }.live(&mut rig, A);
    let mut silent = Vec::new();
    for n in 12..100 {
        rig.from = address(n);
        let one = all_controllers(&mut rig, &Host::new(n), 1);
        if one.is_empty() {
            break;
        }
        for conn in &one {
            set_cc(&mut rig, *conn, Cc::new(false).with_enable(true));
        }
        silent.extend(one);
    }
    assert_eq!(silent.len(), 18);
    rig.advance(1999);
    working.read(&mut rig, 0);
    rig.advance(2);
    rig.from = address(200);
    let newcomer = all_controllers(&mut rig, &Host::new(200), 2);
    assert_eq!(newcomer.len(), 1, "one, and no more than others have");
    assert!(!rig.is_open(silent[0]), "the one that was silent for longest");
    assert!(silent[1..].iter().all(|conn| rig.is_open(*conn)) && rig.is_open(keeps_alive.admin));
    assert_eq!(working.read(&mut rig, 0), 0);
    rig.from = address(10);
    assert!(all_controllers(&mut rig, &Host::new(1), 1).is_empty(), "who has one takes nobody else's");
}

/// A lane does not answer, and hosts ask for health again and again.
#[test]
fn a_lane_is_asked_one_question_at_a_time() {
    let mut config = config();
    config.limits.connections = 200;
    let mut rig = Rig::new(config);
    let hosts: Vec<Path> = (1..=10).map(|n| Host::new(n).live(&mut rig, A)).collect();
    rig.cut_off.insert(LANE_B);
    let mut asked: Vec<(ConnId, u64)> = Vec::new();
    for host in &hosts {
        for n in 0..30 {
            let lid = if n % 2 == 0 { LID_SMART } else { LID_ERROR };
            asked.push((host.admin, rig.submit(host.admin, GetLog::new(lid, 512).to_sqe(), &[], 512)));
        }
    }
    let reports = |rig: &Rig| rig.to_lane[LANE_B].iter().filter(|mail| matches!(mail, ToLane::Report { .. })).count();
    assert_eq!(reports(&rig), 1);
    // Who goes takes along what it wanted to know.
    rig.hang_up(hosts[0].admin);
    assert!(asked[30..].iter().all(|(conn, token)| rig.answer(*conn, *token).is_none()), "a moment has not passed");
    rig.advance(100);
    assert!(asked[30..].iter().any(|(conn, token)| rig.answer(*conn, *token).is_none()), "few are answered at once");
    rig.advance(10);
    for host in &hosts[1..] {
        // All were answered: there is room for as many once more.
        for _ in 0..30 {
            rig.submit(host.admin, GetLog::new(LID_SMART, 512).to_sqe(), &[], 512);
        }
    }
    assert_eq!(reports(&rig), 1, "it has not answered the first one");
    // It answers, and one more question serves all who asked since.
    rig.cut_off.clear();
    let before = rig.now;
    rig.run();
    rig.advance(10);
    assert!(rig.now.since(before).as_millis() < 100);
    let page = log(&mut rig, hosts[1].admin, LID_SMART, 512);
    assert_eq!(page.len(), 512);
}

/// Whoever owns a network has thousands of addresses, and each of them has nothing yet.
#[test]
fn one_network_does_not_displace_the_silent_one_by_one() {
    for hosts_of_the_network in [1, 0] {
        let mut config = config();
        config.limits.controllers = 20;
        config.limits.connections = 200;
        let mut rig = Rig::new(config);
        let enable = |rig: &mut Rig, from: core::net::IpAddr, name: u8| {
            rig.from = from;
            let one = all_controllers(rig, &Host::new(name), 1).pop();
            if let Some(conn) = one {
                set_cc(rig, conn, Cc::new(false).with_enable(true));
            }
            one
        };
        let at = |n: u16| core::net::IpAddr::from([0x2001, 0xdb8, 7, n, 0, 0, 0, 1]);
        for n in 0..hosts_of_the_network {
            assert!(enable(&mut rig, at(1000 + n), 99).is_some());
        }
        let silent: Vec<_> = (12..100).map_while(|n| enable(&mut rig, address(n), n)).collect();
        rig.advance(3000);
        for n in 0..30 {
            enable(&mut rig, at(n), 1 + n as u8 % 8);
            rig.advance(3000);
        }
        let ended = silent.iter().filter(|conn| !rig.is_open(**conn)).count();
        assert_eq!(ended, 1 - usize::from(hosts_of_the_network), "one, as each of the others has");
        assert!(enable(&mut rig, address(200), 200).is_some(), "somebody else finds a place as before");
    }
}

#[test]
fn one_connection_cannot_have_all_buffers() {
    let mut config = config();
    config.limits.buffered_per_connection = 2 * 65_536;
    let mut rig = Rig::new(config);
    let (greedy, good) = (Host::new(1).live(&mut rig, A), Host::new(2).live(&mut rig, A));
    // Many large reads whose data is not taken.
    rig.wires.get_mut(&greedy.io).unwrap().deaf = true;
    let read = Command::Read { slba: 0, nlb: 64, fua: false };
    let tokens: Vec<u64> = (0..8).map(|_| rig.submit(greedy.io, read.to_sqe(1), &[], 32_768)).collect();
    assert_eq!(rig.buffers(), 4, "its share: four of 32 KiB");
    for n in 0..8 {
        let token = rig.submit(good.io, write(n * 64, 64).to_sqe(1), &[2; 32_768], 0);
        assert_eq!(rig.answer(good.io, token).expect("at once").0.status(), Status::SUCCESS);
    }
    assert_eq!(rig.buffers(), 4);
    // It is taken after all: what waited is served.
    rig.wires.get_mut(&greedy.io).unwrap().deaf = false;
    rig.run();
    assert!(tokens.into_iter().all(|token| rig.answer(greedy.io, token).is_some()));
    assert_eq!((rig.buffers(), rig.lanes[LANE_A].buffered()), (0, 0));
}

/// Writes of 32 KiB whose data is asked for, then some that bring their data, before the host reads the first request: what it
/// sends for the first ones lies behind the last one.
fn writes_before_some_that_bring_their_data(rig: &mut Rig, host: &Path, many: usize) -> Vec<u64> {
    rig.wires.get_mut(&host.io).unwrap().deaf = true;
    let mut tokens: Vec<u64> =
        (0..many).map(|_| rig.submit(host.io, write(0, 64).to_sqe(1), &[1; 32_768], 0)).collect();
    tokens.push(host.write(rig, 100, 2));
    tokens.push(host.write(rig, 101, 3));
    let ranges = DsmRange::encode(&[DsmRange::new(900, 8)]);
    tokens.push(rig.submit(host.io, Command::Dsm { ranges: 1, deallocate: true }.to_sqe(1), &ranges, 0));
    rig.wires.get_mut(&host.io).unwrap().deaf = false;
    tokens
}

type Change = fn(&mut interlock_target_core::Config);

#[test]
fn a_command_that_brings_its_data_does_not_wait_for_what_lies_behind_it() {
    let connection: Change = |config| config.limits.buffered_per_connection = 131_072;
    let payer: Change = |config| config.limits.memory = 1 << 20;
    // Its connection has what it may have; others wait as well; its payer has its share.
    for (many, change) in [(4, connection), (27, connection), (27, payer)] {
        for stock in [0, 64 << 10] {
            let mut config = config();
            config.limits.stock = stock;
            change(&mut config);
            let mut rig = Rig::new(config);
            let a = Host::new(1).live(&mut rig, A);
            let before = rig.lanes[LANE_A].held();
            for round in 0..3 {
                let tokens = writes_before_some_that_bring_their_data(&mut rig, &a, many);
                rig.run();
                for token in tokens {
                    let (cqe, _) = rig.answer(a.io, token).unwrap_or_else(|| panic!("{many} of round {round}"));
                    assert_eq!(cqe.status(), Status::SUCCESS);
                }
                let lane = &rig.lanes[LANE_A];
                assert_eq!((lane.held(), lane.buffered(), rig.buffers()), (before, 0, 0), "everything is given back");
            }
        }
    }
}

/// Of what a connection has set aside a command may have some when the connection ends.
#[test]
fn what_a_connection_has_set_aside_goes_with_it() {
    for slow_media in [false, true] {
        let mut config = config();
        config.limits.buffered_per_connection = 131_072;
        let mut rig = Rig::new(config);
        let a = Host::new(1).live(&mut rig, A);
        rig.slow_media = slow_media;
        rig.wires.get_mut(&a.io).unwrap().sends = Some(4 * CAPSULE + CAPSULE + 512 + CAPSULE + 100);
        writes_before_some_that_bring_their_data(&mut rig, &a, 4);
        rig.run();
        rig.hang_up(a.io);
        rig.hang_up(a.admin);
        rig.slow_media = false;
        rig.run();
        rig.advance(10_000);
        let lane = &rig.lanes[LANE_A];
        assert_eq!((lane.held(), rig.buffers(), lane.payer_views().count()), (0, 0, 0), "slow media: {slow_media}");
    }
}

#[test]
fn what_a_connection_has_set_aside_goes_with_it_also_by_a_breach_of_the_protocol() {
    for slow_media in [false, true] {
        let mut config = config();
        config.limits.buffered_per_connection = 131_072;
        let mut rig = Rig::new(config);
        let a = Host::new(1).live(&mut rig, A);
        rig.wires.get_mut(&a.io).unwrap().deaf = true;
        for _ in 0..4 {
            rig.submit(a.io, write(0, 64).to_sqe(1), &[1; 32_768], 0);
        }
        rig.slow_media = slow_media;
        a.write(&mut rig, 100, 2);
        rig.inject(a.io, &[0xFF; 8]);
        assert!(!rig.is_open(a.io));
        rig.slow_media = false;
        rig.run();
        rig.hang_up(a.admin);
        rig.advance(10_000);
        let lane = &rig.lanes[LANE_A];
        assert_eq!((lane.held(), rig.buffers(), lane.payer_views().count()), (0, 0, 0), "slow media: {slow_media}");
    }
}

/// The media is slow, and what a host was asked for lies behind a command that waits for it: the host has done what it could.
#[test]
fn a_host_whose_data_lies_behind_what_waits_here_is_not_given_up() {
    let mut config = config();
    config.limits.buffered_per_connection = 131_072;
    let mut rig = Rig::new(config);
    let a = Host::new(1).live(&mut rig, A);
    rig.slow_media = true;
    let mut tokens = writes_before_some_that_bring_their_data(&mut rig, &a, 4);
    rig.run();
    tokens.extend((102..106).map(|slba| a.write(&mut rig, slba, 4)));
    rig.advance(200_000);
    assert!(rig.is_open(a.io));
    rig.slow_media = false;
    rig.run();
    assert!(tokens.into_iter().all(|token| rig.answer(a.io, token).is_some()));
}

#[test]
fn those_who_wait_for_the_lanes_buffers_take_turns() {
    let mut config = config();
    config.limits.memory = 1 << 20;
    let mut rig = Rig::new(config);
    let (a, b) = (Host::new(1).live(&mut rig, A), Host::new(2).live(&mut rig, A));
    rig.slow_media = true;
    let read = Command::Read { slba: 0, nlb: 128, fua: false };
    let many: Vec<u64> = (0..24).map(|_| rig.submit(a.io, read.to_sqe(1), &[], 65_536)).collect();
    let ahead = rig.media.len();
    assert!(ahead < 24, "some wait");
    let one = rig.submit(b.io, read.to_sqe(1), &[], 65_536);
    let mut steps = 0;
    while rig.answer(b.io, one).is_none() {
        assert!(rig.media_step(), "there is something to do");
        rig.run();
        steps += 1;
    }
    assert!(steps <= ahead + 3, "one command waited behind {steps} of another host, of which {ahead} had begun");
    rig.slow_media = false;
    rig.run();
    assert!(many.into_iter().all(|token| rig.answer(a.io, token).is_some()));
    assert_eq!(rig.lanes[LANE_A].buffered(), 0);
}

#[test]
fn a_peer_that_neither_sends_nor_takes_data_is_given_up() {
    for deaf in [false, true] {
        let mut rig = Rig::new(config());
        let (stuck, good) = (Host::new(1).live(&mut rig, A), Host::new(2).live(&mut rig, A));
        let wire = rig.wires.get_mut(&stuck.io).unwrap();
        if deaf {
            wire.deaf = true;
            rig.submit(stuck.io, Command::Read { slba: 0, nlb: 64, fua: false }.to_sqe(1), &[], 32_768);
        } else {
            wire.sends = Some(CAPSULE + 100);
            rig.submit(stuck.io, write(0, 64).to_sqe(1), &[1; 32_768], 0);
        }
        assert_eq!(rig.buffers(), 1, "deaf: {deaf}");
        rig.advance(29_999);
        assert!(rig.is_open(stuck.io), "deaf: {deaf}");
        assert_eq!(good.read(&mut rig, 0), 0);
        rig.advance(30_002);
        assert!(!rig.is_open(stuck.io) && rig.is_open(good.io), "deaf: {deaf}");
        let lost = |event: &Event| matches!(event, Event::Lost { why: Loss::Stalled, .. });
        assert_eq!(rig.events.iter().filter(|event| lost(event)).count(), 1, "deaf: {deaf}");
        assert_eq!(rig.buffers(), 0, "deaf: {deaf}");
    }
}

#[test]
fn a_slow_peer_and_a_slow_disk_are_not_given_up() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    a.aer(&mut rig);
    // A byte now and then, but each command ends in time.
    for n in 0..4 {
        rig.wires.get_mut(&a.io).unwrap().sends = Some(CAPSULE + 100);
        let token = rig.submit(a.io, write(n * 64, 64).to_sqe(1), &[1; 32_768], 0);
        rig.advance(25_000);
        rig.wires.get_mut(&a.io).unwrap().sends = None;
        rig.run();
        assert!(rig.answer(a.io, token).is_some(), "round {n}");
    }
    rig.slow_media = true;
    let token = rig.submit(a.io, Command::Flush.to_sqe(1), &[], 0);
    rig.advance(600_000);
    rig.slow_media = false;
    rig.run();
    assert!(rig.answer(a.io, token).is_some());
    // A connection that has nothing to do is watched no more.
    rig.advance(600_000);
    assert!(rig.is_open(a.io) && rig.is_open(a.admin));
    assert_eq!(dropped(&rig, Loss::Stalled), 0);
}

#[test]
fn many_queues_of_one_host_do_not_keep_another_from_the_media() {
    let mut config = config();
    config.limits.max_transfer = 1 << 20;
    config.limits.memory = 512 << 20;
    let mut rig = Rig::new(config);
    let greedy = Host::new(1).live(&mut rig, A);
    let queues: Vec<ConnId> = (2..=9).map(|qid| Host::new(1).queue(&mut rig, A, greedy.cntlid, qid)).collect();
    rig.slow_media = true;
    let read = Command::Read { slba: 0, nlb: 512, fua: false };
    for conn in queues.iter().chain([&greedy.io]) {
        for _ in 0..31 {
            rig.submit(*conn, read.to_sqe(1), &[], 262_144);
        }
    }
    assert!(rig.lanes[LANE_A].inside() > 250, "{} inside", rig.lanes[LANE_A].inside());
    let before = rig.media.len();
    assert!((64..110).contains(&before), "{before} at the media, of 32 MiB");
    rig.from = address(2);
    let modest = Host::new(2).live(&mut rig, A);
    let sent = rig.submit(modest.io, Command::Read { slba: 0, nlb: 8, fua: false }.to_sqe(1), &[], 4096);
    assert_eq!(rig.media.len(), before + 1, "it is among them at once");
    // Of both what is there is done: who has much waiting has not the next turn as well.
    for _ in 0..=before {
        rig.media_step();
        rig.run();
    }
    assert!(rig.answer(modest.io, sent).is_some());
    // A connection that ends takes along what has not begun.
    let inside = rig.lanes[LANE_A].inside();
    rig.hang_up(queues[7]);
    assert!(rig.lanes[LANE_A].inside() < inside);
    rig.slow_media = false;
    rig.run();
    assert_eq!((rig.lanes[LANE_A].inside(), rig.lanes[LANE_A].buffered(), rig.buffers()), (0, 0, 0));
}

/// A disk may have to write what a command of 72 bytes makes zero.
#[test]
fn commands_without_payload_have_their_turns_at_the_media_too() {
    let all = BLOCKS as u32;
    let zero = Command::WriteZeroes { slba: 0, nlb: all, deallocate: false, fua: false };
    let ranges = DsmRange::encode(&[DsmRange::new(0, all), DsmRange::new(0, all)]);
    for (command, data) in [(zero, vec![]), (Command::Dsm { ranges: 2, deallocate: true }, ranges)] {
        let mut rig = Rig::new(config());
        let greedy = Host::new(1).live(&mut rig, A);
        let queues: Vec<ConnId> = (2..=9).map(|qid| Host::new(1).queue(&mut rig, A, greedy.cntlid, qid)).collect();
        rig.slow_media = true;
        for conn in queues.iter().chain([&greedy.io]) {
            for _ in 0..31 {
                rig.submit(*conn, command.to_sqe(1), &data, 0);
            }
        }
        let before = rig.media.len();
        assert!((20..60).contains(&before), "{before} at the media, and each may be 1 MiB to write");
        rig.from = address(2);
        let modest = Host::new(2).live(&mut rig, A);
        modest.write(&mut rig, 3, 1);
        assert_eq!(rig.media.len(), before + 1, "it is among them at once");
        rig.slow_media = false;
        rig.run();
        assert_eq!(rig.lanes[LANE_A].inside(), 0);
    }
}

#[test]
fn a_life_that_ends_takes_along_what_waits_for_the_media() {
    let mut config = config();
    config.limits.max_transfer = 1 << 20;
    config.limits.memory = 512 << 20;
    let mut rig = Rig::new(config);
    let (a, b) = (Host::new(1).live(&mut rig, A), Host::new(1).live(&mut rig, B));
    let second = Host::new(1).queue(&mut rig, A, a.cntlid, 2);
    rig.slow_media = true;
    for n in 0..60 {
        let conn = if n % 2 == 0 { a.io } else { second };
        let sqe = Command::Write { slba: 0, nlb: 1024, fua: false }.to_sqe(1);
        rig.submit(conn, sqe, &[9; 524_288], 0);
    }
    let begun = rig.media.len();
    assert!(begun < 60);
    let ccr = b.ccr(&mut rig, a.instance);
    assert!(rig.answer(b.admin, ccr).is_none(), "some of it is at the media");
    while rig.media_step() {
        rig.run();
    }
    assert_eq!(rig.lanes[LANE_A].inside(), 0);
    let fenced = |event: &Event| matches!(event, Event::Fenced { .. });
    assert_eq!(rig.events.iter().filter(|event| fenced(event)).count(), 1);
}

/// Whatever hosts do that take what they can get, the bytes that they make a lane hold stay below the bound.
#[test]
fn what_peers_hold_is_bounded_whatever_they_do() {
    let mut config = config();
    config.limits.max_transfer = 1 << 20;
    config.limits.memory = 8 << 20;
    let most = config.limits.memory;
    let mut rig = Rig::new(config);
    let mut held = 0;
    let mut look = |rig: &Rig| {
        let now = rig.lanes[LANE_A].held();
        assert!(now <= most, "{now} of {most}");
        held = held.max(now);
    };
    rig.from = address(100);
    let good = Host::new(100).live(&mut rig, A);
    for n in 1..=25 {
        let good_write = rig.submit(good.io, write(8, 8).to_sqe(1), &[n; 4096], 0);
        assert_eq!(rig.answer(good.io, good_write).expect("at once").0.status(), Status::SUCCESS, "host {n}");
        rig.from = address(n % 5);
        // Log pages of a megabyte of nothing, in numbers, that nobody takes.
        let admin = rig.dial(A);
        if !rig.is_open(admin) {
            continue;
        }
        let connect = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms: 0 };
        let cqe = rig.connect(admin, connect, &Host::new(n).data(SUBNQN, 0xFFFF));
        look(&rig);
        if cqe.status() != Status::SUCCESS {
            continue;
        }
        let cntlid = ConnectAnswer::from_dw0(cqe.dw0.get()).cntlid;
        set_cc(&mut rig, admin, Cc::new(false).with_enable(true));
        rig.wires.get_mut(&admin).unwrap().deaf = true;
        for lid in [LID_ERROR, LID_SMART, LID_CCR, LID_FIRMWARE].into_iter().cycle().take(29) {
            rig.submit(admin, GetLog::new(lid, 1 << 20).to_sqe(), &[], 1 << 20);
            look(&rig);
        }
        // Reads of a megabyte that nobody takes, and writes whose data does not come.
        let conn = rig.dial(A);
        if !rig.is_open(conn) {
            continue;
        }
        let connect = Connect { qid: 1, sqsize: 31, sq_flow_control: false, kato_ms: 0 };
        if rig.connect(conn, connect, &Host::new(n).data(SUBNQN, cntlid)).status() != Status::SUCCESS {
            continue;
        }
        rig.wires.get_mut(&conn).unwrap().deaf = true;
        for k in 0..15 {
            rig.submit(conn, Command::Read { slba: 0, nlb: 1024, fua: false }.to_sqe(1), &[], 524_288);
            rig.wires.get_mut(&conn).unwrap().sends = (k == 14).then_some(CAPSULE);
            look(&rig);
        }
        rig.submit(conn, write(0, 64).to_sqe(1), &[1; 32_768], 0);
        look(&rig);
    }
    assert!(held > most * 3 / 4, "they did try: {held} of {most}");
    // Who takes nothing is given up, and then those that waited for its room and take nothing either.
    let rounds = (0..10).find(|_| {
        rig.advance(60_000);
        rig.lanes[LANE_A].buffered() == 0
    });
    assert!(rounds.is_some(), "{} bytes", rig.lanes[LANE_A].buffered());
    assert_eq!(good.read(&mut rig, 8), 25);
}

/// Lanes of whose memory many payers have nearly all, and a controller of one who has nothing of it.
fn nearly_full() -> (Rig, Path) {
    let mut config = config();
    (config.limits.memory, config.limits.buffered_per_connection) = (8 << 20, 8 << 20);
    let mut rig = Rig::new(config);
    let innocent = Host::new(1).live(&mut rig, A);
    let from = |n| {
        rig.from = address(n);
        Host::new(n).live(&mut rig, A)
    };
    let greedy: Vec<Path> = (2..30).map(from).collect();
    rig.slow_media = true;
    for path in greedy {
        for blocks in [[8; 15], [128; 15]].concat() {
            rig.submit(path.io, Command::Read { slba: 0, nlb: blocks, fua: false }.to_sqe(1), &[], blocks * 512);
        }
    }
    let left = rig.lanes[LANE_A].limits().memory - rig.lanes[LANE_A].held();
    assert!((64 << 10..448 << 10).contains(&left), "{left}");
    (rig, innocent)
}

#[test]
fn who_wants_little_is_not_ended_for_what_is_kept_until_its_buffer_comes() {
    let (mut rig, innocent) = nearly_full();
    // As a driver does it: the command comes, the rest of what was read is kept, then the buffer is given.
    rig.no_buffers = true;
    let token = rig.submit(innocent.io, write(0, 1).to_sqe(1), &[7; 512], 0);
    rig.lanes[LANE_A].handle_kept(innocent.io, 8192);
    rig.run();
    assert!(rig.is_open(innocent.io), "its buffer is on its way");
    rig.no_buffers = false;
    rig.run();
    rig.lanes[LANE_A].handle_kept(innocent.io, 0);
    rig.run();
    assert!(rig.is_open(innocent.io), "nothing of it is kept");
    while rig.media_step() {}
    rig.run();
    assert!(rig.answer(innocent.io, token).is_some());
    assert_eq!((dropped(&rig, Loss::Crowded), rig.lanes[LANE_A].refused()), (0, 0));
}

#[test]
fn what_is_kept_beyond_a_share_stays_only_while_a_buffer_is_on_its_way() {
    for more in [false, true] {
        let (mut rig, innocent) = nearly_full();
        rig.no_buffers = true;
        rig.submit(innocent.io, write(0, 1).to_sqe(1), &[7; 512], 0);
        rig.lanes[LANE_A].handle_kept(innocent.io, if more { 8192 } else { 4 << 20 });
        rig.run();
        assert_eq!(rig.is_open(innocent.io), more, "and only while there is room at all");
        if more {
            // Behind it came others, which find no room: nothing of them may be kept now.
            for slba in 1..31 {
                rig.submit(innocent.io, write(slba, 1).to_sqe(1), &[7; 512], 0);
            }
            rig.no_buffers = false;
            rig.run();
            assert!(!rig.is_open(innocent.io));
        }
        assert_eq!(rig.lanes[LANE_A].refused(), 1);
        assert!(rig.lanes[LANE_A].held() <= rig.lanes[LANE_A].limits().memory);
    }
}

//! Every option and its answer; every split of the stream; any bytes at all.

use super::handshake::{Agreed, Handshake, Offer, Offers, SAY_MAX, Standing};
use super::wire::*;
use proptest::prelude::*;

fn offer(name: &str) -> Offer {
    Offer {
        name: name.into(),
        description: format!("about {name}"),
        size: 1 << 30,
        read_only: false,
        block_min: 512,
        block_preferred: 4096,
        payload_max: 32 << 20,
    }
}

impl Offers for [Offer] {
    fn find(&self, name: &str) -> Option<Offer> {
        match self {
            [only] if name.is_empty() => Some(only.clone()),
            all => all.iter().find(|offer| offer.name == name).cloned(),
        }
    }

    fn nth(&self, at: usize) -> Option<Offer> {
        self.get(at).cloned()
    }
}

fn option(option: u32, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    [&IHAVEOPT.to_be_bytes()[..], &option.to_be_bytes(), &len.to_be_bytes(), data].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

fn go(name: &str, infos: &[u16]) -> Vec<u8> {
    let mut data = text(name);
    data.extend(u16::try_from(infos.len()).unwrap().to_be_bytes());
    infos.iter().for_each(|info| data.extend(info.to_be_bytes()));
    data
}

fn context(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = text(name);
    data.extend(u32::try_from(queries.len()).unwrap().to_be_bytes());
    queries.iter().for_each(|query| data.extend(text(query)));
    data
}

const FIXED: [u8; 4] = [0, 0, 0, 3];

/// Option, kind and data of every reply, without the greeting.
fn replies(out: &[u8]) -> Vec<(u32, u32, Vec<u8>)> {
    let mut at = 0;
    let mut replies = Vec::new();
    while at < out.len() {
        assert_eq!(be64(out, at), Some(OPT_REPLY));
        let len = be32(out, at + 16).unwrap() as usize;
        replies.push((be32(out, at + 8).unwrap(), be32(out, at + 12).unwrap(), out[at + 20..at + 20 + len].to_vec()));
        at += 20 + len;
    }
    replies
}

/// Plays a client's bytes; gives what was sent after the greeting, and how it stands.
fn play(offers: &[Offer], bytes: &[u8]) -> (Vec<u8>, Standing) {
    let mut handshake = Handshake::new();
    assert_eq!(handshake.take_output(), b"NBDMAGICIHAVEOPT\0\x03");
    handshake.handle_bytes(offers, bytes);
    (handshake.take_output(), handshake.standing().clone())
}

/// The kinds of the replies to one option after the flags, and structured replies if wanted.
fn kinds(structured: bool, number: u32, data: &[u8]) -> Vec<u32> {
    let first = if structured { option(OPT_STRUCTURED_REPLY, &[]) } else { Vec::new() };
    let (out, _) = play(&[offer("a"), offer("b")], &[&FIXED[..], &first, &option(number, data)].concat());
    replies(&out).iter().skip(usize::from(structured)).map(|(of, kind, _)| (assert_eq!(*of, number), *kind).1).collect()
}

#[test]
fn every_option_has_its_answer() {
    let deaf = [REP_ERR_INVALID];
    let cases: [(bool, u32, Vec<u8>, &[u32]); 20] = [
        (false, OPT_LIST, vec![], &[REP_SERVER, REP_SERVER, REP_ACK]),
        (false, OPT_LIST, vec![1], &deaf),
        (false, OPT_ABORT, vec![], &[REP_ACK]),
        (false, OPT_INFO, go("a", &[]), &[REP_INFO, REP_INFO, REP_ACK]),
        (
            false,
            OPT_GO,
            go("a", &[INFO_NAME, INFO_DESCRIPTION, 77]),
            &[REP_INFO, REP_INFO, REP_INFO, REP_INFO, REP_ACK],
        ),
        (false, OPT_GO, go("c", &[]), &[REP_ERR_UNKNOWN]),
        (false, OPT_GO, go("", &[]), &[REP_ERR_UNKNOWN]),
        (false, OPT_GO, text("a"), &deaf),
        (false, OPT_GO, [go("a", &[]), vec![0]].concat(), &deaf),
        (false, OPT_GO, vec![0xff; 6], &deaf),
        (false, OPT_GO, [text("\u{fffd}")[..4].to_vec(), vec![0xff, 0xff, 0xff, 0, 0]].concat(), &deaf),
        (false, OPT_STRUCTURED_REPLY, vec![], &[REP_ACK]),
        (false, OPT_STRUCTURED_REPLY, vec![0], &deaf),
        (false, OPT_SET_META_CONTEXT, context("a", &[BASE_ALLOCATION]), &deaf),
        (true, OPT_SET_META_CONTEXT, context("a", &[BASE_ALLOCATION, "x:y"]), &[REP_META_CONTEXT, REP_ACK]),
        (true, OPT_SET_META_CONTEXT, context("a", &["base:"]), &[REP_ACK]),
        (true, OPT_SET_META_CONTEXT, context("c", &[BASE_ALLOCATION]), &[REP_ERR_UNKNOWN]),
        (true, OPT_LIST_META_CONTEXT, context("a", &[]), &[REP_META_CONTEXT, REP_ACK]),
        (true, OPT_LIST_META_CONTEXT, [text("a"), vec![0xff; 4]].concat(), &deaf),
        (false, 5, vec![], &[REP_ERR_UNSUP]),
    ];
    for (structured, number, data, want) in cases {
        assert_eq!(kinds(structured, number, &data), want, "option {number} with {data:?}");
    }
}

#[test]
fn a_choice_carries_what_was_agreed_on() {
    let offers = [offer("a")];
    let agreed = |allocation, structured| Standing::Agreed(Agreed { name: "a".into(), structured, allocation });
    let structured = option(OPT_STRUCTURED_REPLY, &[]);
    let set = option(OPT_SET_META_CONTEXT, &context("a", &[BASE_ALLOCATION]));
    let go = option(OPT_GO, &go("", &[]));
    let play = |parts: &[&[u8]]| play(&offers, &[&FIXED[..], &parts.concat()].concat());
    assert_eq!(play(&[&go]).1, agreed(false, false));
    assert_eq!(play(&[&structured, &go]).1, agreed(false, true));
    assert_eq!(play(&[&structured, &set, &go]).1, agreed(true, true));
    let unset = option(OPT_SET_META_CONTEXT, &context("a", &[]));
    assert_eq!(play(&[&structured, &set, &unset, &go]).1, agreed(false, true), "the last word counts");
    // Transmission flags: "don't fragment" exists only with structured replies.
    let flags = |out: &[u8]| {
        let info = replies(out).into_iter().find(|(_, kind, data)| *kind == REP_INFO && data[..2] == [0, 0]);
        be16(&info.unwrap().2, 10).unwrap()
    };
    assert_eq!(flags(&play(&[&go]).0), 0b1001_0110_1101);
    assert_eq!(flags(&play(&[&structured, &go]).0), 0b1001_1110_1101);
}

/// 28 bytes ask for the names of all exports, again and again; they are said as they are taken.
#[test]
fn a_long_list_is_said_in_bounded_pieces() {
    let offers: Vec<Offer> = (0..4096).map(|n| offer(&format!("{n:0200}"))).collect();
    let mut handshake = Handshake::new();
    handshake.take_output();
    let lists = [&FIXED[..], &option(OPT_LIST, &[]).repeat(3), &option(OPT_ABORT, &[])].concat();
    let (mut at, mut said) = (0, Vec::new());
    while *handshake.standing() == Standing::Asking {
        let used = handshake.handle_bytes(&offers[..], &lists[at..]);
        at += used;
        if used == 0 {
            assert!(handshake.is_listing(), "no progress");
            handshake.list(&offers[..]);
        }
        let out = handshake.take_output();
        assert!(out.len() < SAY_MAX + 5000, "{} bytes at once", out.len());
        said.extend(out);
    }
    let kinds: Vec<u32> = replies(&said).iter().map(|(_, kind, _)| *kind).collect();
    let list = [vec![REP_SERVER; 4096], vec![REP_ACK]].concat();
    assert_eq!(kinds, [list.repeat(3), vec![REP_ACK]].concat());
}

#[test]
fn a_read_only_export_offers_no_change() {
    let frozen = [Offer { read_only: true, ..offer("a") }];
    let (out, _) = play(&frozen, &[&FIXED[..], &option(OPT_EXPORT_NAME, b"a")].concat());
    assert_eq!(out, [&(1_u64 << 30).to_be_bytes()[..], &0b1_0000_0111_u16.to_be_bytes()].concat());
}

#[test]
fn the_oldest_way_to_choose_gets_its_zeroes_unless_told_not_to() {
    let choice = option(OPT_EXPORT_NAME, b"a");
    let (out, standing) = play(&[offer("a")], &[&[0, 0, 0, 1][..], &choice].concat());
    assert_eq!(out.len(), 8 + 2 + 124);
    assert!(matches!(standing, Standing::Agreed(_)));
    assert_eq!(play(&[offer("a")], &[&FIXED[..], &choice].concat()).0.len(), 8 + 2);
}

#[test]
fn what_breaks_the_framing_ends_it() {
    let many = [&FIXED[..], &option(OPT_LIST, &[]).repeat(1025)].concat();
    let cases: [(&[u8], bool); 5] = [
        (&[0, 0, 0, 4], true),
        (&[&FIXED[..], &[0; 16]].concat(), true),
        (&[&FIXED[..], &IHAVEOPT.to_be_bytes(), &[0, 0, 0, 7, 0xff, 0, 0, 0]].concat(), true),
        (&many, true),
        (&many[..many.len() - 16], false),
    ];
    for (bytes, broken) in cases {
        let standing = play(&[], bytes).1;
        assert_eq!(matches!(standing, Standing::Broken(_)), broken, "{standing:?}");
    }
}

#[test]
fn too_long_an_option_is_read_past() {
    let long = option(OPT_GO, &vec![7; (64 << 10) + 1]);
    let (out, standing) = play(&[offer("a")], &[&FIXED[..], &long, &option(OPT_ABORT, &[])].concat());
    let kinds: Vec<u32> = replies(&out).into_iter().map(|(_, kind, _)| kind).collect();
    assert_eq!((kinds, standing), (vec![REP_ERR_TOO_BIG, REP_ACK], Standing::Goodbye));
}

#[test]
fn every_split_gives_the_same_answers_and_leaves_the_same_rest() {
    let bytes = [
        &FIXED[..],
        &option(OPT_LIST, &[]),
        &option(OPT_STRUCTURED_REPLY, &[]),
        &option(OPT_SET_META_CONTEXT, &context("a", &[BASE_ALLOCATION])),
        &option(OPT_GO, &go("a", &[INFO_BLOCK_SIZE])),
        b"transmission",
    ]
    .concat();
    let whole = play(&[offer("a")], &bytes);
    for step in 1..bytes.len() {
        let mut handshake = Handshake::new();
        handshake.take_output();
        let (mut out, mut at) = (Vec::new(), 0);
        while *handshake.standing() == Standing::Asking {
            let end = (at + step).min(bytes.len());
            at += handshake.handle_bytes(&[offer("a")][..], &bytes[at..end]);
            out.extend(handshake.take_output());
        }
        assert_eq!((out, handshake.standing().clone()), whole, "{step} bytes at a time");
        assert_eq!(&bytes[at..], b"transmission");
    }
}

proptest! {
    /// Anything at all: no panic, every byte used or the end reached, and no more said than a bounded answer per option.
    #[test]
    fn any_bytes_are_survived(parts in prop::collection::vec(part(), 0..12), step in 1_usize..64) {
        let bytes = parts.concat();
        let mut handshake = Handshake::new();
        let mut out = 0;
        for piece in bytes.chunks(step) {
            let used = handshake.handle_bytes(&[offer("a"), offer("b")][..], piece);
            out += handshake.take_output().len();
            prop_assert!(used == piece.len() || *handshake.standing() != Standing::Asking);
            if used < piece.len() {
                break;
            }
        }
        prop_assert!(out <= 18 + 512 * (parts.len() + 1) + bytes.len() * 20);
    }
}

/// Bytes that are nearly right.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(go("a", &[0, 3])),
        Just(context("a", &[BASE_ALLOCATION])),
        Just(text("a")),
    ];
    prop_oneof![
        Just(FIXED.to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        (0_u32..14, data).prop_map(|(number, data)| option(number, &data)),
    ]
}

//! Options and their answers.

use super::support::{Two, info, meta, option, string, talk, talk_with};
use crate::nbd::protocol::handshake::greeting;
use crate::nbd::protocol::meta::Context;
use crate::nbd::protocol::numbers::{opt, rep};

const CONTEXTS: [&str; 2] = ["base:allocation", "qemu:allocation-depth"];

#[test]
fn the_greeting_says_fixed_newstyle_without_zeroes() {
    assert_eq!(&greeting(), b"NBDMAGICIHAVEOPT\0\x03");
}

#[test]
fn go_tells_what_was_asked_for_and_ends_the_handshake() {
    let outcome = talk(&[info(opt::GO, "pg", &[1, 2, 3]), vec![7; 5]]);
    let answers = outcome.answers();
    let size_and_flags = [&[0, 0][..], &(1_u64 << 30).to_be_bytes(), &[0x0d, 0x6d]].concat();
    assert_eq!(answers[0], (opt::GO, rep::INFO, size_and_flags));
    assert_eq!(answers[1].2, b"\0\x01pg");
    assert_eq!(answers[2].2, b"\0\x02volume pg");
    assert_eq!(answers[3].2, b"\0\x03\0\0\0\x01\0\0\x10\0\x02\0\0\0");
    assert_eq!(answers[4], (opt::GO, rep::ACK, Vec::new()));
    assert_eq!(outcome.chosen.expect("an export").export, "pg");
    assert_eq!(outcome.rest, vec![7; 5]);
}

#[test]
fn info_tells_the_same_and_goes_on() {
    let outcome = talk(&[info(opt::INFO, "", &[]), info(opt::INFO, "pg@monday", &[])]);
    assert_eq!(outcome.kinds(), [rep::INFO, rep::ACK, rep::INFO, rep::ACK]);
    // Read-only: no FUA, trim, zeroes.
    assert_eq!(outcome.answers()[2].2[10..], [0x05, 0x07]);
    assert!(outcome.chosen.is_none() && !outcome.closed);
}

#[test]
fn the_flag_df_comes_with_structured_replies() {
    let outcome = talk(&[option(opt::STRUCTURED_REPLY, b""), info(opt::GO, "pg", &[])]);
    assert_eq!(outcome.answers()[1].2[10..], [0x0d, 0xed]);
    assert!(outcome.chosen.expect("an export").structured);
}

#[test]
fn an_unknown_export_is_told_so_whatever_its_name() {
    for name in ["nothing", "pg@tuesday", "PG", "../pg"] {
        let outcome = talk(&[info(opt::GO, name, &[]), info(opt::INFO, name, &[])]);
        assert_eq!(outcome.kinds(), [rep::ERR_UNKNOWN; 2], "{name}");
        assert!(!outcome.closed);
    }
}

#[test]
fn the_old_way_to_choose_has_an_answer_of_its_own() {
    let outcome = talk(&[option(opt::EXPORT_NAME, b"pg")]);
    assert_eq!(outcome.out.len(), 10);
    assert!(outcome.chosen.is_some());
    let padded = talk_with(&Two::default(), 1, &[option(opt::EXPORT_NAME, b"")]);
    assert_eq!(padded.out.len(), 134);
    let oldest = talk_with(&Two::default(), 0, &[option(opt::EXPORT_NAME, b"pg")]);
    assert!(oldest.chosen.is_some());
}

#[test]
fn an_unknown_name_in_the_old_way_closes_without_a_word() {
    for name in [&b"nothing"[..], b"\xff", &[b'n'; 5000]] {
        let outcome = talk(&[option(opt::EXPORT_NAME, name)]);
        assert!(outcome.closed && outcome.out.is_empty());
    }
}

#[test]
fn a_client_that_is_not_fixed_newstyle_can_only_choose() {
    let outcome = talk_with(&Two::default(), 2, &[option(opt::LIST, b"")]);
    assert!(outcome.closed && outcome.out.is_empty());
}

#[test]
fn unknown_flags_and_a_wrong_magic_close() {
    assert!(talk_with(&Two::default(), 4, &[]).closed);
    assert!(talk(&[b"IHAVEOPX\0\0\0\x03\0\0\0\0".to_vec()]).closed);
}

#[test]
fn exports_are_listed_unless_that_is_forbidden() {
    let outcome = talk(&[option(opt::LIST, b"")]);
    let answers = outcome.answers();
    assert_eq!(answers[0], (opt::LIST, rep::SERVER, string(b"pg")));
    assert_eq!(answers[1].2, string(b"pg@monday"));
    assert_eq!(answers[2].1, rep::ACK);
    assert_eq!(talk(&[option(opt::LIST, b"x")]).kinds(), [rep::ERR_INVALID]);
    let unlisted = Two { unlisted: true };
    let outcome = talk_with(&unlisted, 3, &[option(opt::LIST, b"")]);
    assert_eq!(outcome.kinds(), [rep::ERR_POLICY]);
}

#[test]
fn abort_is_acknowledged_and_closes() {
    let outcome = talk(&[option(opt::ABORT, b""), info(opt::GO, "pg", &[])]);
    assert_eq!(outcome.kinds(), [rep::ACK]);
    assert!(outcome.closed);
}

#[test]
fn tls_is_refused_by_policy_and_other_options_are_not_known() {
    let outcome = talk(&[
        option(opt::STARTTLS, b""),
        option(4, b""),
        option(11, b""),
        option(u32::MAX, &[1; 100]),
        info(opt::GO, "pg", &[]),
    ]);
    let unknown = [rep::ERR_UNSUP; 3];
    let expected = [&[rep::ERR_POLICY][..], &unknown, &[rep::INFO, rep::ACK]].concat();
    assert_eq!(outcome.kinds(), expected);
}

#[test]
fn data_of_64_kib_is_read_and_longer_data_goes_by() {
    let longest = talk(&[option(99, &vec![0; 65_536]), info(opt::GO, "pg", &[])]);
    assert_eq!(longest.kinds(), [rep::ERR_UNSUP, rep::INFO, rep::ACK]);
    let longer = talk(&[option(99, &vec![0; 65_537]), info(opt::GO, "pg", &[])]);
    assert_eq!(longer.kinds(), [rep::ERR_TOO_BIG, rep::INFO, rep::ACK]);
}

#[test]
fn malformed_data_is_invalid_and_the_handshake_goes_on() {
    let bad_infos = [
        b"".to_vec(),
        string(b"pg"),
        [string(b"pg"), vec![0, 1]].concat(),
        [string(b"pg"), vec![0, 0, 0]].concat(),
        [string(b"p\0g"), vec![0, 0]].concat(),
        [string(b"\xff"), vec![0, 0]].concat(),
        [vec![0xff; 4], b"pg".to_vec()].concat(),
    ];
    for data in bad_infos {
        let outcome = talk(&[option(opt::GO, &data), info(opt::GO, "pg", &[])]);
        assert_eq!(
            outcome.kinds(),
            [rep::ERR_INVALID, rep::INFO, rep::ACK],
            "{data:?}"
        );
    }
    let long = talk(&[info(opt::GO, &"n".repeat(4097), &[])]);
    assert_eq!(long.kinds(), [rep::ERR_TOO_BIG]);
    let structured = talk(&[option(opt::STRUCTURED_REPLY, b"x")]);
    assert_eq!(structured.kinds(), [rep::ERR_INVALID]);
}

#[test]
fn contexts_need_structured_replies() {
    for number in [opt::LIST_META_CONTEXT, opt::SET_META_CONTEXT] {
        assert_eq!(
            talk(&[meta(number, "pg", &CONTEXTS)]).kinds(),
            [rep::ERR_INVALID]
        );
    }
}

#[test]
fn contexts_are_listed_by_name_by_space_or_all() {
    let table: [(&[&str], &[&str]); 6] = [
        (&[], &CONTEXTS),
        (&["base:"], &CONTEXTS[..1]),
        (&["qemu:"], &CONTEXTS[1..]),
        (&["base:allocation"], &CONTEXTS[..1]),
        (&["base:alloc", "x:y", "", "qemu"], &[]),
        (&["qemu:allocation-depth", "base:"], &CONTEXTS),
    ];
    for (queries, names) in table {
        let asked = meta(opt::LIST_META_CONTEXT, "pg", queries);
        let outcome = talk(&[option(opt::STRUCTURED_REPLY, b""), asked]);
        let answers = outcome.answers();
        let listed: Vec<_> = answers[1..answers.len() - 1]
            .iter()
            .map(|(_, kind, data)| (*kind, data[..4].to_vec(), data[4..].to_vec()))
            .collect();
        let expected: Vec<_> = names
            .iter()
            .map(|name| (rep::META_CONTEXT, vec![0; 4], name.as_bytes().to_vec()))
            .collect();
        assert_eq!(listed, expected, "{queries:?}");
    }
}

#[test]
fn contexts_are_chosen_by_name_for_one_export_and_the_last_choice_counts() {
    let structured = || option(opt::STRUCTURED_REPLY, b"");
    let set = |name, queries: &[&str]| meta(opt::SET_META_CONTEXT, name, queries);
    let go = |name| info(opt::GO, name, &[]);
    let chosen = |options: &[Vec<u8>]| {
        let chosen = talk(options).chosen.expect("an export");
        chosen.contexts.iter().collect::<Vec<_>>()
    };
    let both = [Context::Allocation, Context::Depth];
    assert_eq!(
        chosen(&[structured(), set("pg", &CONTEXTS), go("pg")]),
        both
    );
    // The empty name is another name of the same export.
    assert_eq!(chosen(&[structured(), set("", &CONTEXTS), go("pg")]), both);
    assert_eq!(
        chosen(&[structured(), set("pg@monday", &CONTEXTS), go("pg")]),
        []
    );
    assert_eq!(
        chosen(&[structured(), set("pg", &["base:", "qemu:"]), go("pg")]),
        []
    );
    let again = [
        structured(),
        set("pg", &CONTEXTS),
        set("pg", &CONTEXTS[1..]),
        go("pg"),
    ];
    assert_eq!(chosen(&again), [Context::Depth]);
    let failed = [
        structured(),
        set("pg", &CONTEXTS),
        set("nothing", &CONTEXTS),
        go("pg"),
    ];
    assert_eq!(chosen(&failed), []);
    let answers = talk(&[structured(), set("pg", &CONTEXTS)]).answers();
    assert_eq!(answers[1].2, b"\0\0\0\x01base:allocation");
    assert_eq!(answers[2].2, b"\0\0\0\x02qemu:allocation-depth");
}

#[test]
fn it_waits_for_what_is_not_there_yet() {
    let whole = [
        vec![0, 0, 0, 3],
        option(opt::LIST, b""),
        info(opt::GO, "pg", &[3]),
    ]
    .concat();
    let expected = super::support::feed(&Two::default(), &whole).out;
    for cut in 0..whole.len() {
        let outcome = super::support::feed(&Two::default(), &whole[..cut]);
        assert!(outcome.chosen.is_none() && !outcome.closed);
        assert!(expected.starts_with(&outcome.out));
    }
}

//! Requests and replies.

use offshoot::{Extent, ExtentKind};

use crate::nbd::protocol::meta::Context;
use crate::nbd::protocol::numbers::{Errno, flag};
use crate::nbd::protocol::reply;
use crate::nbd::protocol::request::{Command, HEADER_LEN, PAYLOAD_LEN_MAX, Request, Terms};
use crate::nbd::protocol::status::{EXTENTS_MAX, Status};

const TERMS: Terms = Terms {
    size: 1 << 20,
    page_len: 4096,
    read_only: false,
    structured: true,
    has_contexts: true,
};

const COMMANDS: [Command; 8] = [
    Command::Read,
    Command::Write,
    Command::Disconnect,
    Command::Flush,
    Command::Trim,
    Command::Cache,
    Command::WriteZeroes,
    Command::BlockStatus,
];

fn request(command: Command, offset: u64, len: u32) -> Request {
    Request {
        flags: 0,
        command,
        cookie: 0x1122_3344_5566_7788,
        offset,
        len,
    }
}

fn refused(request: Request, terms: &Terms) -> Option<Errno> {
    request.check(terms).err().map(|(errno, _)| errno)
}

#[test]
fn a_request_reads_back_and_no_flipped_bit_of_its_magic_is_accepted() {
    for command in COMMANDS.into_iter().chain([Command::Unknown(0x1234)]) {
        let sent = Request {
            flags: flag::FUA,
            ..request(command, u64::MAX, u32::MAX)
        };
        let mut header = sent.encode();
        assert_eq!(Request::decode(&header), Some(sent));
        for bit in 0..32 {
            header[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Request::decode(&header), None);
            header[bit / 8] ^= 1 << (bit % 8);
        }
    }
    assert_eq!(request(Command::Flush, 0, 0).encode().len(), HEADER_LEN);
}

#[test]
fn only_a_write_has_a_payload() {
    for command in COMMANDS {
        let len = request(command, 0, 9).payload_len();
        assert_eq!(len, if command == Command::Write { 9 } else { 0 });
    }
}

#[test]
fn ranges_outside_the_export_are_refused_also_if_they_wrap() {
    let outside = [
        (1 << 20, 1),
        ((1 << 20) - 1, 2),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
        (1 << 63, 1),
    ];
    for (offset, len) in outside {
        for command in [
            Command::Read,
            Command::Trim,
            Command::Cache,
            Command::BlockStatus,
        ] {
            let len = if command == Command::Read {
                len.min(PAYLOAD_LEN_MAX)
            } else {
                len
            };
            assert_eq!(
                refused(request(command, offset, len), &TERMS),
                Some(Errno::Invalid)
            );
        }
        for command in [Command::Write, Command::WriteZeroes] {
            assert_eq!(
                refused(request(command, offset, len), &TERMS),
                Some(Errno::NoSpace)
            );
        }
    }
    for command in [
        Command::Read,
        Command::Write,
        Command::Trim,
        Command::WriteZeroes,
    ] {
        assert_eq!(refused(request(command, 0, 1 << 20), &TERMS), None);
        assert_eq!(refused(request(command, 1 << 20, 0), &TERMS), None);
    }
}

#[test]
fn every_flag_goes_with_its_commands_only() {
    let allowed = |command, flag| match command {
        _ if flag == flag::FUA => true,
        Command::Read => flag == flag::DF,
        Command::WriteZeroes => flag == flag::NO_HOLE || flag == flag::FAST_ZERO,
        Command::BlockStatus => flag == flag::REQ_ONE,
        _ => false,
    };
    for command in COMMANDS {
        let len = if command == Command::Flush { 0 } else { 4096 };
        for bit in 0..16 {
            let asked = Request {
                flags: 1 << bit,
                ..request(command, 0, len)
            };
            let errno = refused(asked, &TERMS);
            let expected = (!allowed(command, 1 << bit)).then_some(Errno::Invalid);
            assert_eq!(errno, expected, "{command:?} with bit {bit}");
        }
    }
}

#[test]
fn what_cannot_be_written_refuses_changes_only() {
    let terms = Terms {
        read_only: true,
        ..TERMS
    };
    for command in COMMANDS {
        let len = if command == Command::Flush { 0 } else { 1 };
        let expected = command.changes().then_some(Errno::Perm);
        assert_eq!(refused(request(command, 0, len), &terms), expected);
    }
}

#[test]
fn what_was_not_agreed_on_is_invalid() {
    let terms = Terms {
        structured: false,
        has_contexts: false,
        ..TERMS
    };
    let df = Request {
        flags: flag::DF,
        ..request(Command::Read, 0, 1)
    };
    assert_eq!(refused(df, &terms), Some(Errno::Invalid));
    assert_eq!(
        refused(request(Command::BlockStatus, 0, 1), &terms),
        Some(Errno::Invalid)
    );
    assert_eq!(
        refused(request(Command::BlockStatus, 0, 0), &TERMS),
        Some(Errno::Invalid)
    );
    assert_eq!(
        refused(request(Command::Unknown(8), 0, 1), &TERMS),
        Some(Errno::Invalid)
    );
    assert_eq!(
        refused(request(Command::Flush, 1, 0), &TERMS),
        Some(Errno::Invalid)
    );
    let large = Terms {
        size: u64::MAX,
        ..TERMS
    };
    assert_eq!(
        refused(request(Command::Read, 0, PAYLOAD_LEN_MAX), &large),
        None
    );
    assert_eq!(
        refused(request(Command::Read, 0, PAYLOAD_LEN_MAX + 1), &large),
        Some(Errno::Invalid)
    );
}

#[test]
fn fast_zeroes_are_whole_pages() {
    for (offset, len, fast) in [
        (0, 4096, true),
        (4096, 8192, true),
        (1, 4096, false),
        (0, 4095, false),
    ] {
        let asked = Request {
            flags: flag::FAST_ZERO,
            ..request(Command::WriteZeroes, offset, len)
        };
        let expected = (!fast).then_some(Errno::NotSupported);
        assert_eq!(refused(asked, &TERMS), expected);
    }
}

#[test]
fn replies_have_the_form_of_the_specification() {
    let simple = reply::simple(0x0102, Some(Errno::Io));
    assert_eq!(simple, *b"\x67\x44\x66\x98\0\0\0\x05\0\0\0\0\0\0\x01\x02");
    let data = reply::data_chunk(1, 2, 3, true);
    let expected = b"\x66\x8e\x33\xef\0\x01\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x0b\0\0\0\0\0\0\0\x02";
    assert_eq!(&data, expected);
    let mut hole = Vec::new();
    reply::hole_chunk(1, 2, 3, false, &mut hole);
    let expected =
        b"\x66\x8e\x33\xef\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\x0c\0\0\0\0\0\0\0\x02\0\0\0\x03";
    assert_eq!(hole, expected);
    let mut error = Vec::new();
    reply::error_chunk(1, Errno::NoSpace, "full", &mut error);
    let expected =
        b"\x66\x8e\x33\xef\0\x01\x80\x01\0\0\0\0\0\0\0\x01\0\0\0\x0a\0\0\0\x1c\0\x04full";
    assert_eq!(error, expected);
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let mut error = Vec::new();
    reply::error_chunk(1, Errno::Io, &"é".repeat(400), &mut error);
    let text = std::str::from_utf8(&error[26..]).expect("UTF-8");
    assert_eq!(text, "é".repeat(256));
    reply::error_chunk(1, Errno::Io, &format!("x{}", "é".repeat(400)), &mut error);
}

fn extent(len: u64, kind: ExtentKind, depth: u32) -> Extent {
    let mut extents = Extent {
        offset: 0,
        len,
        kind,
        depth,
    };
    extents.offset = 0;
    extents
}

#[test]
fn each_context_merges_what_is_equal_to_it() {
    let extents = [
        extent(1, ExtentKind::Data, 1),
        extent(2, ExtentKind::Data, 3),
        extent(4, ExtentKind::Zero, 3),
        extent(8, ExtentKind::Hole, 0),
    ];
    let status = |context| {
        let mut status = Status::new(context, EXTENTS_MAX);
        extents.iter().for_each(|extent| status.push(extent));
        status.extents
    };
    assert_eq!(status(Context::Allocation), [(3, 0), (4, 2), (8, 3)]);
    assert_eq!(status(Context::Depth), [(1, 1), (6, 3), (8, 0)]);
}

#[test]
fn status_stops_at_its_bound_and_takes_nothing_after_it() {
    let mut status = Status::new(Context::Depth, 2);
    for depth in [1, 2, 2, 3, 2] {
        status.push(&extent(1, ExtentKind::Data, depth));
    }
    assert!(status.is_full());
    assert_eq!(status.extents, [(1, 1), (2, 2)]);
}

//! A catalogue of two exports, what clients send, and what a server's answers say.

use crate::nbd::protocol::handshake::{Catalogue, Chosen, Handshake, Offer, Progress};

pub const MAGIC: u64 = 0x4948_4156_454f_5054;

/// `pg`, also under the empty name, and `pg@monday`, which is read-only.
#[derive(Default)]
pub struct Two {
    pub unlisted: bool,
}

impl Catalogue for Two {
    type Export = &'static str;

    fn list(&self) -> Option<Vec<String>> {
        let names = || vec!["pg".to_owned(), "pg@monday".to_owned()];
        (!self.unlisted).then(names)
    }

    fn find(&self, name: &str) -> Option<(&'static str, Offer)> {
        let (found, read_only) = match name {
            "" | "pg" => ("pg", false),
            "pg@monday" => ("pg@monday", true),
            _ => return None,
        };
        let offer = Offer {
            name: found.to_owned(),
            description: format!("volume {found}"),
            size: 1 << 30,
            page_len: 4096,
            read_only,
        };
        Some((found, offer))
    }
}

pub fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

pub fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend(text);
    bytes
}

pub fn info(number: u32, name: &str, wants: &[u16]) -> Vec<u8> {
    let mut data = string(name.as_bytes());
    data.extend((wants.len() as u16).to_be_bytes());
    data.extend(wants.iter().flat_map(|want| want.to_be_bytes()));
    option(number, &data)
}

pub fn meta(number: u32, name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = string(name.as_bytes());
    data.extend((queries.len() as u32).to_be_bytes());
    data.extend(queries.iter().flat_map(|query| string(query.as_bytes())));
    option(number, &data)
}

/// An answer to an option: the option, its kind, its data.
pub type Answer = (u32, u32, Vec<u8>);

/// How a handshake ended.
pub struct Outcome {
    pub out: Vec<u8>,
    pub chosen: Option<Chosen<&'static str>>,
    pub closed: bool,
    /// What it did not take.
    pub rest: Vec<u8>,
}

impl Outcome {
    /// The answers; panics if what came out is anything else.
    pub fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut left = self.out.as_slice();
        while !left.is_empty() {
            let number =
                |at: usize| u32::from_be_bytes(left[at..at + 4].try_into().expect("4 bytes"));
            assert_eq!(left[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes());
            let (option, kind, len) = (number(8), number(12), number(16) as usize);
            answers.push((option, kind, left[20..20 + len].to_vec()));
            left = &left[20 + len..];
        }
        answers
    }

    /// The kinds of the answers.
    pub fn kinds(&self) -> Vec<u32> {
        self.answers().iter().map(|(_, kind, _)| *kind).collect()
    }
}

/// A client with flags sends options.
pub fn talk_with(catalogue: &Two, flags: u32, options: &[Vec<u8>]) -> Outcome {
    let mut input = flags.to_be_bytes().to_vec();
    input.extend(options.concat());
    feed(catalogue, &input)
}

/// The same with what every client of today says.
pub fn talk(options: &[Vec<u8>]) -> Outcome {
    talk_with(&Two::default(), 3, options)
}

/// Gives a handshake all of the input.
pub fn feed(catalogue: &Two, input: &[u8]) -> Outcome {
    let mut handshake = Handshake::new(catalogue);
    let (mut out, mut at) = (Vec::new(), 0);
    let (mut chosen, mut closed) = (None, false);
    loop {
        let (taken, progress) = handshake.step(&input[at..], &mut out);
        at += taken;
        match progress {
            Progress::Open if taken > 0 => {}
            Progress::Open => break,
            Progress::Closed => closed = true,
            Progress::Chosen(what) => chosen = Some(what),
        }
        if closed || chosen.is_some() {
            break;
        }
    }
    Outcome {
        out,
        chosen,
        closed,
        rest: input[at..].to_vec(),
    }
}

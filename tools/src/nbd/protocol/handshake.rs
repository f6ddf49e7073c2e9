//! The handshake, from the greeting to the export that is chosen, as a machine without a socket.

use crate::nbd::protocol::meta::Contexts;
use crate::nbd::protocol::numbers::{
    NBD_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, handshake_flag, info, opt, rep, transmission,
};
use crate::nbd::protocol::option::{InfoOption, MetaOption, Wrong, export_name};
use crate::nbd::protocol::reader::Reader;
use crate::nbd::protocol::request::PAYLOAD_LEN_MAX;

/// Longest data of an option. What is longer is read past and refused.
const OPTION_LEN_MAX: u32 = 64 << 10;
const OPTION_HEADER_LEN: usize = 16;

/// What there is to choose from.
pub trait Catalogue {
    /// What stands for an export that was found.
    type Export;

    /// The names of all exports, unless that is told nobody.
    fn list(&self) -> Option<Vec<String>>;

    /// The export of that name.
    fn find(&self, name: &str) -> Option<(Self::Export, Offer)>;
}

/// What a client is told of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub name: String,
    pub description: String,
    pub size: u64,
    pub page_len: u32,
    pub read_only: bool,
}

/// An export that was chosen, and on what terms.
#[derive(Debug)]
pub struct Chosen<E> {
    pub export: E,
    pub offer: Offer,
    /// Replies are in chunks.
    pub structured: bool,
    pub contexts: Contexts,
}

/// Where the handshake is.
#[derive(Debug)]
pub enum Progress<E> {
    /// More bytes are needed, or taken.
    Open,
    /// An export is chosen: requests follow.
    Chosen(Chosen<E>),
    /// The connection ends here.
    Closed,
}

enum State {
    Flags,
    Option,
    /// The data of an option that is too long goes by.
    Skip {
        option: u32,
        left: u32,
    },
}

/// A handshake under way.
pub struct Handshake<'a, C> {
    catalogue: &'a C,
    state: State,
    fixed: bool,
    zeroes: bool,
    structured: bool,
    /// Contexts, and the export that they were chosen for.
    contexts: Option<(String, Contexts)>,
}

/// What the server says first.
pub fn greeting() -> [u8; 18] {
    let mut bytes = Vec::with_capacity(18);
    bytes.extend(NBD_MAGIC.to_be_bytes());
    bytes.extend(OPTION_MAGIC.to_be_bytes());
    let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
    bytes.extend(flags.to_be_bytes());
    bytes.try_into().expect("BUG: the greeting has this length")
}

impl<'a, C: Catalogue> Handshake<'a, C> {
    /// After the greeting.
    pub fn new(catalogue: &'a C) -> Self {
        Self {
            catalogue,
            state: State::Flags,
            fixed: false,
            zeroes: true,
            structured: false,
            contexts: None,
        }
    }

    /// Takes what it can of the input, at most one option; answers go to `out`. Says how many bytes it
    /// took: with none, and open, more are needed.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress<C::Export>) {
        match self.state {
            State::Flags => self.flags(input),
            State::Option => self.option(input, out),
            State::Skip { option, left } => {
                let taken = u32::try_from(input.len()).unwrap_or(u32::MAX).min(left);
                self.state = State::Skip {
                    option,
                    left: left - taken,
                };
                if taken == left {
                    answer(
                        option,
                        rep::ERR_TOO_BIG,
                        b"the option's data is too long",
                        out,
                    );
                    self.state = State::Option;
                }
                (taken as usize, Progress::Open)
            }
        }
    }

    fn flags(&mut self, input: &[u8]) -> (usize, Progress<C::Export>) {
        let Some(flags) = Reader::new(input).u32() else {
            return (0, Progress::Open);
        };
        let (fixed, no_zeroes) = (
            u32::from(handshake_flag::FIXED_NEWSTYLE),
            u32::from(handshake_flag::NO_ZEROES),
        );
        if flags & !(fixed | no_zeroes) != 0 {
            return (4, Progress::Closed);
        }
        self.fixed = flags & fixed != 0;
        self.zeroes = flags & no_zeroes == 0;
        self.state = State::Option;
        (4, Progress::Open)
    }

    fn option(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress<C::Export>) {
        let mut reader = Reader::new(input);
        let (Some(magic), Some(option), Some(len)) = (reader.u64(), reader.u32(), reader.u32())
        else {
            return (0, Progress::Open);
        };
        // An old client waits for no answers but the one to its choice.
        if magic != OPTION_MAGIC || (!self.fixed && option != opt::EXPORT_NAME) {
            return (OPTION_HEADER_LEN, Progress::Closed);
        }
        if len > OPTION_LEN_MAX {
            if option == opt::EXPORT_NAME {
                return (OPTION_HEADER_LEN, Progress::Closed);
            }
            self.state = State::Skip { option, left: len };
            return (OPTION_HEADER_LEN, Progress::Open);
        }
        let Some(data) = reader.bytes(len as usize) else {
            return (0, Progress::Open);
        };
        (
            OPTION_HEADER_LEN + data.len(),
            self.answer(option, data, out),
        )
    }

    fn answer(&mut self, option: u32, data: &[u8], out: &mut Vec<u8>) -> Progress<C::Export> {
        match option {
            opt::EXPORT_NAME => return self.export_name(data, out),
            opt::ABORT => {
                answer(option, rep::ACK, b"", out);
                return Progress::Closed;
            }
            opt::INFO | opt::GO => return self.info(option, data, out),
            opt::LIST => self.list(data, out),
            opt::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                answer(option, rep::ACK, b"", out);
            }
            opt::STRUCTURED_REPLY => refuse(option, Wrong::Malformed, out),
            opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => self.meta(option, data, out),
            opt::STARTTLS => answer(option, rep::ERR_POLICY, b"this server has no TLS", out),
            _ => answer(option, rep::ERR_UNSUP, b"", out),
        }
        Progress::Open
    }

    fn list(&self, data: &[u8], out: &mut Vec<u8>) {
        if !data.is_empty() {
            return refuse(opt::LIST, Wrong::Malformed, out);
        }
        let Some(names) = self.catalogue.list() else {
            return answer(opt::LIST, rep::ERR_POLICY, b"exports are not listed", out);
        };
        for name in names {
            let mut data = (name.len() as u32).to_be_bytes().to_vec();
            data.extend(name.as_bytes());
            answer(opt::LIST, rep::SERVER, &data, out);
        }
        answer(opt::LIST, rep::ACK, b"", out);
    }

    /// The old way to choose. It has no way to say no.
    fn export_name(&mut self, data: &[u8], out: &mut Vec<u8>) -> Progress<C::Export> {
        let found = export_name(data).ok();
        let Some((export, offer)) = found.and_then(|name| self.catalogue.find(name)) else {
            return Progress::Closed;
        };
        out.extend(offer.size.to_be_bytes());
        out.extend(self.transmission_flags(&offer).to_be_bytes());
        if self.zeroes {
            out.extend([0; 124]);
        }
        Progress::Chosen(self.chosen(export, offer))
    }

    fn info(&mut self, option: u32, data: &[u8], out: &mut Vec<u8>) -> Progress<C::Export> {
        let asked = match InfoOption::decode(data) {
            Ok(asked) => asked,
            Err(wrong) => {
                refuse(option, wrong, out);
                return Progress::Open;
            }
        };
        let Some((export, offer)) = self.catalogue.find(asked.name) else {
            unknown(option, out);
            return Progress::Open;
        };
        let flags = self.transmission_flags(&offer);
        tell(
            option,
            info::EXPORT,
            &[&offer.size.to_be_bytes(), &flags.to_be_bytes()],
            out,
        );
        if asked.wants.contains(&info::NAME) {
            tell(option, info::NAME, &[offer.name.as_bytes()], out);
        }
        if asked.wants.contains(&info::DESCRIPTION) {
            tell(
                option,
                info::DESCRIPTION,
                &[offer.description.as_bytes()],
                out,
            );
        }
        if asked.wants.contains(&info::BLOCK_SIZE) {
            let sizes = [1, offer.page_len, PAYLOAD_LEN_MAX].map(u32::to_be_bytes);
            tell(option, info::BLOCK_SIZE, &[sizes.as_flattened()], out);
        }
        answer(option, rep::ACK, b"", out);
        match option {
            opt::GO => Progress::Chosen(self.chosen(export, offer)),
            _ => Progress::Open,
        }
    }

    fn meta(&mut self, option: u32, data: &[u8], out: &mut Vec<u8>) {
        let set = option == opt::SET_META_CONTEXT;
        if set {
            // Whatever comes of it, what was chosen before is not any more.
            self.contexts = None;
        }
        let asked = match MetaOption::decode(data) {
            Ok(_) if !self.structured => return refuse(option, Wrong::Malformed, out),
            Ok(asked) => asked,
            Err(wrong) => return refuse(option, wrong, out),
        };
        let Some((_, offer)) = self.catalogue.find(asked.name) else {
            return unknown(option, out);
        };
        let contexts = match set {
            true => Contexts::chosen(&asked.queries),
            false => Contexts::listed(&asked.queries),
        };
        for context in contexts.iter() {
            let id = if set { context.id() } else { 0 };
            let mut data = id.to_be_bytes().to_vec();
            data.extend(context.name().as_bytes());
            answer(option, rep::META_CONTEXT, &data, out);
        }
        if set {
            self.contexts = Some((offer.name, contexts));
        }
        answer(option, rep::ACK, b"", out);
    }

    /// Contexts hold for the export that they were chosen for, under whichever of its names.
    fn chosen(&mut self, export: C::Export, offer: Offer) -> Chosen<C::Export> {
        let contexts = match self.contexts.take() {
            Some((name, contexts)) if name == offer.name => contexts,
            _ => Contexts::default(),
        };
        Chosen {
            export,
            offer,
            structured: self.structured,
            contexts,
        }
    }

    fn transmission_flags(&self, offer: &Offer) -> u16 {
        let mut flags = transmission::HAS_FLAGS
            | transmission::SEND_FLUSH
            | transmission::SEND_CACHE
            | transmission::CAN_MULTI_CONN;
        flags |= match offer.read_only {
            true => transmission::READ_ONLY,
            false => {
                transmission::SEND_FUA
                    | transmission::SEND_TRIM
                    | transmission::SEND_WRITE_ZEROES
                    | transmission::SEND_FAST_ZERO
            }
        };
        if self.structured {
            flags |= transmission::SEND_DF;
        }
        flags
    }
}

fn tell(option: u32, kind: u16, parts: &[&[u8]], out: &mut Vec<u8>) {
    let mut data = kind.to_be_bytes().to_vec();
    for part in parts {
        data.extend(*part);
    }
    answer(option, rep::INFO, &data, out);
}

/// The answer to a name that does not exist and to one that may not be known.
fn unknown(option: u32, out: &mut Vec<u8>) {
    answer(option, rep::ERR_UNKNOWN, b"there is no such export", out);
}

fn refuse(option: u32, wrong: Wrong, out: &mut Vec<u8>) {
    match wrong {
        Wrong::Malformed => answer(option, rep::ERR_INVALID, b"the option is not valid", out),
        Wrong::TooBig => answer(option, rep::ERR_TOO_BIG, b"a name is too long", out),
    }
}

fn answer(option: u32, kind: u32, data: &[u8], out: &mut Vec<u8>) {
    out.extend(OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend(option.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(data);
}

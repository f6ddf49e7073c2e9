//! Requests of one client, after the handshake.
//!
//! The thread of the connection receives requests. What is quick it does itself, many in a row, and
//! sends their replies in one call; short writes that came together are one change. So it does with a request that is all
//! that its client waits for. All else goes to the pool. So a flush or a long read holds nobody
//! up, and a stream of small requests costs few calls and no change of threads.

use std::io::{self, ErrorKind};
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::nbd::answer::Service;
use crate::nbd::budget::{Budget, Credit};
use crate::nbd::buffers::Buffers;
use crate::nbd::outbox::{Outbox, Reply};
use crate::nbd::pool::Jobs;
use crate::nbd::protocol::numbers::{Errno, flag};
use crate::nbd::protocol::reply;
use crate::nbd::protocol::request::{Command, HEADER_LEN, PAYLOAD_LEN_MAX, Request};
use crate::nbd::socket::Socket;

/// How much is received at once.
const INPUT_LEN: usize = 256 << 10;
/// Payloads from here on are received where they stay.
const LONG_PAYLOAD_LEN: usize = 32 << 10;
/// A payload's buffer grows by this: a client that only says that it will send gets no more.
const PAYLOAD_STEP: usize = 1 << 20;
/// Longer requests go to the pool.
const QUICK_LEN_MAX: u32 = 16 << 10;
/// So do all, while many take longer than this: then the disk is read, and more than one can wait for it.
pub const QUICK: Duration = Duration::from_micros(50);
/// A request that is all that its client waits for may take so long: a flush, for one.
pub const QUICK_ALONE: Duration = Duration::from_micros(500);
/// How many are many, in 1/1024.
const SLOW_SHARE_MAX: u64 = 256;
/// One of so many is still done here, to see whether they are quick again.
const SAMPLE: u64 = 64;
/// Replies that are kept together before they are sent.
const BATCH_LEN: usize = 32 << 10;
/// Most short writes that are done together: their client waits for the first as long as for the last.
const WRITES_MAX: usize = 12;

/// A connection that has chosen.
pub struct Transmission {
    pub service: Service,
    pub socket: Arc<Socket>,
    pub budget: Arc<Budget>,
    pub outbox: Arc<Outbox>,
    pub buffers: Arc<Buffers>,
    pub jobs: Jobs,
    pub stopping: Arc<AtomicBool>,
    pub reads: Pace,
    pub writes: Pace,
    pub alone: Pace,
}

/// How many requests were slow of late. Not how long they took: one that lost the processor in the
/// middle of it says nothing of the others.
pub struct Pace {
    quick: Duration,
    /// In 1/1024 of all.
    slow_share: AtomicU64,
    count: AtomicU64,
}

impl Pace {
    /// Of requests that are slow if they take longer.
    pub fn new(quick: Duration) -> Self {
        Self {
            quick,
            slow_share: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    fn is_quick(&self) -> bool {
        self.slow_share.load(Ordering::Relaxed) < SLOW_SHARE_MAX
            || self
                .count
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(SAMPLE)
    }

    fn took(&self, time: Duration) {
        let now = if time > self.quick { 1024 / 16 } else { 0 };
        let before = self.slow_share.load(Ordering::Relaxed);
        let after = before - before / 16 + now;
        self.slow_share.store(after, Ordering::Relaxed);
    }
}

/// What is received and not yet understood.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Requests that are done in a row.
#[derive(Default)]
struct Batch {
    /// Short writes that are still to be done, together: where their payloads are in the input.
    writes: Vec<(Request, Range<usize>)>,
    /// What they hold in memory.
    held: Credit,
    /// Replies of requests that are done, and what those hold.
    bytes: Vec<u8>,
    credit: Credit,
}

/// Why no more requests are read.
enum End {
    /// The client has said so, or is gone.
    Left,
    /// What it sends cannot be understood.
    Nonsense,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Left
    }
}

impl Transmission {
    /// Serves the client until it leaves; `received` came with its choice. All its requests are then
    /// answered.
    pub fn serve(self: &Arc<Self>, received: &[u8]) {
        let (mut input, mut batch) = (Input::new(received), Batch::default());
        let end = self.receive(&mut input, &mut batch);
        self.finish(&input, &mut batch);
        if let Err(End::Nonsense) = end {
            self.socket.end_receiving();
        }
        self.budget.wait_for_all();
        self.outbox.end();
        self.socket.end();
    }

    fn receive(self: &Arc<Self>, input: &mut Input, batch: &mut Batch) -> Result<(), End> {
        loop {
            while let Some(request) = input.request()? {
                if request.command == Command::Disconnect {
                    return Ok(());
                }
                let payload_len = request.payload_len() as usize;
                if request.payload_len() > PAYLOAD_LEN_MAX {
                    return Err(End::Nonsense);
                }
                if payload_len >= LONG_PAYLOAD_LEN {
                    // The rest of it may be long in coming.
                    self.finish(input, batch);
                    let len = self.take(&request, input, batch);
                    let payload = self.long_payload(input, payload_len, len)?;
                    self.start(request, payload, len, input);
                } else if input.len() < HEADER_LEN + payload_len {
                    break;
                } else {
                    let payload = input.take_short(payload_len);
                    self.short(request, payload, input, batch);
                }
            }
            self.finish(input, batch);
            input.receive(&self.socket)?;
        }
    }

    /// A request that is here with its payload.
    fn short(
        self: &Arc<Self>,
        request: Request,
        payload: Range<usize>,
        input: &Input,
        batch: &mut Batch,
    ) {
        let len = self.take(&request, input, batch);
        if !is_short(&request) {
            let payload = input.payload(payload).to_vec();
            return self.start(request, payload, len, input);
        }
        if request.command == Command::Write {
            batch.writes.push((request, payload));
            batch.held.add(Credit { requests: 1, len });
            if batch.writes.len() >= WRITES_MAX {
                // Its client can go on while the next ones are done.
                self.finish(input, batch);
            }
            return;
        }
        if !self.reads.is_quick() {
            return self.start(request, Vec::new(), len, input);
        }
        let since = Instant::now();
        self.answer(&request, b"", &mut batch.bytes);
        self.reads.took(since.elapsed());
        batch.credit.add(Credit { requests: 1, len });
        if batch.bytes.len() >= BATCH_LEN {
            self.finish(input, batch);
        }
    }

    /// Does the writes of a batch, or has the pool do them.
    fn write(self: &Arc<Self>, input: &Input, batch: &mut Batch) {
        let held = mem::take(&mut batch.held);
        let writes = batch.writes.drain(..);
        if self.writes.is_quick() || self.is_alone(input) {
            let writes: Vec<(Request, &[u8])> = writes
                .map(|(request, payload)| (request, input.payload(payload)))
                .collect();
            let since = Instant::now();
            self.answer_writes(&writes, &mut batch.bytes);
            let count = u32::try_from(writes.len()).unwrap_or(u32::MAX);
            self.writes.took(since.elapsed() / count.max(1));
            batch.credit.add(held);
            return;
        }
        let owned: Vec<(Request, Vec<u8>)> = writes
            .map(|(request, payload)| (request, input.payload(payload).to_vec()))
            .collect();
        let this = self.clone();
        self.jobs.add(move || {
            let writes: Vec<(Request, &[u8])> = owned
                .iter()
                .map(|(request, payload)| (*request, payload.as_slice()))
                .collect();
            let mut bytes = Vec::new();
            this.answer_writes(&writes, &mut bytes);
            let credit = held;
            this.outbox.put(Reply { bytes, credit });
        });
    }

    fn answer_writes(&self, writes: &[(Request, &[u8])], out: &mut Vec<u8>) {
        if writes.len() > 1 && !self.is_stopping() && self.service.write_many(writes) {
            let simple = |(request, _): &(Request, _)| reply::simple(request.cookie, None);
            out.extend(writes.iter().flat_map(simple));
            return;
        }
        // One by one, so that each has its own answer.
        for (request, payload) in writes {
            self.answer(request, payload, out);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn answer(&self, request: &Request, payload: &[u8], out: &mut Vec<u8>) {
        if self.is_stopping() {
            let text = "the server is stopping";
            return self.service.refuse(request, Errno::Shutdown, text, out);
        }
        let wanted = || !self.outbox.is_gone();
        self.service.answer(request, payload, &wanted, out);
    }

    /// Waits until there is memory for a request and its reply. Returns its bytes.
    fn take(self: &Arc<Self>, request: &Request, input: &Input, batch: &mut Batch) -> usize {
        let len = request.payload_len() as usize + Service::reply_len(request);
        // A READ that is too long is refused: it needs no memory.
        let len = len.min(PAYLOAD_LEN_MAX as usize);
        if !self.budget.try_take(len) {
            // What is answered gives its memory back when it is sent.
            self.finish(input, batch);
            self.budget.take(len);
        }
        len
    }

    /// Has the pool do a request, if its client has or wants others done meanwhile.
    fn start(self: &Arc<Self>, request: Request, payload: Vec<u8>, len: usize, input: &Input) {
        if may_be_alone(&request) && self.is_alone(input) && self.alone.is_quick() {
            let since = Instant::now();
            self.do_one(&request, payload, len);
            return self.alone.took(since.elapsed());
        }
        let this = self.clone();
        self.jobs.add(move || this.do_one(&request, payload, len));
    }

    fn do_one(&self, request: &Request, payload: Vec<u8>, len: usize) {
        let mut bytes = match request.command {
            Command::Read => self.buffers.take(len),
            _ => Vec::new(),
        };
        self.answer(request, &payload, &mut bytes);
        self.buffers.give(payload);
        self.outbox.put(Reply {
            bytes,
            credit: Credit { requests: 1, len },
        });
    }

    /// Whether the client waits for nothing but the one request in hand: then another thread would be
    /// woken for nothing.
    fn is_alone(&self, input: &Input) -> bool {
        self.budget.has_one() && input.len() == 0 && !self.socket.has_more()
    }

    /// Does what is left of a batch, and sends its replies.
    fn finish(self: &Arc<Self>, input: &Input, batch: &mut Batch) {
        if !batch.writes.is_empty() {
            self.write(input, batch);
        }
        if batch.credit.requests > 0 {
            let Batch { bytes, credit, .. } = mem::take(batch);
            self.outbox.put(Reply { bytes, credit });
        }
    }

    /// Receives a payload into a buffer of its own.
    fn long_payload(&self, input: &mut Input, len: usize, credit: usize) -> Result<Vec<u8>, End> {
        let received = self.fill(input, len);
        if received.is_err() {
            // The request never came.
            self.budget.give(Credit {
                requests: 1,
                len: credit,
            });
        }
        received
    }

    fn fill(&self, input: &mut Input, len: usize) -> Result<Vec<u8>, End> {
        let mut payload = self.buffers.take(len.min(PAYLOAD_STEP));
        payload.extend(input.take(HEADER_LEN, len));
        while payload.len() < len {
            let start = payload.len();
            payload.resize(len.min(start + PAYLOAD_STEP), 0);
            let mut at = start;
            while at < payload.len() {
                let into = payload.get_mut(at..).unwrap_or_default();
                match self.socket.receive(into)? {
                    0 => return Err(End::Left),
                    received => at += received,
                }
            }
        }
        Ok(payload)
    }
}

/// Whether a request is quick if nothing keeps it from it: no sync, no walk, few bytes.
fn is_short(request: &Request) -> bool {
    matches!(request.command, Command::Read | Command::Write)
        && request.len <= QUICK_LEN_MAX
        && !request.has(flag::FUA)
}

/// Whether a request is soon done, unless the disk is slow. Those that walk a page table may take long.
fn may_be_alone(request: &Request) -> bool {
    matches!(
        request.command,
        Command::Read | Command::Write | Command::Flush
    )
}

impl Input {
    fn new(received: &[u8]) -> Self {
        let mut bytes = received.to_vec();
        bytes.resize(INPUT_LEN.max(received.len()), 0);
        Self {
            bytes,
            start: 0,
            end: received.len(),
        }
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    /// The header at the front, if it is here. It stays.
    fn request(&self) -> Result<Option<Request>, End> {
        let here = self.bytes.get(self.start..self.end).unwrap_or_default();
        match here.first_chunk::<HEADER_LEN>() {
            None => Ok(None),
            Some(header) => Request::decode(header).map(Some).ok_or(End::Nonsense),
        }
    }

    /// Takes a header and its payload, which is here; returns where the payload is until more is received.
    fn take_short(&mut self, len: usize) -> Range<usize> {
        let from = self.start + HEADER_LEN;
        self.start = from + len;
        from..self.start
    }

    fn payload(&self, at: Range<usize>) -> &[u8] {
        self.bytes.get(at).unwrap_or_default()
    }

    /// Takes a header and what is here of its payload; returns that.
    fn take(&mut self, header_len: usize, len: usize) -> &[u8] {
        let from = self.start + header_len;
        self.start = self.end.min(from + len);
        self.bytes.get(from..self.start).unwrap_or_default()
    }

    /// Waits for more. There is always room: what is left is less than a header and a short payload.
    fn receive(&mut self, socket: &Socket) -> Result<(), End> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        match socket.receive(room) {
            Ok(0) => Err(End::Left),
            Ok(len) => {
                self.end += len;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(End::Left),
        }
    }
}

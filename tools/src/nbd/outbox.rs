//! Replies on their way to a client.
//!
//! Whoever has a reply sends it, and what others have put here meanwhile, as far as the client takes
//! it at once. If it does not, a thread of the connection's own waits for it: no thread of the pool
//! ever waits for a client.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::nbd::budget::{Budget, Credit};
use crate::nbd::buffers::Buffers;
use crate::nbd::socket::Socket;

/// Most replies that go out in one call.
const BATCH_MAX: usize = 32;

/// Bytes to send, and what they hold in memory until then.
#[derive(Debug)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub credit: Credit,
}

/// The replies of a connection.
pub struct Outbox {
    socket: Arc<Socket>,
    budget: Arc<Budget>,
    buffers: Arc<Buffers>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Reply>,
    /// Bytes of the first one that are sent.
    sent: usize,
    turn: Turn,
    /// There is a thread for a slow client.
    has_thread: bool,
    /// The client is gone: replies are dropped.
    gone: bool,
    ended: bool,
}

/// Who sends.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    /// Nobody just now.
    #[default]
    Free,
    /// Somebody does.
    Taken,
    /// The thread of the connection, once the client takes more.
    Thread,
}

impl Outbox {
    /// For a connection.
    pub fn new(socket: Arc<Socket>, budget: Arc<Budget>, buffers: Arc<Buffers>) -> Self {
        Self {
            socket,
            budget,
            buffers,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Sends a reply, or leaves it to who sends just now.
    pub fn put(self: &Arc<Self>, reply: Reply) {
        let mut state = self.lock();
        if state.gone {
            drop(state);
            return self.drop_reply(reply);
        }
        state.waiting.push_back(reply);
        if state.turn == Turn::Free {
            state.turn = Turn::Taken;
            self.send_now(state);
        }
    }

    /// Whether the client is gone.
    pub fn is_gone(&self) -> bool {
        self.lock().gone
    }

    /// Ends the thread, if there is one. No reply may be waiting.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends until nothing waits or the client takes no more. The turn is the caller's.
    fn send_now<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) {
        while !state.waiting.is_empty() {
            let (back, sent) = self.send_some(state, |parts| self.socket.send_now(parts));
            state = back;
            match sent {
                Ok(()) => {}
                Err(ErrorKind::WouldBlock) => return self.leave_to_thread(state),
                Err(_) => return self.give_up(state),
            }
        }
        state.turn = Turn::Free;
    }

    fn leave_to_thread(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.turn = Turn::Thread;
        if state.has_thread {
            drop(state);
            self.changed.notify_all();
            return;
        }
        let named = thread::Builder::new().name("nbd-sender".to_owned());
        let outbox = self.clone();
        match named.spawn(move || outbox.send_slowly()) {
            Ok(_) => state.has_thread = true,
            Err(_) => self.give_up(state),
        }
    }

    /// The thread for a slow client.
    fn send_slowly(self: Arc<Self>) {
        let mut state = self.lock();
        loop {
            if state.turn == Turn::Thread && !state.waiting.is_empty() {
                let (back, sent) = self.send_some(state, |parts| self.socket.send(parts));
                if sent.is_err() {
                    return self.give_up(back);
                }
                state = back;
            } else if state.ended || state.gone {
                return;
            } else {
                if state.turn == Turn::Thread {
                    state.turn = Turn::Free;
                }
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Sends what fits into one call. Others may put replies meanwhile.
    fn send_some<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        send: impl Fn(&[IoSlice<'_>]) -> std::io::Result<usize>,
    ) -> (MutexGuard<'a, State>, Result<(), ErrorKind>) {
        let mut batch: VecDeque<Reply> = match state.waiting.len() {
            ..=BATCH_MAX => mem::take(&mut state.waiting),
            _ => state.waiting.drain(..BATCH_MAX).collect(),
        };
        let mut skip = state.sent;
        drop(state);
        let parts: Vec<IoSlice<'_>> = batch
            .iter()
            .map(|reply| {
                let rest = reply.bytes.get(mem::take(&mut skip)..).unwrap_or_default();
                IoSlice::new(rest)
            })
            .collect();
        let sent = send(&parts);
        let mut state = self.lock();
        let outcome = match sent {
            Ok(len) => {
                let mut len = state.sent + len;
                let mut credit = Credit::default();
                while let Some(first) = batch.front().filter(|first| first.bytes.len() <= len) {
                    len -= first.bytes.len();
                    credit.requests += first.credit.requests;
                    credit.len += first.credit.len;
                    if let Some(reply) = batch.pop_front() {
                        self.buffers.give(reply.bytes);
                    }
                }
                state.sent = len;
                self.budget.give(credit);
                Ok(())
            }
            Err(error) => Err(error.kind()),
        };
        if !batch.is_empty() {
            // What came meanwhile goes behind.
            batch.append(&mut state.waiting);
            state.waiting = batch;
        }
        (state, outcome)
    }

    /// The client is gone, or a thread for it cannot be had.
    fn give_up(&self, mut state: MutexGuard<'_, State>) {
        state.gone = true;
        state.turn = Turn::Free;
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        // Whoever reads requests is to notice too.
        self.socket.end();
        for reply in waiting {
            self.drop_reply(reply);
        }
    }

    fn drop_reply(&self, reply: Reply) {
        self.buffers.give(reply.bytes);
        self.budget.give(reply.credit);
    }
}

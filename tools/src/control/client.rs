//! Whoever asked the owner for a command, as that command sees it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::control::wire::{Message, OUTPUT_LEN_MAX, Step, receive};
use crate::exit::{Failure, Result};
use crate::nbd::socket::Socket;

/// The other end of a connection.
pub struct Client {
    socket: Arc<Socket>,
    can_ask: bool,
    left: Arc<AtomicBool>,
    sending: Mutex<()>,
    answers: Mutex<Receiver<bool>>,
}

/// Hears what a client says while its command runs.
pub struct Ear {
    socket: Arc<Socket>,
    left: Arc<AtomicBool>,
    answers: SyncSender<bool>,
}

impl Client {
    /// The client of a connection, and what hears it.
    pub fn new(socket: Arc<Socket>, can_ask: bool) -> (Self, Ear) {
        let (left, (tell, answers)) = (Arc::<AtomicBool>::default(), sync_channel(1));
        let ear = Ear {
            socket: socket.clone(),
            left: left.clone(),
            answers: tell,
        };
        let client = Self {
            socket,
            can_ask,
            left,
            sending: Mutex::new(()),
            answers: Mutex::new(answers),
        };
        (client, ear)
    }

    /// Whether there is somebody who can be asked.
    pub fn can_ask(&self) -> bool {
        self.can_ask
    }

    /// Whether nobody waits for the command any more, or the owner ends.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Has the user asked.
    pub fn ask(&self, question: &str) -> Result<bool> {
        let asked = self.send(&Message::Question(question.to_owned()));
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = asked.ok().and_then(|()| answers.recv().ok());
        answer.ok_or(Failure::Cancelled("nobody answered"))
    }

    /// Shows how far the command is. Progress that nobody sees must not stop the work.
    pub fn show(&self, step: Step) {
        let _ = self.send(&Message::Progress(step));
    }

    /// Sends a message whole.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        let _turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        self.socket.send_all(&message.encode())
    }
}

impl Ear {
    /// Listens until the client leaves; says what makes no sense here, and it has left.
    pub fn listen(self) {
        while let Ok(Some(Message::Answer(answer))) = receive(&self.socket, None) {
            // A second one before the first was heard answers nothing that was asked.
            if self.answers.try_send(answer).is_err() {
                break;
            }
        }
        self.left.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// Standard output at the client.
#[derive(Debug)]
pub struct ClientOutput(pub Arc<Client>);

impl io::Write for ClientOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes.get(..OUTPUT_LEN_MAX).unwrap_or(bytes);
        let sent = self.0.send(&Message::Output(part.to_vec()));
        // However it went away, it is a reader that went away.
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

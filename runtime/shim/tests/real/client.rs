//! A small daemon: frames over the shim's socket, one request at a time.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bosun_types::Error;
use bosun_types::shim::{
    ExitNotice, FromShim, Notice, PROTOCOL_VERSION, Request, Response, ToShim, codec, file,
};
use bosun_types::task::ProcessIdentity;

/// No answer of a shim takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Client {
    stream: UnixStream,
    next: u64,
    notices: VecDeque<Notice>,
    pub shim: ProcessIdentity,
    pub saw_out_of_memory: bool,
}

impl Client {
    pub fn connect(directory: &Path, nonce: &str) -> Self {
        let mut stream = UnixStream::connect(directory.join(file::SOCKET)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        send(&mut stream, &ToShim::Hello { version: PROTOCOL_VERSION, nonce: nonce.to_owned() });
        match receive(&mut stream).expect("the shim greets") {
            FromShim::Hello { version, shim } => {
                assert_eq!(version, PROTOCOL_VERSION);
                Self { stream, next: 1, notices: VecDeque::new(), shim, saw_out_of_memory: false }
            }
            other => panic!("no hello but {other:?}"),
        }
    }

    pub fn request(&mut self, request: Request) -> Result<Response, Error> {
        let id = self.begin(request);
        self.answer(id)
    }

    /// Sends without waiting.
    pub fn begin(&mut self, request: Request) -> u64 {
        self.next += 1;
        send(&mut self.stream, &ToShim::Request { id: self.next, request });
        self.next
    }

    /// Waits for the answer of an earlier `begin`; answers must come in the order they are waited for.
    pub fn answer(&mut self, id: u64) -> Result<Response, Error> {
        loop {
            match receive(&mut self.stream).expect("the shim answers") {
                FromShim::Reply { id: of, result } if of == id => return result,
                FromShim::Notice(notice) => self.notices.push_back(notice),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Waits for the answer of any of these; which, and what.
    pub fn any_answer(&mut self, ids: &[u64]) -> (usize, Result<Response, Error>) {
        loop {
            match receive(&mut self.stream).expect("the shim answers") {
                FromShim::Reply { id: of, result } => {
                    return (ids.iter().position(|id| *id == of).expect("one of them"), result);
                }
                FromShim::Notice(notice) => self.notices.push_back(notice),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The next exit, waited for.
    pub fn exit(&mut self) -> ExitNotice {
        loop {
            match self.notices.pop_front() {
                Some(Notice::Exited(notice)) => return notice,
                Some(Notice::OutOfMemory { .. }) => self.saw_out_of_memory = true,
                None => match receive(&mut self.stream).expect("the shim reports an exit") {
                    FromShim::Notice(notice) => self.notices.push_back(notice),
                    other => panic!("unexpected {other:?}"),
                },
            }
        }
    }

    /// Whether an exit was reported that nobody has asked for.
    pub fn has_more_exits(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Waits until the shim closes the connection.
    pub fn wait_closed(mut self) {
        while receive(&mut self.stream).is_some() {}
    }
}

pub fn send(stream: &mut UnixStream, message: &ToShim) {
    stream.write_all(&codec::encode_frame(message).unwrap()).unwrap();
}

pub fn receive(stream: &mut UnixStream) -> Option<FromShim> {
    let mut header = [0; codec::FRAME_HEADER_BYTES];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; codec::frame_length(header).unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some(codec::decode_body(&body).unwrap())
}

//! One connection of a daemon: peer check, frames, and a bounded buffer of answers.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use bosun_types::shim::codec::{self, FRAME_HEADER_BYTES};
use bosun_types::shim::{FromShim, ToShim};
use bosun_types::{Error, ErrorClass};
use nix::sys::socket::{getsockopt, sockopt};

/// Bytes of answers that may wait for a peer that does not read.
const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// Bytes taken by one read.
const READ_BYTES: usize = 16 << 10;

/// A decoded frame.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "taken apart as soon as it is made")]
pub enum Frame {
    /// A message of this version.
    Message(ToShim),
    /// A request of a later version: only its id is understood.
    UnknownRequest(u64),
}

/// The connection is over: the peer left, or broke the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over;

/// See the module.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Whether a `Hello` with the right nonce has come.
    pub greeted: bool,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Connection {
    /// Takes an accepted stream, when its peer may speak to a shim: root, or the shim's own user (CVE-2020-15257).
    pub fn accept(stream: UnixStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        let peer = getsockopt(&stream, sockopt::PeerCredentials).ok()?;
        let own = nix::unistd::geteuid().as_raw();
        (peer.uid() == 0 || peer.uid() == own).then(|| Self {
            stream,
            greeted: false,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    /// Reads what is there; the whole frames in it.
    pub fn read(&mut self) -> Result<Vec<Frame>, Over> {
        let mut buffer = [0; READ_BYTES];
        let mut frames = Vec::new();
        loop {
            match self.stream.read(&mut buffer) {
                // Frames that came before the end are still served.
                Ok(0) if frames.is_empty() => return Err(Over),
                Ok(0) => return Ok(frames),
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    while let Some(body) = self.next_body()? {
                        frames.push(decode(&body)?);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(frames),
                Err(_) => return Err(Over),
            }
        }
    }

    /// Queues a message and writes what fits.
    pub fn send(&mut self, message: &FromShim) -> Result<(), Over> {
        let frame = encode(message)?;
        if self.output.len() + frame.len() > OUTPUT_BYTES_MAX {
            return Err(Over);
        }
        self.output.extend_from_slice(&frame);
        self.flush()
    }

    /// Writes what fits.
    pub fn flush(&mut self) -> Result<(), Over> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
        self.output = Vec::new();
        Ok(())
    }

    /// Whether answers wait for room.
    pub fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    fn next_body(&mut self) -> Result<Option<Vec<u8>>, Over> {
        let Some(header) = self.input.first_chunk() else { return Ok(None) };
        let length = FRAME_HEADER_BYTES + codec::frame_length(*header).map_err(|_| Over)?;
        if self.input.len() < length {
            return Ok(None);
        }
        let rest = self.input.split_off(length);
        let frame = std::mem::replace(&mut self.input, rest);
        Ok(Some(frame[FRAME_HEADER_BYTES..].to_vec()))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn decode(body: &[u8]) -> Result<Frame, Over> {
    match codec::decode_body(body) {
        Ok(message) => Ok(Frame::Message(message)),
        Err(_) => codec::request_id(body).map(Frame::UnknownRequest).ok_or(Over),
    }
}

/// A message too long for a frame can only be an answer with a huge text or list: the daemon gets an error instead.
fn encode(message: &FromShim) -> Result<Vec<u8>, Over> {
    codec::encode_frame(message).or_else(|_| match message {
        FromShim::Reply { id, .. } => {
            let error = Error::new(ErrorClass::ResourceExhausted, "the answer exceeds a frame");
            codec::encode_frame(&FromShim::Reply { id: *id, result: Err(error) }).map_err(|_| Over)
        }
        _ => Err(Over),
    })
}

#[cfg(test)]
mod tests {
    use bincode::config;
    use bosun_types::shim::Request;

    use super::*;

    #[test]
    fn a_request_of_a_later_version_yields_its_id() {
        let mut body = bincode::encode_to_vec((1_u32, 77_u64), config::standard()).unwrap();
        body.push(200);
        assert!(matches!(decode(&body), Ok(Frame::UnknownRequest(77))));
        let known = ToShim::Request { id: 7, request: Request::State };
        let body = bincode::encode_to_vec(&known, config::standard()).unwrap();
        assert!(matches!(decode(&body), Ok(Frame::Message(message)) if message == known));
    }

    #[test]
    fn f_22_frames_arrive_in_any_pieces_and_oversize_ends_the_connection() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::accept(ours).unwrap();
        let frame = codec::encode_frame(&ToShim::Hello { version: 1, nonce: "n".into() }).unwrap();
        for byte in &frame[..frame.len() - 1] {
            theirs.write_all(&[*byte]).unwrap();
            assert!(connection.read().unwrap().is_empty());
        }
        theirs.write_all(&frame[frame.len() - 1..]).unwrap();
        assert_eq!(connection.read().unwrap().len(), 1);
        theirs.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(connection.read().unwrap_err(), Over);
    }
}

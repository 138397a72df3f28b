//! Frames and records: round trips, partial input, damage, golden bytes.

use proptest::prelude::*;

use super::*;
use crate::shim::{ExitNotice, FromShim, Notice, OutputFrame, Request, ShimBeacon, ToShim};
use crate::stdio::{AttachFrom, OutputStream, Overflow};
use crate::task::{ExitCause, ExitStatus, ProcessIdentity};
use crate::{ExecId, Timestamp};

fn exit() -> ExitNotice {
    ExitNotice {
        exec: Some(ExecId::new("e1").unwrap()),
        process: ProcessIdentity { pid: 4711, start_ticks: 99 },
        status: ExitStatus { cause: ExitCause::Code(42), exited_at: Timestamp(1_000) },
        started: true,
    }
}

#[test]
fn a_frame_comes_back_and_says_how_long_it_was() {
    let message = ToShim::Request { id: 7, request: Request::State };
    let frame = encode_frame(&message).unwrap();
    let mut stream = frame.clone();
    stream.extend_from_slice(b"next");
    assert_eq!(decode_frame::<ToShim>(&stream).unwrap(), Some((message, frame.len())));
}

#[test]
fn every_prefix_of_a_frame_asks_for_more() {
    let frame = encode_frame(&FromShim::Notice(Notice::Exited(exit()))).unwrap();
    for length in 0..frame.len() {
        assert_eq!(decode_frame::<FromShim>(&frame[..length]).unwrap(), None);
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_the_body() {
    assert!(decode_frame::<FromShim>(&u32::MAX.to_le_bytes()).is_err());
    assert!(decode_frame::<FromShim>(&0u32.to_le_bytes()).is_err());
}

#[test]
fn trailing_bytes_are_refused() {
    let mut frame = encode_frame(&ToShim::Request { id: 7, request: Request::State }).unwrap();
    frame.push(0);
    let length = u32::try_from(frame.len() - FRAME_HEADER_BYTES).unwrap();
    frame[..4].copy_from_slice(&length.to_le_bytes());
    assert!(decode_frame::<ToShim>(&frame).is_err());
}

#[test]
fn the_id_of_an_unknown_request_can_be_answered() {
    // Variant 1 (Request), id 300, and a request variant that no version has.
    let body = bincode::encode_to_vec((1u32, 300u64, 200u32), config::standard()).unwrap();
    assert!(decode_body::<ToShim>(&body).is_err());
    assert_eq!(request_id(&body), Some(300));
    let hello = encode_frame(&ToShim::Hello { version: 1, nonce: "ab".into() }).unwrap();
    assert_eq!(request_id(&hello[FRAME_HEADER_BYTES..]), None);
}

#[test]
fn golden_hello_of_version_1() {
    let hello = encode_frame(&ToShim::Hello { version: 1, nonce: "ab".into() }).unwrap();
    assert_eq!(hello, [5, 0, 0, 0, 0, 1, 2, b'a', b'b']);
    let process = ProcessIdentity { pid: 5, start_ticks: 6 };
    let answer = encode_frame(&FromShim::Hello { version: 1, shim: process }).unwrap();
    assert_eq!(answer, [4, 0, 0, 0, 0, 1, 5, 6]);
}

#[test]
fn golden_streams_of_version_1() {
    let request = |request| encode_frame(&ToShim::Request { id: 3, request }).unwrap()[4..].to_vec();
    let attach = Request::Attach { exec: None, from: AttachFrom::Replay(9), overflow: Overflow::Spill };
    assert_eq!(request(attach), [1, 3, 15, 0, 0, 9, 2]);
    let write = Request::WriteStdin { exec: Some(ExecId::new("e").unwrap()), bytes: b"hi".to_vec() };
    assert_eq!(request(write), [1, 3, 16, 1, 1, b'e', 2, b'h', b'i']);
    let output = |frame| encode_frame(&FromShim::Output(frame)).unwrap()[4..].to_vec();
    let bytes = OutputFrame::Bytes { stream: OutputStream::Stderr, bytes: b"x".to_vec() };
    assert_eq!(output(bytes), [3, 0, 1, 1, b'x']);
    let missed = OutputFrame::Missed { bytes: 4, first: Timestamp(1), last: Timestamp(2) };
    assert_eq!(output(missed), [3, 1, 4, 2, 4]);
    assert_eq!(output(OutputFrame::End), [3, 2]);
}

#[test]
fn golden_exit_record_of_version_1() {
    let bytes = encode_record(&exit()).unwrap();
    assert_eq!(bytes[..4], *b"bsn\x01");
    assert_eq!(bytes[8..], [1, 2, b'e', b'1', 251, 103, 18, 99, 0, 42, 251, 208, 7, 1]);
    assert_eq!(decode_record::<ExitNotice>(&bytes).unwrap(), exit());
}

#[test]
fn any_flipped_bit_and_any_cut_of_a_record_is_noticed() {
    let bytes = encode_record(&exit()).unwrap();
    for index in 0..bytes.len() {
        assert!(decode_record::<ExitNotice>(&bytes[..index]).is_err());
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1 << bit;
            assert!(decode_record::<ExitNotice>(&damaged).is_err(), "byte {index} bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_frame::<FromShim>(&bytes);
        let _ = decode_frame::<ToShim>(&bytes);
        let _ = decode_record::<ShimBeacon>(&bytes);
        let _ = request_id(&bytes);
    }
}

//! Replay, many readers, those that fall behind.

use proptest::prelude::*;

use super::*;

const ALL: AttachFrom = AttachFrom::Replay(u32::MAX);
const NOW: AttachFrom = AttachFrom::Replay(0);

fn push(tail: &mut Tail, text: &[u8]) {
    let at = tail.stamp(Timestamp(0));
    tail.push(OutputStream::Stdout, at, text);
}

/// Everything that a reader gets now: bytes, and how many it missed.
fn read(tail: &mut Tail, connection: u64) -> (Vec<u8>, u64) {
    let (mut all, mut gone) = (Vec::new(), 0);
    while let Some(frame) = tail.next(connection) {
        match frame {
            OutputFrame::Bytes { bytes, .. } => all.extend(bytes),
            OutputFrame::Missed { bytes, .. } => gone += bytes,
            OutputFrame::End => return (all, gone),
        }
    }
    (all, gone)
}

#[test]
fn a_reader_gets_as_much_of_the_past_as_it_asks_for() {
    for (wanted, text) in [(0, ""), (1, "f"), (4, "cdef"), (6, "abcdef"), (u32::MAX, "abcdef")] {
        let mut tail = Tail::default();
        push(&mut tail, b"abc");
        tail.push(OutputStream::Stderr, Timestamp(9), b"def");
        assert!(tail.attach(1, AttachFrom::Replay(wanted), Overflow::DropOldest).is_some());
        assert_eq!(read(&mut tail, 1), (text.as_bytes().to_vec(), 0), "{wanted}");
    }
}

#[test]
fn all_readers_get_all() {
    let mut tail = Tail::default();
    push(&mut tail, b"early ");
    for connection in 0..READERS_MAX as u64 {
        assert!(tail.attach(connection, ALL, Overflow::DropOldest).is_some());
    }
    assert!(tail.attach(99, ALL, Overflow::DropOldest).is_none(), "there is a limit");
    push(&mut tail, b"late");
    tail.finish();
    for connection in 0..READERS_MAX as u64 {
        assert_eq!(read(&mut tail, connection), (b"early late".to_vec(), 0));
        assert_eq!(tail.next(connection), None, "the end is told once");
    }
}

#[test]
fn who_falls_behind_is_told_exactly_what_it_missed() {
    let mut tail = Tail::default();
    assert!(tail.attach(1, NOW, Overflow::DropOldest).is_some());
    let chunk = vec![b'x'; 10_000];
    for _ in 0..100 {
        push(&mut tail, &chunk);
        assert!(!tail.is_full());
    }
    let Some(OutputFrame::Missed { bytes, first, last }) = tail.next(1) else { panic!("it missed some") };
    let (rest, gone) = read(&mut tail, 1);
    assert_eq!((bytes as usize + rest.len(), gone), (1_000_000, 0));
    assert!(rest.len() <= WINDOW_BYTES_MAX && rest.len() > WINDOW_BYTES_MAX - 10_000);
    // Stamps are 1, 2, 3, …: so many chunks.
    assert_eq!((first, last), (Timestamp(1), Timestamp((bytes / 10_000) as i64)));
}

#[test]
fn who_wants_to_miss_nothing_makes_the_buffer_full_until_it_reads() {
    let mut tail = Tail::default();
    assert!(
        tail.attach(1, NOW, Overflow::Block).is_some() && tail.attach(2, NOW, Overflow::DropOldest).is_some()
    );
    let (mut written, mut seen) = (0, Vec::new());
    while !tail.is_full() {
        push(&mut tail, &vec![b'x'; CHUNK_BYTES]);
        written += CHUNK_BYTES;
    }
    while let Some(OutputFrame::Bytes { bytes, .. }) = tail.next(1) {
        seen.extend(bytes);
        assert!(!tail.is_full());
    }
    assert_eq!(seen.len(), written);
    assert!(written <= WINDOW_BYTES_MAX);
    // Gone, it holds up nobody.
    while !tail.is_full() {
        push(&mut tail, b"y");
    }
    assert!(tail.detach(1));
    assert!(!tail.is_full());
}

proptest! {
    #[test]
    fn who_wants_to_miss_nothing_misses_nothing_whatever_comes(
        steps in proptest::collection::vec((1..=CHUNK_BYTES, 0_usize..4), 1..200),
    ) {
        let mut tail = Tail::default();
        prop_assert!(tail.attach(1, NOW, Overflow::Block).is_some());
        let (mut written, mut seen) = (0, 0);
        for (bytes, reads) in steps {
            if !tail.is_full() {
                push(&mut tail, &vec![b'x'; bytes]);
                written += bytes;
            }
            for _ in 0..reads {
                match tail.next(1) {
                    Some(OutputFrame::Bytes { bytes, .. }) => seen += bytes.len(),
                    Some(other) => prop_assert!(false, "{:?}", other),
                    None => {}
                }
            }
        }
        let (rest, gone) = read(&mut tail, 1);
        prop_assert_eq!((seen + rest.len(), gone), (written, 0));
    }
}

#[test]
fn without_readers_little_is_kept_in_few_pieces() {
    let mut tail = Tail::default();
    for _ in 0..200_000 {
        push(&mut tail, b"z");
    }
    assert!(tail.bytes <= REPLAY_BYTES_MAX && tail.chunks.len() <= 3, "{}", tail.chunks.len());
    assert!(tail.attach(1, ALL, Overflow::DropOldest).is_some());
    let (text, missed) = read(&mut tail, 1);
    assert!(
        text.len() > REPLAY_BYTES_MAX - CHUNK_BYTES - 1 && missed == 0,
        "what was gone before is not missed"
    );
}

#[test]
fn a_reader_goes_on_where_it_was() {
    let mut tail = Tail::default();
    push(&mut tail, b"0123456789");
    tail.push(OutputStream::Stderr, Timestamp(9), b"abcdef");
    for (position, text) in
        [(0, "0123456789abcdef"), (4, "456789abcdef"), (10, "abcdef"), (12, "cdef"), (16, "")]
    {
        assert_eq!(tail.attach(1, AttachFrom::Position(position), Overflow::DropOldest), Some(position));
        assert_eq!(read(&mut tail, 1), (text.as_bytes().to_vec(), 0), "{position}");
        assert!(tail.detach(1));
    }
    let beyond = tail.attach(1, AttachFrom::Position(99), Overflow::DropOldest);
    assert_eq!(beyond, Some(16), "that was another process of this name: from now on");
    assert!(tail.detach(1));
    for _ in 0..20 {
        push(&mut tail, &vec![b'x'; 10_000]);
    }
    let total = 16 + 200_000;
    assert_eq!(tail.attach(1, AttachFrom::Position(16), Overflow::DropOldest), Some(16));
    let (text, missed) = read(&mut tail, 1);
    assert_eq!(16 + missed + text.len() as u64, total, "what is gone is told");
    assert!(missed > 0 && !text.is_empty());
}

#[test]
fn stamps_rise_even_when_the_clock_does_not() {
    let mut tail = Tail::default();
    let stamps = [5, 5, 3, 9].map(|now| tail.stamp(Timestamp(now)).0);
    assert_eq!(stamps, [5, 6, 7, 9]);
}

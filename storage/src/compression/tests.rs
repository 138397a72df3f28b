//! Tests of decompression.

use std::io::{Read, Write};

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn inflate(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Decompressor::new(bytes, CompressionLimits::default())?.read_to_end(&mut out)?;
    Ok(out)
}

fn refusal(bytes: &[u8]) -> String {
    let error = inflate(bytes).expect_err("refused");
    CompressionError::inside(&error).expect("a typed error").to_string()
}

#[test]
fn mnt_12_compression_is_found_by_magic_and_members_are_concatenated() {
    let mut two = gzip(b"one ");
    two.extend(gzip(b"two"));
    assert_eq!(inflate(&two).unwrap(), b"one two");
    let mut frames = zstd::encode_all(&b"one "[..], 3).unwrap();
    frames.extend(zstd::encode_all(&b"two"[..], 3).unwrap());
    assert_eq!(inflate(&frames).unwrap(), b"one two");
    assert_eq!(inflate(b"plain").unwrap(), b"plain");
    assert_eq!(inflate(b"").unwrap(), b"");
    assert_eq!(inflate(b"\x1f\x8b").unwrap(), b"\x1f\x8b");
}

#[test]
fn other_compressions_are_named() {
    assert!(refusal(b"\xfd7zXZ\0rest").contains("xz"));
    assert!(refusal(b"BZh91AY&SYrest").contains("bzip2"));
}

#[test]
fn a_bomb_is_refused_long_before_it_is_over() {
    for bomb in [gzip(&vec![0; 256 << 20]), zstd::encode_all(io::repeat(0).take(256 << 20), 3).unwrap()] {
        let mut decompressor = Decompressor::new(&bomb[..], CompressionLimits::default()).unwrap();
        let error = io::copy(&mut decompressor, &mut io::sink()).expect_err("a bomb");
        let Some(CompressionError::Bomb { written, .. }) = CompressionError::inside(&error) else {
            panic!("{error}")
        };
        assert!(*written < 100 << 20, "{written}");
    }
}

#[test]
fn a_zstd_window_beyond_the_limit_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    let mut noise = vec![0u8; 1 << 20];
    getrandom::fill(&mut noise).unwrap();
    for _ in 0..20 {
        encoder.write_all(&noise).unwrap();
    }
    let stream = encoder.finish().unwrap();
    assert!(refusal(&stream).contains("damaged"));
    let wide = CompressionLimits { zstd_window_log_max: 27, ..CompressionLimits::default() };
    let mut out = Vec::new();
    Decompressor::new(&stream[..], wide).unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(out.len(), 20 << 20);
}

#[test]
fn cve_2021_20291_a_cut_or_damaged_stream_is_an_error_and_not_a_hang() {
    let whole = gzip(&b"some text ".repeat(1000));
    for cut in [4, 20, whole.len() - 1] {
        assert!(refusal(&whole[..cut]).contains("damaged"), "cut at {cut}");
    }
    let mut flipped = whole.clone();
    let end = flipped.len() - 6;
    flipped[end] ^= 1;
    assert!(refusal(&flipped).contains("damaged"));
    let frame = zstd::encode_all(&b"some text ".repeat(1000)[..], 3).unwrap();
    assert!(refusal(&frame[..frame.len() - 1]).contains("damaged"));
}

#[test]
fn a_failing_source_is_not_called_a_damaged_stream() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let whole = gzip(&b"some text ".repeat(1000));
    let source = (&whole[..30]).chain(Failing);
    let mut out = Vec::new();
    let error = Decompressor::new(source, CompressionLimits::default()).unwrap().read_to_end(&mut out);
    let error = error.expect_err("cut");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(CompressionError::inside(&error).is_none());
}

#[test]
fn garbage_after_the_last_member_is_damage_and_not_silence() {
    let mut stream = gzip(b"text");
    stream.extend_from_slice(b"garbage that is no member");
    assert!(refusal(&stream).contains("damaged"));
    let mut frames = zstd::encode_all(&b"text"[..], 3).unwrap();
    frames.extend_from_slice(b"garbage that is no frame");
    assert!(refusal(&frames).contains("damaged"));
}

#[test]
fn an_endless_gzip_header_is_refused() {
    // FNAME: a name up to a NUL byte that never comes.
    let header = [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
    let source = header.chain(io::repeat(b'a').take(1 << 40));
    let mut decompressor = Decompressor::new(source, CompressionLimits::default()).unwrap();
    let error = io::copy(&mut decompressor, &mut io::sink()).expect_err("endless");
    assert!(matches!(CompressionError::inside(&error), Some(CompressionError::Damaged { .. })), "{error}");
}

#[test]
fn a_frame_that_promises_a_terabyte_allocates_nothing_for_it() {
    // Magic; a header with an 8-byte content size and a 1 KiB window; no block.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0x00];
    frame.extend_from_slice(&(1u64 << 40).to_le_bytes());
    assert!(refusal(&frame).contains("damaged"));
    // Skippable frames alone are an empty stream, however large they say to be.
    let mut skippable = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(inflate(&skippable).unwrap(), b"");
    skippable[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(refusal(&skippable).contains("damaged"));
}

#[test]
fn a_bomb_of_many_small_members_is_one_bomb() {
    let member = gzip(&vec![0; 4 << 20]);
    let bomb = member.repeat(64);
    let mut decompressor = Decompressor::new(&bomb[..], CompressionLimits::default()).unwrap();
    let error = io::copy(&mut decompressor, &mut io::sink()).expect_err("a bomb");
    assert!(matches!(CompressionError::inside(&error), Some(CompressionError::Bomb { .. })), "{error}");
}

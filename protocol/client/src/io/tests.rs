//! FIFO sets and pumps, with a thread that plays the shim.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use super::*;

fn open(path: &str, write: bool) -> std::fs::File {
    std::fs::OpenOptions::new().read(!write).write(write).open(path).expect("opens")
}

#[test]
fn io_1_a_set_is_private_and_removed_on_drop() {
    let parent = tempfile::tempdir().expect("temporary directory");
    let fifos = Fifos::create(parent.path().join("fifo"), Ends::terminal()).expect("made");
    let stdio = fifos.stdio();
    assert!(stdio.terminal && stdio.stderr.is_none());
    let stdin = std::path::PathBuf::from(stdio.stdin.expect("a path"));
    assert!(std::fs::metadata(&stdin).expect("exists").file_type().is_fifo());
    let directory = stdin.parent().expect("a parent").to_owned();
    assert_eq!(std::fs::metadata(&directory).expect("exists").permissions().mode() & 0o7777, 0o700);
    drop(fifos);
    assert!(!directory.exists());
}

#[tokio::test]
async fn io_2_bytes_flow_both_ways_and_end() {
    let parent = tempfile::tempdir().expect("temporary directory");
    let fifos = Fifos::create(parent.path(), Ends::streams()).expect("made");
    let stdio = fifos.stdio();
    let (mine, theirs) = tokio::io::duplex(1 << 20);
    let mut pump =
        Pump::attach(fifos, Some(&b"question"[..]), Some(theirs), None::<tokio::io::Sink>).expect("attaches");
    let shim = std::thread::spawn(move || {
        let mut question = [0; 8];
        open(&stdio.stdin.expect("stdin"), false).read_exact(&mut question).expect("reads");
        let mut out = open(&stdio.stdout.expect("stdout"), true);
        open(&stdio.stderr.expect("stderr"), true).write_all(b"thrown away").expect("writes");
        out.write_all(&question).expect("writes");
        out.write_all(&vec![b'x'; 300_000]).expect("writes more than a pipe holds");
    });
    pump.input_ended().await;
    tokio::task::spawn_blocking(|| shim.join().expect("shim")).await.expect("joins");
    pump.started();
    pump.drained().await.expect("drained");
    let mut all = Vec::new();
    let mut mine = mine;
    tokio::io::AsyncReadExt::read_to_end(&mut mine, &mut all).await.expect("reads");
    assert_eq!((&all[..8], all.len()), (&b"question"[..], 300_008));
}

#[tokio::test]
async fn input_that_ends_before_the_shim_has_opened_its_side_is_kept() {
    let parent = tempfile::tempdir().expect("temporary directory");
    let fifos = Fifos::create(parent.path(), Ends::streams()).expect("made");
    let stdio = fifos.stdio();
    let mut pump = Pump::attach(fifos, Some(&b"early"[..]), None::<tokio::io::Sink>, None::<tokio::io::Sink>)
        .expect("attaches");
    pump.input_ended().await;
    let mut stdin = open(&stdio.stdin.expect("stdin"), false);
    pump.started();
    let mut all = String::new();
    stdin.read_to_string(&mut all).expect("reads to the end");
    assert_eq!(all, "early");
}

#[tokio::test]
async fn output_does_not_end_before_the_shim_has_opened_its_side() {
    let parent = tempfile::tempdir().expect("temporary directory");
    let fifos = Fifos::create(parent.path(), Ends::output()).expect("made");
    let stdio = fifos.stdio();
    let (mut mine, theirs) = tokio::io::duplex(64);
    let mut pump = Pump::attach(fifos, None::<tokio::io::Empty>, Some(theirs), None::<tokio::io::Sink>)
        .expect("attaches");
    // Several turns of the copy's task: it must find the FIFO empty, not ended.
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
    let mut out = open(&stdio.stdout.expect("stdout"), true);
    pump.started();
    out.write_all(b"late").expect("writes");
    drop(out);
    pump.drained().await.expect("drained");
    let mut all = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut mine, &mut all).await.expect("reads");
    assert_eq!(all, "late");
}

#[tokio::test]
async fn io_9_dropping_a_pump_stops_its_copies() {
    let parent = tempfile::tempdir().expect("temporary directory");
    let fifos = Fifos::create(parent.path(), Ends::streams()).expect("made");
    let pump =
        Pump::attach(fifos, Some(tokio::io::empty()), Some(tokio::io::sink()), Some(tokio::io::sink()))
            .expect("attaches");
    drop(pump);
    assert_eq!(std::fs::read_dir(parent.path()).expect("lists").count(), 0);
}

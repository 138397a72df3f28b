//! Reader against a writer of the same format that rotates as the shim does.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bosun_types::Timestamp;
use bosun_types::stdio::OutputStream;
use futures::FutureExt as _;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;

/// Writes records and rotates, as `bosun-shim` does.
struct Writer {
    path: PathBuf,
    files_max: u32,
    file: File,
    clock: i64,
}

impl Writer {
    fn new(path: &Path, files_max: u32) -> Self {
        let file = File::options().append(true).create(true).open(path).unwrap();
        Self { path: path.to_owned(), files_max, file, clock: 0 }
    }

    fn record(&mut self, stream: &str, tag: &str, text: &str) {
        self.clock += 1;
        writeln!(self.file, "{} {stream} {tag} {text}", Timestamp(self.clock)).unwrap();
    }

    fn line(&mut self, text: &str) {
        self.record("stdout", "F", text);
    }

    fn rotate(&mut self) {
        let old = |number: u32| match number {
            0 => self.path.clone(),
            _ => format!("{}.{number}", self.path.display()).into(),
        };
        let _ = fs::remove_file(old(self.files_max - 1));
        for number in (0..self.files_max - 1).rev() {
            let _ = fs::rename(old(number), old(number + 1));
        }
        self.file = File::options().append(true).create(true).open(&self.path).unwrap();
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.log");
    (directory, path)
}

fn never() -> BoxFuture<'static, ()> {
    futures::future::pending().boxed()
}

async fn next(records: &mut mpsc::Receiver<Result<LogRecord>>) -> Option<String> {
    let record = tokio::time::timeout(Duration::from_secs(20), records.recv()).await.expect("it hangs");
    record.map(|record| String::from_utf8(record.unwrap().bytes).unwrap())
}

async fn all(path: &Path, request: LogRequest) -> Vec<String> {
    let mut records = read(path.to_owned(), request, never());
    let mut texts = Vec::new();
    while let Some(text) = next(&mut records).await {
        texts.push(text);
    }
    texts
}

fn tail(lines: u64) -> LogRequest {
    LogRequest { tail_lines: Some(lines), ..LogRequest::default() }
}

#[tokio::test]
async fn rotated_files_are_read_from_the_oldest_on() {
    let (_directory, path) = place();
    let mut writer = Writer::new(&path, 3);
    for number in 0..8 {
        writer.line(&number.to_string());
        if number % 2 == 1 {
            writer.rotate();
        }
    }
    // Three files are kept, the newest is empty: 0 to 3 are gone.
    assert_eq!(all(&path, LogRequest::default()).await, ["4\n", "5\n", "6\n", "7\n"]);
    assert_eq!(all(&path, tail(3)).await, ["5\n", "6\n", "7\n"]);
    assert_eq!(all(&path, tail(0)).await, Vec::<String>::new());
    assert_eq!(all(&path, tail(u64::MAX)).await.len(), 4);
    let since = LogRequest { since: Some(Timestamp(7)), ..LogRequest::default() };
    assert_eq!(all(&path, since).await, ["6\n", "7\n"]);
}

#[tokio::test]
async fn a_line_in_parts_counts_once_even_between_lines_of_the_other_stream() {
    let (_directory, path) = place();
    let mut writer = Writer::new(&path, 1);
    writer.line("old");
    writer.record("stdout", "P", "be");
    writer.record("stderr", "F", "other");
    writer.record("stdout", "F", "gin");
    writer.record("stdout", "P", "prompt> ");
    assert_eq!(all(&path, tail(3)).await, ["be", "other\n", "gin\n", "prompt> "]);
    assert_eq!(all(&path, tail(1)).await, ["prompt> "]);
}

#[tokio::test]
async fn a_log_that_is_not_there_is_empty_and_damage_hides_only_itself() {
    let (directory, path) = place();
    assert!(all(&directory.path().join("no/such.log"), LogRequest::default()).await.is_empty());
    let mut writer = Writer::new(&path, 1);
    writer.line("one");
    writer.file.write_all(b"rubbish\n\xff\xfe\n").unwrap();
    writer.file.write_all(&vec![b'x'; 300 << 10]).unwrap();
    writer.file.write_all(b"\n").unwrap();
    writer.line("two");
    writer.file.write_all(b"1970-01-01T00:00:01Z stdout F half").unwrap();
    assert_eq!(all(&path, LogRequest::default()).await, ["one\n", "two\n"]);
}

#[tokio::test]
async fn a_follower_waits_for_the_file_goes_with_the_rotation_and_ends_with_the_process() {
    let (directory, _) = place();
    let path = directory.path().join("later/c.log");
    let (done, ended) = oneshot::channel::<()>();
    let request = LogRequest { follow: true, ..LogRequest::default() };
    let mut records = read(path.clone(), request, ended.map(drop).boxed());
    assert!(records.recv().now_or_never().is_none());
    fs::create_dir(directory.path().join("later")).unwrap();
    let mut writer = Writer::new(&path, 3);
    writer.line("first");
    assert_eq!(next(&mut records).await.unwrap(), "first\n");
    writer.line("second");
    writer.rotate();
    writer.rotate();
    writer.line("third");
    assert_eq!(next(&mut records).await.unwrap(), "second\n");
    assert_eq!(next(&mut records).await.unwrap(), "third\n");
    writer.line("last");
    done.send(()).unwrap();
    assert_eq!(next(&mut records).await.unwrap(), "last\n");
    assert_eq!(next(&mut records).await, None);
}

#[tokio::test]
async fn a_record_is_given_only_when_it_is_whole() {
    let (_directory, path) = place();
    let mut writer = Writer::new(&path, 1);
    let request = LogRequest { follow: true, ..LogRequest::default() };
    let mut records = read(path.clone(), request, never());
    writer.line("one");
    assert_eq!(next(&mut records).await.unwrap(), "one\n");
    writer.file.write_all(b"1970-01-01T00:00:01Z stderr F ha").unwrap();
    writer.file.write_all(b"lf\n").unwrap();
    assert_eq!(next(&mut records).await.unwrap(), "half\n");
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_following() {
    let (_directory, path) = place();
    let request = LogRequest { follow: true, ..LogRequest::default() };
    let (left, mut gone) = oneshot::channel::<()>();
    let holds = async move {
        let _left = left;
        futures::future::pending::<()>().await;
    };
    drop(read(path, request, holds.boxed()));
    // The future `done` is dropped with the task that reads.
    let waited = tokio::time::timeout(Duration::from_secs(20), &mut gone).await;
    assert!(waited.is_ok_and(|it| it.is_err()));
}

#[derive(Debug, Clone)]
enum Step {
    Line(u8),
    Part(u8),
    Rotate,
    Yield,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u8>().prop_map(Step::Line),
        2 => any::<u8>().prop_map(Step::Part),
        2 => Just(Step::Rotate),
        2 => Just(Step::Yield),
    ];
    proptest::collection::vec(step, 0..60)
}

/// Performs the steps; what a reader of everything must see. Rotation only between whole lines, as the shim does it.
async fn perform(writer: &mut Writer, steps: &[Step]) -> Vec<(OutputStream, String)> {
    let mut expected = Vec::new();
    let mut partial = false;
    for step in steps {
        match step {
            Step::Line(number) => {
                writer.record("stdout", "F", &number.to_string());
                expected.push((OutputStream::Stdout, format!("{number}\n")));
                partial = false;
            }
            Step::Part(number) => {
                writer.record("stdout", "P", &number.to_string());
                expected.push((OutputStream::Stdout, number.to_string()));
                partial = true;
            }
            Step::Rotate if !partial => writer.rotate(),
            Step::Rotate => {}
            Step::Yield => tokio::task::yield_now().await,
        }
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn writer_rotation_and_follower_agree(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let (_directory, path) = place();
            // So many files that none is lost.
            let mut writer = Writer::new(&path, 100);
            let (done, ended) = oneshot::channel::<()>();
            let request = LogRequest { follow: true, ..LogRequest::default() };
            let mut records = read(path.clone(), request, ended.map(drop).boxed());
            let expected = perform(&mut writer, &steps).await;
            done.send(()).unwrap();
            let mut seen = Vec::new();
            while let Some(record) = records.recv().await {
                let record = record.unwrap();
                seen.push((record.stream, String::from_utf8(record.bytes).unwrap()));
            }
            assert_eq!(seen, expected);
            let again: Vec<String> = expected.into_iter().map(|(_, text)| text).collect();
            assert_eq!(all(&path, LogRequest::default()).await, again);
        });
    }
}

//! Messages to the daemon's socket: what a real client says, changed frame by frame, word by word and byte by byte. Each input is a connection of
//! its own; the daemon closes it in time, serves everybody else, and does not grow.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use bosun_client::{Client, ConnectOptions};
use bosun_tests::client::namespace;
use bosun_tests::world::{DEADLINE, World};
use bosun_types::content::Descriptor;
use bosun_types::image::ImageRecord;
use bosun_types::{Digest, ImageName, Labels, NamespaceName, SnapshotKey, Timestamp};
use bytes::Bytes;

use super::engine::{Random, Target, as_it_is};

/// The daemon's resident memory at most, in kilobytes. It is a build for tests; a message that claims to be large must not make it so.
const RESIDENT_KB_MAX: u64 = 512 << 10;
/// Segments of one message that are looked at.
const SEGMENTS_MAX: usize = 512;
/// Numbers at which pointers, counts and lists turn, in words of a message.
const WORDS: [u64; 12] = [
    0,
    1,
    u64::MAX,
    1 << 63,
    0xffff_ffff,
    0x7fff_fffc,
    // A struct pointer that points at itself, and one far behind the end.
    0xffff_ffff_ffff_fffc,
    0x0001_0001_7fff_fffc,
    // Lists: of bytes, of structs, of nothing, half a billion long.
    0xffff_fffa_0000_0001,
    0xffff_ffff_0000_0001,
    0xffff_fff8_0000_0001,
    // Far, to a segment that is not there.
    0x0000_00ff_0000_0006,
];

/// The frames of a stream: for each the words of its segments. What is no whole frame is left out.
fn frames(mut stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    let number = |bytes: &[u8], at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    while let Some(count) = number(stream, 0).map(|count| count.saturating_add(1)) {
        if count > SEGMENTS_MAX {
            break;
        }
        let mut at = (4 + 4 * count).next_multiple_of(8);
        let mut segments = Vec::new();
        for segment in 0..count {
            let words = number(stream, 4 + 4 * segment).unwrap_or(usize::MAX);
            let end = words.checked_mul(8).and_then(|bytes| at.checked_add(bytes));
            let Some(segment) = end.and_then(|end| stream.get(at..end)) else { return frames };
            segments.push(segment.to_vec());
            at += segment.len();
        }
        frames.push(segments);
        stream = &stream[at..];
    }
    frames
}

fn stream_of(frames: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut stream = Vec::new();
    for segments in frames {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        stream.extend(number(segments.len().saturating_sub(1)));
        segments.iter().for_each(|segment| stream.extend(number(segment.len() / 8)));
        stream.resize(stream.len().next_multiple_of(8), 0);
        segments.iter().for_each(|segment| stream.extend_from_slice(segment));
    }
    stream
}

/// Changes one frame, and leaves every other, and all framing, whole.
fn change(stream: &mut Vec<u8>, random: &mut Random) {
    let mut frames = frames(stream);
    if frames.is_empty() {
        return;
    }
    let at = random.below(frames.len());
    match random.below(8) {
        0 => {
            let (again, to) = (frames[at].clone(), random.below(frames.len() + 1));
            frames.insert(to, again);
        }
        1 => drop(frames.remove(at)),
        2 => {
            let other = random.below(frames.len());
            frames.swap(at, other);
        }
        3 => {
            // What was one segment is two: pointers from the first lead behind its end.
            let segment = random.below(frames[at].len());
            let whole = &mut frames[at][segment];
            let cut = random.below(whole.len() / 8 + 1) * 8;
            let rest = whole.split_off(cut);
            frames[at].push(rest);
        }
        4 => {
            let segment = random.below(frames[at].len());
            let more = random.below(64 << 10) * 8;
            let length = frames[at][segment].len();
            frames[at][segment].resize(length + more, 0);
        }
        _ => change_word(&mut frames[at], random),
    }
    *stream = stream_of(&frames);
}

fn change_word(segments: &mut [Vec<u8>], random: &mut Random) {
    let segment = random.below(segments.len());
    let count = segments[segment].len() / 8;
    if count == 0 {
        return;
    }
    let (at, from) = (random.below(count) * 8, random.below(count) * 8);
    let old = u64::from_le_bytes(segments[segment][at..at + 8].try_into().expect("eight bytes"));
    let new = match random.below(5) {
        0 => WORDS[random.below(WORDS.len())],
        1 => u64::from_le_bytes(segments[segment][from..from + 8].try_into().expect("eight bytes")),
        // Another kind of pointer to the same place; another place for the same kind; another method, question or union.
        2 => old ^ (random.next() & 3),
        3 => old.wrapping_add((random.next() % 17) << 2).wrapping_sub(8 << 2),
        _ => old ^ (1 << (random.next() % 64)),
    };
    segments[segment][at..at + 8].copy_from_slice(&new.to_le_bytes());
}

/// Between a client and the daemon: gives what the client said when it has hung up.
fn listen(path: &Path, daemon: PathBuf) -> JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(path).expect("binds");
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("accepts");
        let mut server = UnixStream::connect(daemon).expect("connects");
        let (mut answers, mut back) =
            (server.try_clone().expect("clones"), client.try_clone().expect("clones"));
        std::thread::spawn(move || {
            // Ends with either of them.
            let _ = std::io::copy(&mut answers, &mut back);
        });
        let (mut said, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match client.read(&mut buffer) {
                Ok(0) | Err(_) => return said,
                Ok(length) => {
                    said.extend_from_slice(&buffer[..length]);
                    server.write_all(&buffer[..length]).expect("forwards");
                }
            }
        }
    })
}

/// A little of every noun that needs no process.
async fn talk(client: &Client) -> bosun_types::Result<()> {
    client.status().await?;
    client.namespaces_where("labels.a!=b").await?;
    let space = namespace(client);
    let now = Timestamp::now();
    let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
    let target = Descriptor { media_type, digest: Digest::from_bytes([7; 32]), size: 7 };
    let name = ImageName::new("fuzz.local/a:1")?;
    let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
    let image = ImageRecord {
        namespace: NamespaceName::default_name(),
        name,
        labels,
        target,
        created_at: now,
        updated_at: now,
    };
    space.images().create(image.clone()).await?;
    space.images().update(image.clone(), &["labels.a"]).await?;
    space.images().list_where("name~=fuzz,labels.a==b").await?;
    space.images().delete(image.name).await?;
    let lease = space.leases().create(None, Labels::new()).await?;
    let mut writer = space.with_lease(lease.id.clone()).content().writer("fuzz".to_owned(), 0, None).await?;
    writer.write(Bytes::from_static(b"some bytes")).await?;
    let blob = writer.commit(0, None, Labels::new()).await?;
    space.content().read_all(blob.digest, 1 << 10).await?;
    space.content().statuses().await?;
    space.default_snapshots().prepare(SnapshotKey::new("fuzz")?, None, Labels::new()).await?;
    space.default_snapshots().remove(SnapshotKey::new("fuzz")?).await?;
    space.containers().list().await?;
    space.transfers().list().await?;
    client.collect_garbage(true).await?;
    space.leases().delete(lease.id).await
}

/// One connection; the daemon ends it.
fn throw(socket: &Path, bytes: &[u8]) {
    let mut stream = UnixStream::connect(socket).expect("it serves");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
    // It may close before it has read everything: that is its right.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "not closed in {DEADLINE:?}");
    }
}

fn resident_kilobytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn messages_of_a_client_that_means_harm_end_their_connection_and_nothing_else() {
    let world = World::new();
    let mut daemon = world.start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let recorder = world.path("recorder");
    let recording = listen(&recorder, world.address());
    runtime.block_on(async {
        let options = ConnectOptions {
            address: recorder,
            connect_deadline: DEADLINE,
            call_deadline: DEADLINE,
            ..ConnectOptions::default()
        };
        talk(&Client::connect(options).await.expect("connects")).await.expect("a session");
    });
    let session = recording.join().expect("recorded");
    assert!(frames(&session).len() > 20 && stream_of(&frames(&session)) == session, "whole frames");
    if std::env::var("BOSUN_GOLDEN").is_ok_and(|value| value == "write") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/rpc");
        std::fs::create_dir_all(&folder).expect("makes");
        std::fs::write(folder.join("session"), &session).expect("writes");
    }
    let client = runtime.block_on(world.client());
    let socket = world.address();
    let target =
        Target { name: "rpc", inputs: vec![session], words: &[], mend: as_it_is, change: Some(change) };
    let mut count = 0;
    target.run(|input| {
        throw(&socket, input);
        count += 1;
        if count % 64 == 0 {
            assert!(!daemon.has_ended(), "{}", world.log());
            runtime.block_on(client.status()).expect("serves others");
        }
    });
    runtime.block_on(client.status()).expect("serves on");
    let resident = resident_kilobytes(daemon.pid());
    assert!(resident < RESIDENT_KB_MAX, "{resident} kB");
    assert!(!world.log().contains("panicked"), "{}", world.log());
}

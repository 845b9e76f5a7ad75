//! The two cases in which content changes and the times of the file do not tell. The scan cache must not believe them.
#![allow(clippy::unwrap_used)]

mod world;

use std::fs::{self, File, FileTimes, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use world::{World, full_digest};

/// A world on the disk that cargo builds on: on a file system in memory nothing is believed anyhow.
fn on_disk() -> World {
    World::on(None, Path::new(env!("CARGO_TARGET_TMPDIR")))
}

/// Replaces the content by as many bytes, and puts the modification time back.
fn rewrite_in_silence(path: &Path, byte: u8) {
    let before = fs::metadata(path).unwrap();
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(&vec![byte; before.len() as usize]).unwrap();
    file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
    let after = fs::metadata(path).unwrap();
    assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
}

/// Expects that the next snapshot has the state as it is now.
#[track_caller]
fn expect_captured(world: &World) {
    let done = world.snapshot();
    let now = full_digest(&world.state());
    assert_eq!(done.outcome.body.private.trees[0].full_digest.to_string(), now);
    assert_eq!(world.restored(&world.node(), &world.store(), done.committed.seq).unwrap(), now);
}

#[test]
fn a_file_rewritten_right_after_it_was_read_is_captured() {
    let world = on_disk();
    world.write("file", vec![b'a'; 5000]);
    let mut byte = b'a';
    for _ in 0..10 {
        world.snapshot();
        byte += 1;
        rewrite_in_silence(&world.state().join("file"), byte);
        expect_captured(&world);
    }
}

/// Makes the scan caches say that they saw the file with the change time that it has now, as on a file system whose
/// clock did not tick between the read and the write. (Linux 6.13 gives the common ones a finer clock, so a test cannot
/// wait for it.)
fn as_in_the_same_tick(world: &World, before: &Metadata, after: &Metadata) {
    let ctime = |stat: &Metadata| [&stat.ctime().to_le_bytes()[..], &(stat.ctime_nsec() as u32).to_le_bytes()].concat();
    let (before, after) = (ctime(before), ctime(after));
    assert_ne!(before, after, "the clock ticked");
    for cache in fs::read_dir(world.node().cache().join("scan")).unwrap() {
        let path = cache.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        // The first block begins after 16 bytes: two lengths, eight bytes of a hash, leaf and rows.
        let length = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let end = 32 + length(16) + length(20);
        let places: Vec<usize> =
            bytes[..end].windows(before.len()).enumerate().filter(|(_, w)| *w == before).map(|(at, _)| at).collect();
        assert_eq!(places.len(), 1, "the cache knows the file");
        bytes[places[0]..places[0] + after.len()].copy_from_slice(&after);
        let hash = blake3::hash(&bytes[32..end]);
        bytes[24..32].copy_from_slice(&hash.as_bytes()[..8]);
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_file_rewritten_within_the_clock_tick_after_it_was_read_is_captured() {
    let world = on_disk();
    let path = world.state().join("file");
    let ctime = |path: &Path| fs::metadata(path).map(|stat| (stat.ctime(), stat.ctime_nsec())).unwrap();
    // The directory must not have the same change time.
    while !path.exists() || ctime(&path) == ctime(&world.state()) {
        fs::write(&path, vec![b'a'; 5000]).unwrap();
    }
    world.snapshot();
    let before = fs::metadata(&path).unwrap();
    rewrite_in_silence(&path, b'b');
    as_in_the_same_tick(&world, &before, &fs::metadata(&path).unwrap());
    expect_captured(&world);
}

#[test]
fn a_file_rewritten_all_the_time_while_it_is_read_is_captured_in_the_end() {
    let world = on_disk();
    let path = world.state().join("file");
    fs::write(&path, vec![b'a'; 5000]).unwrap();
    for _ in 0..10 {
        // A snapshot reads while the file is rewritten without a pause, so the last write before the end of the writing
        // can fall into any tick, also that of the read.
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for byte in (b'a'..=b'z').cycle() {
                    rewrite_in_silence(&path, byte);
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
            world.snapshot();
            stop.store(true, Ordering::SeqCst);
        });
        expect_captured(&world);
    }
}

/// Maps a file, stores through the mapping, and stores again when told to.
const MAPPER: &str = "
import mmap, sys
with open(sys.argv[1], 'r+b') as file:
    page = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED)
for letter in sys.stdin.buffer.raw:
    page[100] = letter[0]
    sys.stdout.write('stored\\n')
    sys.stdout.flush()
";

#[test]
fn a_store_through_mmap_to_a_dirty_page_is_captured() {
    let world = on_disk();
    let path = world.state().join("file");
    fs::write(&path, vec![b'a'; 8192]).unwrap();
    let mut mapper = Command::new("python3")
        .args(["-u", "-c", MAPPER])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let (mut orders, mut answers) = (mapper.stdin.take().unwrap(), mapper.stdout.take().unwrap());
    let mut store = |letter: u8| {
        orders.write_all(&[letter, b'\n']).unwrap();
        let mut answer = [0; 7];
        answers.read_exact(&mut answer).unwrap();
        let stat = fs::metadata(&path).unwrap();
        (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec())
    };
    // The first store makes the page dirty and leaves its trace in the times.
    let traced = store(b'b');
    world.snapshot();
    // The second leaves none: the page is still dirty. The kernel may have written it back in between; then again.
    let mut silent = false;
    for letter in b'c'..=b'z' {
        let (before, after) = (store(letter - 1), store(letter));
        silent |= before == after;
        expect_captured(&world);
    }
    assert!(silent, "no store left the times as they were, {traced:?}: this file system shows all of them");
    drop(orders);
    mapper.wait().unwrap();
}

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use proptest::prelude::*;

use crate::ledger::Scratch;

use super::*;

const BLOCK: usize = 4096;

/// A disk in memory, which may be full for now, and unreadable.
#[derive(Debug, Default)]
struct Plate {
    full: AtomicBool,
    bad: AtomicBool,
    files: AtomicU64,
    most_files: AtomicU64,
}

struct Sheet(Arc<Plate>, Arc<Mutex<Vec<u8>>>);

impl Scratch for Sheet {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        let mut sheet = self.1.lock().unwrap();
        sheet.resize(at, 0);
        // A disk that gets full takes a part.
        if self.0.full.load(Ordering::Relaxed) {
            sheet.extend(&bytes[..bytes.len() / 2]);
            return Err(io::ErrorKind::StorageFull.into());
        }
        sheet.extend(bytes);
        Ok(())
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        if self.0.bad.load(Ordering::Relaxed) {
            return Err(io::Error::other("bad sector"));
        }
        let at = usize::try_from(at).unwrap();
        into.copy_from_slice(&self.1.lock().unwrap()[at..at + into.len()]);
        Ok(())
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        self.0.files.fetch_sub(1, Ordering::Relaxed);
    }
}

fn store(plate: &Arc<Plate>, limit: u64) -> Store {
    let plate = Arc::clone(plate);
    let make = move || -> io::Result<Segment> {
        let files = plate.files.fetch_add(1, Ordering::Relaxed) + 1;
        plate.most_files.fetch_max(files, Ordering::Relaxed);
        Ok(Box::new(Sheet(Arc::clone(&plate), Arc::default())))
    };
    Store::with("plate".into(), limit, Arc::new(make))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.enable_all().start_paused(true).build().unwrap().block_on(future)
}

/// Lets the disk do what is begun, and whatever follows from that.
async fn settle(spool: &mut Spool, now: Duration) -> io::Result<()> {
    poll_fn(|cx| match spool.poll_disk(cx, now) {
        Ok(()) if matches!(spool.disk, Disk::Idle(_)) => Poll::Ready(Ok(())),
        Ok(()) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

/// Fills in as many of these bytes as there is room for, and says how many.
fn put(spool: &mut Spool, bytes: &[u8]) -> usize {
    let Some(room) = spool.room() else { return 0 };
    let count = room.len().min(bytes.len());
    room[..count].copy_from_slice(&bytes[..count]);
    spool.filled(count);
    count
}

#[derive(Clone, Debug)]
enum Step {
    /// So many bytes come.
    Put(usize),
    /// There is room for so many.
    Take(usize),
    /// The disk is looked at, and not waited for.
    Poll,
    /// The disk is waited for.
    Settle,
    /// The disk is full, or is so no more, and a second goes by.
    Full(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..2 * BLOCK).prop_map(Step::Put),
        4 => (1..2 * BLOCK).prop_map(Step::Take),
        2 => Just(Step::Poll),
        3 => Just(Step::Settle),
        1 => any::<bool>().prop_map(Step::Full),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes goes out again, in order and once; what there is no room for is left where it was.
    #[test]
    fn it_is_a_queue(steps in steps(), blocks in 0_u64..40) {
        let plate = Arc::new(Plate::default());
        let store = store(&plate, blocks * BLOCK as u64);
        block_on(async {
            let mut spool = store.spool(BLOCK);
            let (mut model, mut next) = (VecDeque::new(), 0_u32);
            let mut now = Duration::ZERO;
            let take = |spool: &mut Spool, model: &mut VecDeque<u8>, size| {
                let mut into = vec![0; size];
                let count = spool.take(&mut into);
                let expected: Vec<u8> = model.drain(..count).collect();
                assert_eq!(&into[..count], expected);
                count
            };
            for step in steps {
                match step {
                    Step::Put(size) => {
                        let bytes: Vec<u8> =
                            (next..).flat_map(u32::to_le_bytes).take(size).collect();
                        next = next.wrapping_add(7919);
                        let count = put(&mut spool, &bytes);
                        model.extend(&bytes[..count]);
                    }
                    Step::Take(size) => drop(take(&mut spool, &mut model, size)),
                    Step::Poll => {
                        spool.poll_disk(&mut Context::from_waker(Waker::noop()), now).unwrap();
                    }
                    Step::Settle => settle(&mut spool, now).await.unwrap(),
                    Step::Full(full) => {
                        plate.full.store(full, Ordering::Relaxed);
                        now += AGAIN;
                    }
                }
                assert_eq!(spool.len(), model.len() as u64);
                let used = store.allowance().used();
                assert!(used <= store.allowance().limit(), "{used}");
                // Besides what waits a file that is being read is in use.
                let size = (store.allowance().limit() / 128).max(BLOCK as u64);
                assert!(used <= spool.len() + size, "{used} for {}", spool.len());
            }
            while !spool.is_empty() {
                settle(&mut spool, now).await.unwrap();
                assert!(take(&mut spool, &mut model, BLOCK) > 0, "what is queued can be had");
            }
            assert!(model.is_empty() && spool.head.bytes.is_empty() && spool.spare.is_empty());
        });
        assert_eq!(store.allowance().used(), 0);
        assert_eq!(plate.files.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_small_lag_takes_a_small_room_however_long_it_lasts() {
    let plate = Arc::new(Plate::default());
    let store = store(&plate, 1 << 30);
    block_on(async {
        let mut spool = store.spool(BLOCK);
        let (bytes, mut into) = (vec![7; BLOCK], vec![0; BLOCK]);
        for round in 0..20_000 {
            assert_eq!(put(&mut spool, &bytes), BLOCK);
            settle(&mut spool, Duration::ZERO).await.unwrap();
            if round > 5 {
                assert_eq!(spool.take(&mut into), BLOCK);
            }
        }
        assert!(store.allowance().used() <= (1 << 30) / 128 + 10 * BLOCK as u64);
    });
    assert_eq!(plate.most_files.load(Ordering::Relaxed), 2);
}

#[test]
fn two_sources_share_what_may_be_used() {
    let store = store(&Arc::default(), 4 * BLOCK as u64);
    block_on(async {
        let (mut one, mut other) = (store.spool(BLOCK), store.spool(BLOCK));
        let (bytes, mut into) = (vec![7; BLOCK], vec![0; BLOCK]);
        for spool in [&mut one, &mut other] {
            while put(spool, &bytes) > 0 {
                settle(spool, Duration::ZERO).await.unwrap();
            }
        }
        // Beside the head, a block that could not be written and the tail.
        assert_eq!((one.len(), other.len()), (7 * BLOCK as u64, 3 * BLOCK as u64));
        assert!(matches!(other.full(), Some(NoRoom::Limit)));
        while one.take(&mut into) > 0 {
            settle(&mut one, Duration::ZERO).await.unwrap();
        }
        settle(&mut other, AGAIN).await.unwrap();
        assert!(other.full().is_none() && other.room().is_some());
    });
}

#[test]
fn what_a_disk_does_not_take_waits_and_goes_on() {
    let plate = Arc::new(Plate::default());
    let store = store(&plate, 1 << 20);
    block_on(async {
        let mut spool = store.spool(BLOCK);
        let bytes = vec![7; BLOCK];
        plate.full.store(true, Ordering::Relaxed);
        while put(&mut spool, &bytes) > 0 {
            settle(&mut spool, Duration::ZERO).await.unwrap();
        }
        assert!(matches!(spool.full(), Some(NoRoom::Disk(_))));
        plate.full.store(false, Ordering::Relaxed);
        settle(&mut spool, AGAIN / 2).await.unwrap();
        assert!(spool.full().is_some(), "a disk that failed is left alone for a while");
        settle(&mut spool, AGAIN).await.unwrap();
        assert!(spool.full().is_none());
    });
}

#[test]
fn a_disk_that_loses_what_it_was_given_is_an_error() {
    let plate = Arc::new(Plate::default());
    let store = store(&plate, 1 << 20);
    block_on(async {
        let mut spool = store.spool(BLOCK);
        let (bytes, mut into) = (vec![7; BLOCK], vec![0; BLOCK]);
        for _ in 0..5 {
            put(&mut spool, &bytes);
            settle(&mut spool, Duration::ZERO).await.unwrap();
        }
        plate.bad.store(true, Ordering::Relaxed);
        assert_eq!(spool.take(&mut into), BLOCK);
        assert!(settle(&mut spool, Duration::ZERO).await.is_err());
        assert!(settle(&mut spool, Duration::ZERO).await.is_err(), "for good");
    });
    assert_eq!(store.allowance().used(), 0);
}

#[test]
fn a_disk_tells_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let there = Space::of(folder.path()).unwrap();
    assert!(there.free > 0);
    let later = Space::of(&folder.path().join("not/yet")).unwrap();
    assert_eq!(later.in_memory, there.in_memory);
    assert!(
        Space::of(Path::new("/dev/shm")).is_ok_and(|space| space.in_memory)
            || !cfg!(target_os = "linux")
    );
}

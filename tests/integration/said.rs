//! What a process says on a pipe, read while it runs.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What came over a pipe so far. A thread reads it, so that a full pipe never holds the process up.
#[derive(Clone)]
pub(crate) struct Said(Arc<Shared>);

#[derive(Default)]
struct Shared {
    text: Mutex<Text>,
    more: Condvar,
}

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl Said {
    pub(crate) fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let said = Self(Arc::new(Shared::default()));
        let shared = Arc::clone(&said.0);
        thread::spawn(move || {
            let mut some = vec![0; 1 << 14];
            loop {
                // A pipe that breaks has ended.
                let count = pipe.read(&mut some).unwrap_or(0);
                let mut text = shared.text.lock().unwrap();
                text.bytes.extend_from_slice(&some[..count]);
                text.is_whole = count == 0;
                shared.more.notify_all();
                if text.is_whole {
                    return;
                }
            }
        });
        said
    }

    /// Waits until it is whole: that is when the process has ended. `None` when `patience` is over.
    pub(crate) fn whole(&self, patience: Duration) -> Option<String> {
        self.wait(patience, |text| text.is_whole).then(|| self.so_far())
    }

    /// Waits until these words stand in it; `false` when it is whole without them, or `patience` is over.
    pub(crate) fn wait_for(&self, words: &str, patience: Duration) -> bool {
        let has = |text: &Text| String::from_utf8_lossy(&text.bytes).contains(words);
        self.wait(patience, |text| text.is_whole || has(text)) && self.so_far().contains(words)
    }

    pub(crate) fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.0.text.lock().unwrap().bytes).into_owned()
    }

    fn wait(&self, patience: Duration, is_so: impl Fn(&Text) -> bool) -> bool {
        let until = Instant::now() + patience;
        let mut text = self.0.text.lock().unwrap();
        while !is_so(&text) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            text = self.0.more.wait_timeout(text, left).unwrap().0;
        }
        true
    }
}

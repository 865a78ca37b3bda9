//! stderr, which progress bars share with errors and logs.

use std::io;
use std::io::Write;
use std::sync::OnceLock;

use indicatif::MultiProgress;
use terminal_size::{Width, terminal_size_of};
use tracing_subscriber::fmt::MakeWriter;

/// The bars that stand on the terminal, if there are any.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Bars at the foot of the terminal. What is written through this module meanwhile stands above them.
pub(crate) fn bars() -> &'static MultiProgress {
    BARS.get_or_init(MultiProgress::new)
}

/// How many columns the terminal has; 80 where that is not known.
pub(crate) fn columns() -> usize {
    terminal_size_of(io::stderr()).map_or(80, |(Width(columns), _)| usize::from(columns))
}

/// How many columns a result may take; `None` where no terminal shows it.
pub(crate) fn result_columns() -> Option<usize> {
    terminal_size_of(io::stdout()).map(|(Width(columns), _)| usize::from(columns))
}

/// Writes a line.
pub(crate) fn line(text: &str) {
    // Nobody reads stderr: then nobody misses it.
    let _ = Stderr.write_all(format!("{text}\n").as_bytes());
}

/// Writes a result to stdout. Whoever reads it may have seen enough and be gone; what is left to do is done all the same.
pub(super) fn result(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// stderr, beside the bars.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match BARS.get() {
            Some(bars) => bars.suspend(|| io::stderr().lock().write_all(bytes))?,
            None => io::stderr().lock().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

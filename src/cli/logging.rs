//! Logs, on stderr.

use std::io;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;
use super::terminal::Stderr;

/// Lets logs be written: those of this level and above, or what the filters of `UNDERSTUDY_LOG` say.
pub(crate) fn start(format: LogFormat, level: &str) {
    let filter =
        EnvFilter::try_from_env("UNDERSTUDY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr)
        .with_ansi(io::stderr().is_terminal());
    // A second start is no harm: the first one stays.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        // The list of spans would say once more what the current one says.
        LogFormat::Json => builder.json().with_span_list(false).try_init(),
    };
}

//! Logs, on stderr.

use std::io;

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;

/// Lets logs be written. `UNDERSTUDY_LOG` takes tracing's filters; without it warnings are shown.
pub(crate) fn start(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("UNDERSTUDY_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second start is no harm: the first one stays.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

//! Logs, on stderr.

use std::borrow::Cow;
use std::env;
use std::io;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::args::LogFormat;
use super::notice;
use super::terminal::Stderr;

/// Lets logs be written: those of this level and above, or what the filters of `UNDERSTUDY_LOG` say.
///
/// # Errors
/// If those are no filters: whoever has set them would look for lines that never come.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), String> {
    notice::choose(format);
    let wanted = env::var_os(FILTERS).filter(|wanted| !wanted.is_empty());
    let wanted =
        wanted.as_ref().map_or_else(|| Cow::from(level), |wanted| wanted.to_string_lossy());
    // A word that is no level would be taken for the name of a part that nothing has.
    let odd = wanted.split(',').map(str::trim).find(|directive| {
        let is_level = directive.parse::<LevelFilter>().is_ok();
        !is_level && !directive.contains(['=', '[']) && !directive.starts_with("understudy")
    });
    if let Some(odd) = odd {
        return Err(format!("{FILTERS}: {odd:?} is no level"));
    }
    let filter = EnvFilter::builder().parse(&wanted);
    let filter = filter.map_err(|error| format!("{FILTERS}={wanted}: {error}"))?;
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
    Ok(())
}

const FILTERS: &str = "UNDERSTUDY_LOG";

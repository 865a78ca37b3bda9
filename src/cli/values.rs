//! Values, read from how they are typed in a flag or in a file.

use std::time::Duration;

use understudy::plan::{Rate, SshCommand, SshName};
use understudy::server::Server;
use understudy::verify::Sample;

/// Something that was said, and where: a flag, or a place in the file and a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said<T> {
    pub(crate) value: T,
    pub(crate) at: String,
}

/// Reads the name of a server and its version.
pub(crate) fn server(text: &str) -> Result<Server, String> {
    Server::parse(text).ok_or_else(|| {
        "a server is redis-, valkey- or redict- and its version, such as redis-6.2".to_owned()
    })
}

/// Reads an address to listen on: a host and a port.
pub(crate) fn listen(text: &str) -> Result<(String, u16), String> {
    let wanted = "a host and a port, such as 127.0.0.1:6379 or [::1]:0";
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wanted.to_owned())?;
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if host.is_empty() || bare.is_none() && host.contains(':') {
        return Err(wanted.to_owned());
    }
    let port = port.parse().map_err(|_| format!("{port:?} is no port: {wanted}"))?;
    Ok((host.to_owned(), port))
}

/// Reads a duration: numbers with units, such as `1h30m` or `500ms`, the larger units first or not.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || "a duration is numbers with units: 90s, 1h30m, 500ms, 2d".to_owned();
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return Err(wanted());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wanted)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wanted())?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wanted()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis);
        let longer = part.and_then(|part| sum.checked_add(part));
        sum = longer.ok_or_else(|| "this is longer than there can be".to_owned())?;
        rest = after;
    }
    Ok(sum)
}

/// Reads how many of something there may be: one at the least.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("this is a number from 1 on".to_owned()),
        Ok(count) => Ok(count),
    }
}

/// Reads a part of the keys.
pub(crate) fn sample(text: &str) -> Result<Sample, String> {
    Sample::parse(text).ok_or_else(|| {
        "a sample is a percentage above 0 and up to 100, such as 1% or 0.25%, or a number of keys".to_owned()
    })
}

/// Reads a size: a number and a unit, where kB is 1000 bytes and KiB is 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        _ => {
            return Err(format!(
                "{unit:?} is no unit: use B, kB, MB, GB (1000) or KiB, MiB, GiB (1024)"
            ));
        }
    };
    let number: u64 =
        number.parse().map_err(|_| "a size is a number and a unit, such as 256MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "this is more than there can be".to_owned())
}

/// Reads `50000`, keys a second, or `20MB`, bytes a second.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let text = text.strip_suffix("/s").unwrap_or(text);
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    above_zero(text).map(|number| if plain { Rate::Keys(number) } else { Rate::Bytes(number) })
}

/// Reads `20MB`, bytes a second.
pub(crate) fn bytes_a_second(text: &str) -> Result<u64, String> {
    above_zero(text.strip_suffix("/s").unwrap_or(text))
}

fn above_zero(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("with this nothing would ever arrive".to_owned()),
        number => Ok(number),
    }
}

/// Reads an ssh host.
pub(crate) fn ssh_host(text: &str) -> Result<SshName, String> {
    SshName::parse(text).ok_or_else(|| {
        "an ssh host is [user@]host[:port], such as ada@gate.example or gate.example:2222"
            .to_owned()
    })
}

/// Reads a command that makes connections.
pub(crate) fn ssh_command(text: &str) -> Result<SshCommand, String> {
    SshCommand::parse(text)
        .map_err(|what| format!("{what}; write it as in a shell: \"ssh -F FILE\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        assert_eq!(listen("localhost:0"), Ok(("localhost".to_owned(), 0)));
        assert_eq!(listen("[::1]:6379"), Ok(("::1".to_owned(), 6379)));
        for bad in ["6379", ":6379", "::1", "::1:6379", "host:", "host:65536", "[::1]"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("2d1ms"), Ok(Duration::from_millis(172_800_001)));
        for bad in ["", "5", "m", "5 s", "5y", "1.5h", "-1s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("64MB"), Ok(64_000_000));
        assert_eq!(size("1024"), Ok(1024));
        assert!(size("12 parsecs").is_err());
        assert!(size("MiB").is_err());
        assert!(size("99999999999GiB").is_err());
    }

    #[test]
    fn rates() {
        assert_eq!(rate("50000"), Ok(Rate::Keys(50_000)));
        assert_eq!(rate("20MB"), Ok(Rate::Bytes(20_000_000)));
        assert_eq!(rate("1KiB/s"), Ok(Rate::Bytes(1024)));
        assert_eq!(rate("5B"), Ok(Rate::Bytes(5)));
        assert_eq!(bytes_a_second("1000"), Ok(1000));
        assert!(rate("0").is_err());
        assert!(rate("fast").is_err());
        assert!(bytes_a_second("0MB").is_err());
    }
}

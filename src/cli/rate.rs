//! Rates, as they are typed.

use understudy::plan::Rate;

use super::intent::size;

/// Reads `50000`, keys a second, or `20MB`, bytes a second.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let text = text.strip_suffix("/s").unwrap_or(text);
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    above_zero(text).map(|number| if plain { Rate::Keys(number) } else { Rate::Bytes(number) })
}

/// Reads `20MB`, bytes a second.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    above_zero(text.strip_suffix("/s").unwrap_or(text))
}

fn above_zero(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("with this nothing would ever arrive".to_owned()),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(rate("50000"), Ok(Rate::Keys(50_000)));
        assert_eq!(rate("20MB"), Ok(Rate::Bytes(20_000_000)));
        assert_eq!(rate("1KiB/s"), Ok(Rate::Bytes(1024)));
        assert_eq!(rate("5B"), Ok(Rate::Bytes(5)));
        assert_eq!(bytes("1000"), Ok(1000));
        assert!(rate("0").is_err());
        assert!(rate("fast").is_err());
        assert!(bytes("0MB").is_err());
    }
}

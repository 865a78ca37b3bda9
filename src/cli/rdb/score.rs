//! A sorted set's score as the server that wrote the file prints it.

use understudy::rdb::format::Format;

/// The text of a score, as `ZRANGE … WITHSCORES` answers on a server that writes this format.
pub(super) fn text(score: f64, format: Format) -> String {
    if score.is_infinite() {
        return if score > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    // 7.2, whose files are the first of version 11, prints the shortest text that reads back as the same number;
    // before that it was printf's %.17g.
    if format.version >= 11 { shortest(score) } else { percent_17g(score) }
}

/// `%.17g` of printf.
fn percent_17g(score: f64) -> String {
    let text = format!("{score:.16e}");
    let Some((sign, digits, exponent)) = decimal(&text) else {
        return text;
    };
    let digits = digits.trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    if !(-4..17).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let e_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}e{e_sign}{:02}", exponent.unsigned_abs());
    }
    fixed(sign, digits, exponent)
}

/// The shortest digits, laid out as the servers' `fpconv_dtoa` does. That one is content with a digit or two more on
/// some numbers (Grisu2), so a text can differ from a server's where the number does not.
fn shortest(score: f64) -> String {
    let text = format!("{score:e}");
    let Some((sign, digits, exponent)) = decimal(&text) else {
        return text;
    };
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The power of ten of the last digit.
    let last = exponent - count + 1;
    if last >= 0 && exponent.abs() < count + 7 {
        let zeros = "0".repeat(usize::try_from(last).unwrap_or(0));
        return format!("{sign}{digits}{zeros}");
    }
    if last < 0 && (last > -7 || exponent.abs() < 4) {
        return fixed(sign, &digits, exponent);
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let e_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{e_sign}{}", exponent.unsigned_abs())
}

/// Sign, digits and the exponent of the first digit, out of Rust's `-1.25e-7`.
fn decimal(text: &str) -> Option<(&str, String, i32)> {
    let (mantissa, exponent) = text.split_once('e')?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    Some((sign, mantissa.replace('.', ""), exponent.parse().ok()?))
}

/// Digits with the point where it belongs and no exponent.
fn fixed(sign: &str, digits: &str, exponent: i32) -> String {
    let Ok(before) = usize::try_from(exponent + 1) else {
        let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0));
        return format!("{sign}0.{zeros}{digits}");
    };
    match digits.split_at_checked(before) {
        Some((whole, "")) => format!("{sign}{whole}"),
        Some(("", part)) => format!("{sign}0.{part}"),
        Some((whole, part)) => format!("{sign}{whole}.{part}"),
        None => format!("{sign}{digits}{}", "0".repeat(before - digits.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy::rdb::format::Family;

    #[test]
    fn old_servers_print_seventeen_digits() {
        let format = Format { family: Family::Redis, version: 10 };
        for (score, expected) in [
            (0.1, "0.10000000000000001"),
            (-1e300, "-1.0000000000000001e+300"),
            (9.223_372_036_854_776e18, "9.2233720368547758e+18"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (0.0001, "0.0001"),
            (0.000_01, "1.0000000000000001e-05"),
            (-0.0, "-0"),
            (3.0, "3"),
            (f64::NEG_INFINITY, "-inf"),
            (5e-324, "4.9406564584124654e-324"),
        ] {
            assert_eq!(text(score, format), expected);
        }
    }

    #[test]
    fn newer_servers_print_the_shortest_text() {
        let format = Format { family: Family::Valkey, version: 80 };
        for (score, expected) in [
            (0.1, "0.1"),
            (-1e300, "-1e+300"),
            (-9.223_372_036_854_776e18, "-9223372036854776000"),
            (-992_036.736_482_451_4, "-9.920367364824514e+5"),
            (1.5, "1.5"),
            (0.0, "0"),
            (-0.0, "-0"),
            (123.456, "123.456"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(text(score, format), expected);
        }
    }
}

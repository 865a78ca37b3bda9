//! The digest of a report, which stands in it on a line of its own: whoever takes that line away has what it is the digest of.
//! `grep -vE '^(  "digest": |<p id="digest">)' FILE | sha256sum` says the same.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};

/// The digest of these bytes.
fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Nothing is easier than to write to a string.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A JSON object of several lines, with its digest as the first field.
pub(super) fn of_json(text: &str) -> (String, String) {
    let hex = sha256(text.as_bytes());
    let line = format!("{{\n  \"digest\": \"sha256:{hex}\",\n");
    (text.replacen("{\n", &line, 1), hex)
}

/// What stands in a page where its digest is to be, on a line of its own.
pub(super) const PLACE: &str = "\n<!-- digest -->\n";

/// A page, with its digest in the place for it.
pub(super) fn of_page(text: &str) -> (String, String) {
    let (before, behind) = text.split_once(PLACE).unwrap_or((text, ""));
    let rest = format!("{before}\n{behind}");
    let hex = sha256(rest.as_bytes());
    (format!("{before}\n<p id=\"digest\">sha256:{hex}</p>\n{behind}"), hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_line_of_the_digest_a_report_is_what_it_is_the_digest_of() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let json = "{\n  \"a\": 1\n}\n";
        let page = format!("<!DOCTYPE html>\n<p>a</p>{PLACE}</html>\n");
        for (text, digest) in [of_json(json), of_page(&page)] {
            let is_digest = |line: &&str| {
                line.starts_with("  \"digest\"") || line.starts_with("<p id=\"digest\"")
            };
            assert_eq!(text.lines().filter(is_digest).count(), 1);
            let rest = text.lines().filter(|line| !is_digest(line));
            let rest: String = rest.map(|line| format!("{line}\n")).collect();
            assert_eq!(sha256(rest.as_bytes()), digest);
            assert!(text.contains(&digest));
        }
    }
}

//! The scripts that a source has named, so that none is called by a name the target does not know.
//!
//! A master sends a script whole once and then by its SHA-1 (2.8 to 6.2). A target may have lost it since: by a restart, by
//! `SCRIPT FLUSH`, or because it keeps only so many that came with `EVAL` (Redis 7.4 and later). So a script whose text is known is
//! always sent whole.

use std::collections::HashMap;

use sha1_smol::{DIGEST_LENGTH, Sha1};

/// Scripts by their SHA-1, while they fit.
#[derive(Debug)]
pub(super) struct Scripts {
    texts: HashMap<[u8; DIGEST_LENGTH], Vec<u8>, foldhash::fast::RandomState>,
    left: usize,
}

impl Scripts {
    /// Remembers texts of so many bytes in all. Those that come later are not remembered, and called as the source calls them.
    pub(super) fn new(memory: usize) -> Self {
        Self { texts: HashMap::default(), left: memory }
    }

    /// Remembers a script. Says whether it is a new one.
    pub(super) fn learn(&mut self, text: &[u8]) -> bool {
        const OVERHEAD: usize = 96;
        let Some(left) = self.left.checked_sub(text.len() + OVERHEAD) else { return false };
        let is_new = self.texts.insert(Sha1::from(text).digest().bytes(), text.to_vec()).is_none();
        if is_new {
            self.left = left;
        }
        is_new
    }

    /// All that are remembered.
    pub(super) fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.texts.values().map(Vec::as_slice)
    }

    /// The text of the script with this SHA-1, in hexadecimal digits of either case.
    pub(super) fn text(&self, sha: &[u8]) -> Option<&[u8]> {
        if self.texts.is_empty() {
            return None;
        }
        let digest =
            std::str::from_utf8(sha).ok()?.to_ascii_lowercase().parse::<sha1_smol::Digest>();
        self.texts.get(&digest.ok()?.bytes()).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_found_by_its_sha1_in_any_case() {
        let mut scripts = Scripts::new(1 << 20);
        assert_eq!(scripts.text(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"), None);
        scripts.learn(b"return 1");
        // What SCRIPT LOAD answers.
        assert_eq!(
            scripts.text(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
            Some(&b"return 1"[..])
        );
        assert_eq!(
            scripts.text(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"),
            Some(&b"return 1"[..])
        );
        assert_eq!(scripts.text(b"no sha"), None);
    }

    #[test]
    fn what_does_not_fit_is_not_remembered() {
        let mut scripts = Scripts::new(200);
        scripts.learn(b"return 1");
        scripts.learn(&[b' '; 200]);
        scripts.learn(b"return 1");
        assert_eq!(scripts.texts.len(), 1);
        assert_eq!(scripts.left, 200 - 8 - 96);
    }
}

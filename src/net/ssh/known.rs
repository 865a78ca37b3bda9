//! What is written down of the keys of ssh hosts: `known_hosts`.

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};
use sha1_smol::Sha1;
use tokio::fs;

use super::error::SshError;

/// All that is known of one host.
#[derive(Debug)]
pub(super) struct Known {
    lines: Vec<Line>,
}

/// A key, and where it stands.
#[derive(Debug)]
struct Line {
    key: PublicKey,
    revoked: bool,
    file: PathBuf,
    number: usize,
}

/// What is to be thought of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is the host's.
    Known,
    /// Nothing is known of the host.
    Unknown,
    /// The host has another one, which stands here.
    Other(PathBuf, usize),
    /// It must not be trusted any more, which stands here.
    Revoked(PathBuf, usize),
}

impl Known {
    /// Reads what the files say of a host. One that is not there says nothing.
    pub(super) async fn read(files: &[PathBuf], host: &str, port: u16) -> Result<Self, SshError> {
        let mut lines = Vec::new();
        for file in files {
            match fs::read_to_string(file).await {
                Ok(text) => lines.extend(of_host(&text, file, &name(host, port))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(SshError::KnownHosts { file: file.clone(), source: error });
                }
            }
        }
        Ok(Self { lines })
    }

    /// What is to be thought of a host that shows this key.
    pub(super) fn judge(&self, shown: &PublicKey) -> Judgement {
        let is_shown = |line: &&Line| line.key.key_data() == shown.key_data();
        if let Some(line) = self.lines.iter().filter(|line| line.revoked).find(is_shown) {
            return Judgement::Revoked(line.file.clone(), line.number);
        }
        let mut valid = self.lines.iter().filter(|line| !line.revoked);
        match (valid.clone().any(|line| is_shown(&line)), valid.next()) {
            (true, _) => Judgement::Known,
            (false, None) => Judgement::Unknown,
            (false, Some(line)) => Judgement::Other(line.file.clone(), line.number),
        }
    }

    /// The kinds of keys that a host may show, those that are known of it first: else one that has several would show a stranger.
    pub(super) fn kinds(&self) -> Vec<Algorithm> {
        let mut kinds = vec![
            Algorithm::Ed25519,
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
            Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
            Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
        ];
        let is_known = |kind: &Algorithm| {
            let same = |line: &Line| match (line.key.algorithm(), kind) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (known, kind) => known == *kind,
            };
            self.lines.iter().any(|line| !line.revoked && same(line))
        };
        kinds.sort_by_key(|kind| !is_known(kind));
        kinds
    }
}

/// What a host is called in these files.
pub(super) fn name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// The lines of a file that are about a host. Authorities of certificates are not among them.
fn of_host(text: &str, file: &Path, name: &str) -> Vec<Line> {
    let lines = text.lines().zip(1..).filter_map(|(line, number)| {
        let line = line.trim().replace('\t', " ");
        // A line that cannot be read is passed over, as ssh does.
        let entry: Entry = line.parse().ok()?;
        let revoked = match entry.marker() {
            None => false,
            Some(Marker::Revoked) => true,
            Some(Marker::CertAuthority) => return None,
        };
        let key = entry.public_key().clone();
        is_about(entry.host_patterns(), name).then(|| Line {
            key,
            revoked,
            file: file.to_owned(),
            number,
        })
    });
    lines.collect()
}

fn is_about(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => hmac_sha1(salt, name.as_bytes()) == *hash,
        HostPatterns::Patterns(patterns) => {
            let name = name.to_ascii_lowercase();
            let (mut is_about, mut is_not) = (false, false);
            for pattern in patterns {
                let pattern = pattern.to_ascii_lowercase();
                match pattern.strip_prefix('!') {
                    Some(pattern) => is_not |= fits(pattern.as_bytes(), name.as_bytes()),
                    None => is_about |= fits(pattern.as_bytes(), name.as_bytes()),
                }
            }
            is_about && !is_not
        }
    }
}

/// Whether a text fits a pattern with `*` and `?`.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), Some((_, tail))) => fits(rest, text) || fits(pattern, tail),
        (Some((b'*', rest)), None) => fits(rest, text),
        (Some((b'?', rest)), Some((_, tail))) => fits(rest, tail),
        (Some((one, rest)), Some((other, tail))) if one == other => fits(rest, tail),
        _ => false,
    }
}

/// The keyed sum by which names are hidden in these files (RFC 2104).
fn hmac_sha1(key: &[u8], text: &[u8]) -> [u8; 20] {
    const BLOCK: usize = 64;
    let hashed;
    let key = if key.len() > BLOCK {
        hashed = Sha1::from(key).digest().bytes();
        &hashed[..]
    } else {
        key
    };
    let padded = |with: u8| -> Vec<u8> {
        let key = key.iter().copied().chain(std::iter::repeat(0));
        key.take(BLOCK).map(|byte| byte ^ with).collect()
    };
    let mut inner = Sha1::from(padded(0x36));
    inner.update(text);
    let mut outer = Sha1::from(padded(0x5c));
    outer.update(&inner.digest().bytes());
    outer.digest().bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDDMWdQhwc9mBrzs1GlX59vMahILLltx/4uqEr1G8i8EKSQLKN0ChdUbTG77RtVQjIZnkOL5tqxeEe5epf39qJmHRv7waqyGH+PRgXSs7q5c++/yAlzibGg1ufkpJGlKCi+kuZcVRlF49XW2eiqaXONNDqms/c2S0mrud/qim5Brw==";

    fn known(text: &str, host: &str, port: u16) -> Known {
        Known { lines: of_host(text, Path::new("known"), &name(host, port)) }
    }

    fn judged(text: &str, host: &str, port: u16) -> Judgement {
        known(text, host, port).judge(&ONE.parse().unwrap())
    }

    #[test]
    fn hosts_are_known_by_name_and_port() {
        let text = format!("# mine\nbad line\ngate,10.0.0.1 {ONE} comment\n[gate]:2222 {OTHER}\n");
        assert_eq!(judged(&text, "gate", 22), Judgement::Known);
        assert_eq!(judged(&text, "GATE", 22), Judgement::Known);
        assert_eq!(judged(&text, "10.0.0.1", 22), Judgement::Known);
        assert_eq!(judged(&text, "gate", 2222), Judgement::Other("known".into(), 4));
        assert_eq!(judged(&text, "gates", 22), Judgement::Unknown);
        assert_eq!(judged(&format!("gate\t{ONE}"), "gate", 22), Judgement::Known);
    }

    #[test]
    fn patterns_and_hidden_names() {
        let text = format!("*.example,!bad.example {ONE}\n");
        assert_eq!(judged(&text, "a.example", 22), Judgement::Known);
        assert_eq!(judged(&text, "bad.example", 22), Judgement::Unknown);
        // What `ssh-keygen -H` made of `gate`.
        let hidden = format!("|1|JMLB2GvginzvzB6lHxdN8r0eC18=|Sjj/tD9/+8/JE/sVdMrrTAfBQ2k= {ONE}");
        assert_eq!(judged(&hidden, "gate", 22), Judgement::Known);
        assert_eq!(judged(&hidden, "bate", 22), Judgement::Unknown);
    }

    #[test]
    fn who_is_not_to_be_trusted() {
        let text = format!("gate {ONE}\n@revoked * {ONE}\n");
        assert_eq!(judged(&text, "gate", 22), Judgement::Revoked("known".into(), 2));
        let text = format!("@cert-authority * {ONE}\n");
        assert_eq!(judged(&text, "gate", 22), Judgement::Unknown);
    }

    #[test]
    fn the_kind_that_is_known_is_asked_for_first() {
        let rsa = |kind: &Algorithm| matches!(kind, Algorithm::Rsa { .. });
        assert_eq!(known("", "gate", 22).kinds().first(), Some(&Algorithm::Ed25519));
        assert!(known(&format!("gate {RSA}"), "gate", 22).kinds().iter().take(2).all(rsa));
    }

    #[test]
    fn the_keyed_sum_is_that_of_the_rfc() {
        // RFC 2202, cases 1, 2 and 6.
        let hex = |bytes: [u8; 20]| bytes.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex(hmac_sha1(&[0x0b; 20], b"Hi There")),
            "b617318655057264e28bc0b6fb378c8ef146be00"
        );
        assert_eq!(
            hex(hmac_sha1(b"Jefe", b"what do ya want for nothing?")),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
        let long = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hex(hmac_sha1(&[0xaa; 80], long)), "aa4ae5e15272d00e95705637ce8a3b55ed402112");
    }
}

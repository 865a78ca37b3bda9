//! How TLS is spoken with a server.

use std::path::PathBuf;

/// What is asked of a server's certificate, and what is shown to it. The default: verified against the roots of this
/// system, and no certificate of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file with the authorities that may have signed the server's certificate, in place of the system's.
    pub authorities: Option<PathBuf>,
    /// Our own certificate, for a server that asks for one.
    pub identity: Option<Identity>,
    /// Nothing is verified: whoever stands between reads all, the password included.
    pub insecure: bool,
}

/// A certificate of ours and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and behind it those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

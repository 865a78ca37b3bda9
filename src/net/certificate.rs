//! Certificates, as far as it matters when they end.

use std::path::Path;

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

use crate::plan::Identity;
use crate::plan::check::{Certificate, Owner};

use super::tls;
use super::{Link, TlsError};

impl Link {
    /// The certificates that the server has shown: its own, then those of authorities between it and a root. None if TLS is not spoken.
    #[must_use]
    pub fn certificates(&self) -> Vec<Certificate> {
        let shown = match self {
            Self::Tls(stream) => stream.get_ref().1.peer_certificates(),
            Self::Secured(stream) => stream.get_ref().1.peer_certificates(),
            Self::Tcp(_) | Self::Unix(_) | Self::Other(_) => None,
        };
        let owners = [Owner::Server].into_iter().chain(std::iter::repeat(Owner::Authority));
        let shown = shown.unwrap_or_default().iter().zip(owners);
        shown.filter_map(|(certificate, owner)| read(certificate, owner)).collect()
    }
}

/// Our own certificates, that a server is shown.
///
/// # Errors
/// If the file cannot be read, or holds none.
pub fn own_certificates(identity: &Identity) -> Result<Vec<Certificate>, TlsError> {
    let path: &Path = &identity.certificate;
    let all = tls::certificates(path)?;
    Ok(all.iter().filter_map(|certificate| read(certificate, Owner::Ours)).collect())
}

/// What a certificate says; `None` of one that is not read here, and that TLS may read all the same.
fn read(certificate: &CertificateDer<'_>, owner: Owner) -> Option<Certificate> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let until = certificate.validity().not_after;
    let ends = until.to_datetime().date().to_string();
    let subject = certificate.subject();
    let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let subject = name.map_or_else(|| subject.to_string(), str::to_owned);
    Some(Certificate { owner, subject, until: until.timestamp(), ends })
}

//! TLS: what is trusted, and what went wrong in words that lead somewhere.
//!
//! The roots are read by `rustls-native-certs` and judged by webpki, not by the platform's own verifier: its answers tell an
//! unknown authority from a wrong name on every system, and `SSL_CERT_FILE` works as it does for other tools.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls;
use tokio_rustls::rustls::AlertDescription;
use tokio_rustls::rustls::CertificateError;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::DigitallySignedStruct;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::danger::ServerCertVerified;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::crypto::verify_tls12_signature;
use tokio_rustls::rustls::crypto::verify_tls13_signature;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::pki_types::pem;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::plan::Identity;
use crate::plan::Side;
use crate::plan::Tls;

/// Why TLS cannot be spoken with a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file with certificates or a key is missing, cannot be read or holds none.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate and the key that we were given do not go together, or are of a kind that is not known.
    #[error("the certificate {} cannot be used with its key: {reason}", certificate.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// This system has no roots, or none that can be read.
    #[error("this system has no certificate authorities: {0}")]
    NoAuthorities(String),
    /// The host is neither a name nor an address that a certificate can carry.
    #[error("{0:?} is no name that a certificate can be for")]
    Name(String),
    /// Nobody whom we trust has signed the server's certificate.
    #[error("its certificate is signed by an authority that is not known here")]
    UnknownAuthority,
    /// The certificate is for another host.
    #[error("its certificate is for {names}, not for {host}")]
    WrongName {
        /// The host that was asked for.
        host: String,
        /// The names in the certificate.
        names: String,
    },
    /// The certificate has run out.
    #[error("its certificate has expired")]
    Expired,
    /// The certificate is not valid yet.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// The certificate is wrong in another way.
    #[error("its certificate is not accepted: {0}")]
    Certificate(String),
    /// What answers does not speak TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// The server has said nothing at all to our first words.
    #[error("it has not answered in TLS within {} s", .0.as_secs())]
    Silent(Duration),
    /// The server does not accept our certificate, or wants one.
    #[error("it {0}")]
    Ours(&'static str),
    /// The connection broke, or the two sides have nothing in common.
    #[error("no TLS connection came about")]
    Broken(#[source] io::Error),
}

impl TlsError {
    /// What the operator can do, if the server is on this side.
    #[must_use]
    pub fn advice(&self, side: Side) -> String {
        let (flag, place) = (side.flag(), side.place());
        match self {
            Self::File { .. } => "give PEM files that this user may read".to_owned(),
            Self::Identity { .. } => {
                format!(
                    "{flag}-cert and {flag}-key must be of one pair, and the key without a passphrase"
                )
            }
            Self::NoAuthorities(_) => {
                format!(
                    "install ca-certificates, or give the server's authority with {flag}-ca FILE"
                )
            }
            Self::Name(_) => {
                format!("give the name in {place} that stands in the server's certificate")
            }
            Self::UnknownAuthority => {
                format!("give the authority's certificate with {flag}-ca FILE")
            }
            Self::WrongName { .. } => format!(
                "give one of those names in {place}; or, if you are sure where this leads, {flag}-insecure"
            ),
            Self::Expired => {
                "renew the server's certificate (and see that this machine's clock is right)"
                    .to_owned()
            }
            Self::NotYetValid => {
                "see that the clocks of this machine and of the server are right".to_owned()
            }
            Self::Certificate(_) => format!(
                "mend the server's certificate; or, if you are sure where this leads, {flag}-insecure"
            ),
            Self::NotTls | Self::Silent(_) => {
                format!("give the server's tls-port, or write redis:// in {place}")
            }
            Self::Ours(_) => format!(
                "give a certificate that the server's authority has signed: {flag}-cert FILE {flag}-key FILE"
            ),
            Self::Broken(_) => "see the server's log: it says what it did not like".to_owned(),
        }
    }
}

/// Connectors that were made, each once: reading the system's roots takes milliseconds, and a lost link is made often.
#[derive(Default)]
pub(super) struct Connectors {
    made: Mutex<Vec<(Tls, TlsConnector)>>,
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connectors")
    }
}

impl Connectors {
    /// The connector for these wishes.
    pub(super) fn connector(&self, tls: &Tls) -> Result<TlsConnector, TlsError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = made.iter().find(|(of, _)| of == tls) {
            return Ok(connector.clone());
        }
        let connector = TlsConnector::from(Arc::new(config(tls)?));
        made.push((tls.clone(), connector.clone()));
        Ok(connector)
    }
}

/// How long the handshake may take. A Redis that is spoken to in TLS on its plain port waits for the end of a line, and says nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Speaks TLS on a connection that has been made.
///
/// # Errors
/// [`TlsError`], with what the server's certificate lacks.
pub(super) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    connector: &TlsConnector,
    host: &str,
    stream: S,
) -> Result<TlsStream<S>, TlsError> {
    shake_hands_within(PATIENCE, connector, host, stream).await
}

/// The same, where it may take so long.
pub(super) async fn shake_hands_within<S: AsyncRead + AsyncWrite + Unpin>(
    patience: Duration,
    connector: &TlsConnector,
    host: &str,
    stream: S,
) -> Result<TlsStream<S>, TlsError> {
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
    match timeout(patience, connector.connect(name, stream)).await {
        Ok(shaken) => shaken.map_err(|error| explain(error, host)),
        Err(_) => Err(TlsError::Silent(patience)),
    }
}

/// Our own reading of an error of rustls that a read or a write of the link gave, if it is one that has a reading.
pub(super) fn explained(error: &io::Error) -> Option<TlsError> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    meaning(error, "")
}

fn explain(error: io::Error, host: &str) -> TlsError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner.and_then(|inner| meaning(inner, host)) {
        Some(meaning) => meaning,
        None => TlsError::Broken(error),
    }
}

fn meaning(error: &rustls::Error, host: &str) -> Option<TlsError> {
    Some(match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => TlsError::UnknownAuthority,
            CertificateError::NotValidForName => {
                TlsError::WrongName { host: host.to_owned(), names: "another host".to_owned() }
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                TlsError::WrongName { host: host.to_owned(), names: names(presented) }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsError::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsError::NotYetValid
            }
            other => TlsError::Certificate(other.to_string()),
        },
        // The first byte of a record is its type, and no letter is one.
        rustls::Error::InvalidMessage(_) => TlsError::NotTls,
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
                TlsError::Ours("asks for a certificate of ours")
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::UnsupportedCertificate => {
                TlsError::Ours("does not accept our certificate")
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// The names in a certificate, as rustls shows them: `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    let bare = |shown: &String| {
        let inner = shown.split_once('(').map_or(shown.as_str(), |(_, inner)| inner);
        inner.trim_end_matches(')').trim_matches('"').to_owned()
    };
    match presented {
        [] => "no name".to_owned(),
        presented => presented.iter().map(bare).collect::<Vec<_>>().join(", "),
    }
}

fn config(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    let builder = if tls.insecure {
        let verifier = Arc::new(AnyCertificate(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(authorities(tls.authorities.as_deref())?)
    };
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { certificate, key }) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unread(key, &error))?;
            builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|error| {
                TlsError::Identity { certificate: certificate.clone(), reason: error.to_string() }
            })
        }
    }
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| TlsError::File {
                path: path.to_owned(),
                reason: format!("holds a certificate that is no authority: {error}"),
            })?;
        }
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    // Systems carry a few that webpki does not read; the others are enough.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why =
            found.errors.first().map_or_else(|| "none were found".to_owned(), ToString::to_string);
        return Err(TlsError::NoAuthorities(why));
    }
    Ok(roots)
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match all {
        Ok(all) if all.is_empty() => Err(unread(path, &pem::Error::NoItemsFound)),
        Ok(all) => Ok(all),
        Err(error) => Err(unread(path, &error)),
    }
}

fn unread(path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "holds nothing of this kind in PEM form".to_owned(),
        other => other.to_string(),
    };
    TlsError::File { path: path.to_owned(), reason }
}

/// Takes any certificate. That the server holds its key is checked all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_bare() {
        let presented = ["DnsName(\"a.example\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()];
        assert_eq!(names(&presented), "a.example, 10.0.0.1");
        assert_eq!(names(&[]), "no name");
    }

    #[test]
    fn files_that_cannot_serve_are_named() {
        let missing = Tls { authorities: Some("/nowhere/ca.pem".into()), ..Tls::default() };
        let error = Connectors::default().connector(&missing).err().unwrap().to_string();
        assert!(error.starts_with("/nowhere/ca.pem: "), "{error}");
        let empty = Tls { authorities: Some("Cargo.toml".into()), ..Tls::default() };
        let error = Connectors::default().connector(&empty).err().unwrap().to_string();
        assert_eq!(error, "Cargo.toml: holds nothing of this kind in PEM form");
    }

    #[test]
    fn a_connector_is_made_once() {
        let connectors = Connectors::default();
        let tls = Tls { insecure: true, ..Tls::default() };
        connectors.connector(&tls).unwrap();
        connectors.connector(&tls).unwrap();
        assert_eq!(connectors.made.lock().unwrap().len(), 1);
    }
}

//! Certificates of the tests' own, and servers that have them.

use std::fs;
use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::date_time_ymd;
use tempfile::TempDir;

use crate::servers::Server;
use crate::servers::free_port;

/// A server that knows TLS.
pub(crate) const SERVER: &str = "redis-7.0.15";

/// An authority, and the certificates that it has signed, as PEM files.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes NAME.pem and NAME.key for these hosts.
    pub(crate) fn sign(&self, name: &str, hosts: &[&str], expired: bool) {
        const OLD: Duration = Duration::from_secs(1_577_836_800);
        self.sign_until(name, hosts, expired.then_some(OLD));
    }

    /// The same, of a certificate that ends so long after the beginning of 1970; else in thousands of years.
    pub(crate) fn sign_until(&self, name: &str, hosts: &[&str], until: Option<Duration>) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(until) = until {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(1970, 1, 1) + until;
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// What a server is told that has this certificate. It asks for a client's certificate if `mutual`.
    pub(crate) fn options(&self, name: &str, port: u16, mutual: bool) -> Vec<[String; 2]> {
        [
            ("tls-port", port.to_string()),
            ("tls-cert-file", self.file(&format!("{name}.pem"))),
            ("tls-key-file", self.file(&format!("{name}.key"))),
            ("tls-ca-cert-file", self.file("ca.pem")),
            ("tls-auth-clients", if mutual { "yes" } else { "no" }.to_owned()),
        ]
        .map(|(option, value)| [option.to_owned(), value])
        .into()
    }

    /// A server with this certificate, and its TLS port.
    pub(crate) fn serve(&self, name: &str, mutual: bool) -> Option<(Server, u16)> {
        self.serve_with(name, mutual, &[])
    }

    /// The same, with further options.
    pub(crate) fn serve_with(
        &self,
        name: &str,
        mutual: bool,
        more: &[&str],
    ) -> Option<(Server, u16)> {
        let port = free_port();
        let mut options: Vec<String> = Vec::new();
        for [option, value] in self.options(name, port, mutual) {
            options.extend([format!("--{option}"), value]);
        }
        let options: Vec<&str> =
            options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Some((Server::start_with(SERVER, &options)?, port))
    }

    /// What the tool is told on this side: whom to trust, and, with a name, who it is.
    pub(crate) fn flags(&self, side: &str, name: Option<&str>) -> Vec<String> {
        let mut flags = vec![format!("--{side}-ca"), self.file("ca.pem")];
        if let Some(name) = name {
            flags.extend([format!("--{side}-cert"), self.file(&format!("{name}.pem"))]);
            flags.extend([format!("--{side}-key"), self.file(&format!("{name}.key"))]);
        }
        flags
    }
}

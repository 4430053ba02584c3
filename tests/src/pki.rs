//! Certificates for a test: an authority and what it vouches for.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kit::config::Tls;
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// Somebody who vouches for others.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }
}

impl Authority {
    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes a certificate of 127.0.0.1 with these names, DNS, URI or IP address, and its key into a folder, and says where.
    pub fn issue(&self, names: &[&str], dir: &Path) -> Tls {
        self.issue_until(names, dir, 2100)
    }

    /// The same, valid until a year.
    pub fn issue_until(&self, names: &[&str], dir: &Path, year: i32) -> Tls {
        let mut params = CertificateParams::default();
        let text = |name: &str| Ia5String::try_from(name).unwrap();
        let own = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let named = |name: &&str| match name.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if name.contains("://") => SanType::URI(text(name)),
            Err(_) => SanType::DnsName(text(name)),
        };
        params.subject_alt_names = names.iter().map(named).chain([own]).collect();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        let write = |name: &str, text: String| -> PathBuf {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        Tls {
            cert: write("tls.crt", cert.pem()),
            key: write("tls.key", key.serialize_pem()),
            ca: write("ca.crt", self.pem()),
        }
    }
}

/// The certificate that is shown to whoever connects.
pub async fn shown(url: &str, tls: &Tls) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&tls.ca).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_file(&tls.cert).unwrap()],
            rustls::pki_types::PrivateKeyDer::from_pem_file(&tls.key).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let address = url.strip_prefix("https://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

//! TLS between the processes of an installation: each says who it is, and believes one authority.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use opentelemetry::metrics::AsyncInstrument;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_platform_verifier::BuilderVerifierExt as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::config::{Tls, check_secret};
use crate::serve::Context;
use crate::watched::Watched;

/// HTTP/2, as gRPC needs it.
const ALPN: &[u8] = b"h2";

/// How a process greets its callers.
pub(crate) type Greeting = Watched<ServerConfig>;
/// How a process introduces itself where it calls.
pub(crate) type Introduction = Watched<ClientConfig>;

/// How callers are greeted; `None` in plain text. Without any token a certificate is asked of everybody.
///
/// # Errors
/// A file of `server.tls` cannot be read or used.
pub(crate) fn greeting(context: &Context) -> anyhow::Result<Option<Arc<Greeting>>> {
    let server = &context.server;
    if !server.tls.is_on() {
        return Ok(None);
    }
    let Tls { cert, key, ca } = &server.tls;
    check_secret(key).context("server.tls.key")?;
    let (tokens, valid) = (server.knows_tokens(), measured(context));
    let make = move |files: &[Vec<u8>]| {
        let [cert, key, ca] = files else { anyhow::bail!("three files are needed") };
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots(ca)?));
        let verifier = if tokens { verifier.allow_unauthenticated() } else { verifier };
        let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier.build().context("server.tls.ca")?)
            .with_single_cert(certificates(cert)?, private(key)?)
            .context("server.tls.cert and server.tls.key")?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        valid.store(certificates(cert)?.first().and_then(validity).map(Arc::new));
        Ok(config)
    };
    Watched::open(vec![cert.clone(), key.clone(), ca.clone()], context, make).map(Some)
}

/// How this process introduces itself: with its certificate if it has one, to those its authority vouches for, or the
/// system's authorities without one of its own.
///
/// # Errors
/// A file of `server.tls` cannot be read or used.
pub(crate) fn introduction(context: &Context) -> anyhow::Result<Arc<Introduction>> {
    let Tls { cert, key, ca } = &context.server.tls;
    let (own, believes) = (context.server.tls.is_on(), !ca.as_os_str().is_empty());
    if own {
        check_secret(key).context("server.tls.key")?;
    }
    let paths: Vec<PathBuf> = [(ca, believes), (cert, own), (key, own)]
        .into_iter()
        .filter(|(_, is)| *is)
        .map(|(path, _)| path.clone())
        .collect();
    let make = move |files: &[Vec<u8>]| {
        let builder = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
        let (builder, files) = match files {
            [ca, own @ ..] if believes => (builder.with_root_certificates(roots(ca)?), own),
            own => (builder.with_platform_verifier().context("the authorities of the system")?, own),
        };
        let mut config = match files {
            [cert, key] => builder
                .with_client_auth_cert(certificates(cert)?, private(key)?)
                .context("server.tls.cert and server.tls.key")?,
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    };
    Watched::open(paths, context, make)
}

/// Seconds since 1970 from when, and until when, a certificate is valid.
type Validity = (f64, f64);

/// Tells of the certificate that is shown, for an alert when nobody has exchanged it in time.
fn measured(context: &Context) -> Arc<ArcSwapOption<Validity>> {
    let (valid, meter) = (Arc::new(ArcSwapOption::<Validity>::empty()), context.metrics.meter());
    let gauge = |name: &'static str, of: fn(&Validity) -> f64| {
        let valid = Arc::clone(&valid);
        let observe = move |observer: &dyn AsyncInstrument<f64>| {
            if let Some(valid) = valid.load().as_deref() {
                observer.observe(of(valid), &[]);
            }
        };
        let _registered = meter.f64_observable_gauge(name).with_unit("s").with_callback(observe).build();
    };
    gauge("firstline.tls.certificate.not_before", |(from, _)| *from);
    gauge("firstline.tls.certificate.not_after", |(_, until)| *until);
    valid
}

fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let validity = Certificate::from_der(certificate).ok()?.tbs_certificate.validity;
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs_f64();
    Some((seconds(validity.not_before), seconds(validity.not_after)))
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let all = all.context("server.tls.cert is no PEM")?;
    anyhow::ensure!(!all.is_empty(), "server.tls.cert holds no certificate");
    Ok(all)
}

fn private(pem: &[u8]) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).context("server.tls.key holds no private key")
}

fn roots(pem: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.context("server.tls.ca is no PEM")?).context("server.tls.ca")?;
    }
    anyhow::ensure!(!roots.is_empty(), "server.tls.ca holds no certificate");
    Ok(roots)
}

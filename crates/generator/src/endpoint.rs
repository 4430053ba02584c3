//! Where a model server's requests go, and with which key.

use reqwest::header::{self, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

/// Where requests go, and with which key.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    base: String,
    key: SecretString,
    headers: HeaderMap,
}

impl Endpoint {
    pub(crate) fn new(base: &str, key: Option<SecretString>) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let mut headers = HeaderMap::new();
        if let Some(key) = &key {
            // Without the key of the error, which would be logged.
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret().trim()))
                .ok()
                .context("generator.api_key holds characters no HTTP header may have")?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Self { base: base.trim_end_matches('/').to_owned(), key: key.unwrap_or_default(), headers })
    }
}

impl async_openai::config::Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

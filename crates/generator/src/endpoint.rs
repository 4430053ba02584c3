//! Where a model server's requests go, and with which key.

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::Model;

/// Where requests go, and with which key.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    base: String,
    key: SecretString,
    api_version: String,
    headers: HeaderMap,
}

impl Endpoint {
    /// The server of a model at a place of the configuration.
    pub(crate) fn new(place: &str, model: &Model) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let mut headers = HeaderMap::new();
        if let Some(key) = &model.api_key {
            let key = key.expose_secret().trim();
            let (name, value) = match model.api_version.as_str() {
                "" => (header::AUTHORIZATION, format!("Bearer {key}")),
                _ => (HeaderName::from_static("api-key"), key.to_owned()),
            };
            // Without the key of the error, which would be logged.
            let value = HeaderValue::from_str(&value).ok();
            let mut value =
                value.with_context(|| format!("{place}.api_key holds characters no HTTP header may have"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self {
            base: model.base_url.trim_end_matches('/').to_owned(),
            key: model.api_key.clone().unwrap_or_default(),
            api_version: model.api_version.clone(),
            headers,
        })
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
        let version = Some(("api-version", self.api_version.as_str()));
        version.filter(|(_, version)| !version.is_empty()).into_iter().collect()
    }

    fn api_base(&self) -> &str {
        &self.base
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

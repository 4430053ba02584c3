//! Guards of others behind a server, asked beside our own about what those let pass.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use kit::Violation;
use kit::config::within;
use reqwest::Client;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::policy::{Action, Category};
use crate::screen::{Rails, Status, Verdict};

/// Longest answer of a guard, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A guard behind a server: table `[safety.guards.NAME]`. It reads words with personal data masked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remote {
    /// How it is asked.
    pub protocol: Protocol,
    /// Up to and with `/v1`.
    pub base_url: String,
    /// Name of the model at that server.
    pub model: String,
    /// Key of that server; left out, none is sent.
    #[serde(skip_serializing)]
    pub api_key: Option<SecretString>,
    /// What it judges.
    pub rails: Vec<Point>,
    /// Longest wait, in milliseconds, 10..=30000; orchestrator.safety_timeout_ms must be longer.
    pub timeout_ms: u64,
    /// Whether its failure stops the turn, as the policy for failures says, or leaves it to the other guards.
    pub required: bool,
}

/// How a guard is asked and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// `POST {base_url}/moderations` of OpenAI: categories with whether each is flagged.
    Moderation,
    /// `POST {base_url}/chat/completions`, answered as Llama Guard does: "safe", or "unsafe" and a line of categories.
    Chat,
}

/// Where a guard of others can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// What customers write.
    Input,
    /// What they are to read.
    Output,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            protocol: Protocol::Moderation,
            base_url: String::new(),
            model: String::new(),
            api_key: None,
            rails: vec![Point::Input, Point::Output],
            timeout_ms: 600,
            required: true,
        }
    }
}

impl Remote {
    pub(crate) fn validate(&self, name: &str, violations: &mut Vec<Violation>) {
        within(&format!("guards.{name}.timeout_ms"), self.timeout_ms, 10..=30_000, violations);
        let mut refuse = |key: &str, message: String| {
            violations.push(Violation { key: format!("guards.{name}.{key}"), message });
        };
        if !matches!(reqwest::Url::parse(&self.base_url), Ok(url) if url.scheme().starts_with("http")) {
            refuse("base_url", format!("{:?} is no http:// or https:// URL", self.base_url));
        }
        if self.model.is_empty() {
            refuse("model", "is empty, needed".to_owned());
        }
        if self.rails.is_empty() {
            refuse("rails", "is empty, allowed input and output".to_owned());
        }
    }

    async fn ask(&self, client: &Client, text: &str) -> Result<Vec<Category>, Error> {
        let (path, body) = match self.protocol {
            Protocol::Moderation => ("moderations", json!({ "model": self.model, "input": text })),
            Protocol::Chat => {
                let messages = [json!({ "role": "user", "content": text })];
                let body =
                    json!({ "model": self.model, "messages": messages, "temperature": 0, "max_tokens": 64 });
                ("chat/completions", body)
            }
        };
        let url = format!("{}/{path}", self.base_url.trim_end_matches('/'));
        let mut request = client.post(url).timeout(Duration::from_millis(self.timeout_ms)).json(&body);
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key.expose_secret());
        }
        let mut response = request.send().await?.error_for_status()?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(Error::Unclear);
            }
        }
        let answer = serde_json::from_slice(&bytes).map_err(|_| Error::Unclear)?;
        let flagged = match self.protocol {
            Protocol::Moderation => moderated(&answer),
            Protocol::Chat => answer["choices"][0]["message"]["content"].as_str().and_then(judged),
        };
        flagged.ok_or(Error::Unclear)
    }
}

/// What a moderation flags; `None` for no such answer. A category nobody knows counts as crime, which is refused.
fn moderated(answer: &Value) -> Option<Vec<Category>> {
    let result = answer["results"].get(0)?;
    let whole = result["flagged"].as_bool()?;
    let flags = result["categories"].as_object().into_iter().flatten();
    let named = flags.filter(|(_, flag)| flag.as_bool() == Some(true));
    let mut flagged: Vec<Category> =
        named.map(|(name, _)| Category::named(name).unwrap_or(Category::Illegal)).collect();
    if whole && flagged.is_empty() {
        flagged.push(Category::Illegal);
    }
    Some(flagged)
}

/// What a guard model says; `None` when it is neither safe nor unsafe.
fn judged(said: &str) -> Option<Vec<Category>> {
    let said = said.trim().to_ascii_lowercase();
    let (verdict, names) = said.split_once('\n').unwrap_or((&said, ""));
    match verdict.trim() {
        "safe" => Some(Vec::new()),
        "unsafe" => {
            let names = names.split([',', '\n']).map(str::trim).filter(|name| !name.is_empty());
            let mut flagged: Vec<_> =
                names.map(|name| Category::named(name).unwrap_or(Category::Illegal)).collect();
            if flagged.is_empty() {
                flagged.push(Category::Illegal);
            }
            Some(flagged)
        }
        _ => None,
    }
}

/// Why a guard has no opinion.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the answer is no verdict of this protocol; see safety.guards.NAME.protocol")]
    Unclear,
}

/// The guards of others.
#[derive(Debug)]
pub(crate) struct Remotes {
    client: Client,
    guards: BTreeMap<String, Remote>,
}

impl Remotes {
    pub(crate) fn new(guards: &BTreeMap<String, Remote>) -> Result<Self, reqwest::Error> {
        // A verdict is not to be fetched from wherever a server points.
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, guards: guards.clone() })
    }

    /// Asks all guards of a point at the same time about a text that passed; the first that blocks ends the others.
    pub(crate) async fn screen(&self, rails: &Rails, point: Point, mut verdict: Verdict) -> Verdict {
        if verdict.action >= Action::Escalate || verdict.status != Status::Ok {
            return verdict;
        }
        let text = verdict.text.clone();
        let here = self.guards.iter().filter(|(_, guard)| guard.rails.contains(&point));
        let ask = |(name, guard)| {
            let asked = Remote::ask(guard, &self.client, &text);
            async move { (name, guard.required, asked.await) }
        };
        let mut asked: FuturesUnordered<_> = here.map(ask).collect();
        while let Some((name, required, answer)) = asked.next().await {
            match answer {
                Ok(flagged) => verdict = rails.flagged(verdict, point, &flagged),
                Err(error) => {
                    tracing::warn!(guard = name, required, %error, "a guard did not answer");
                    if required {
                        let timeout = matches!(&error, Error::Http(error) if error.is_timeout());
                        verdict =
                            rails.doubted(verdict, if timeout { Status::Timeout } else { Status::Error });
                    }
                }
            }
            if verdict.action == Action::Block {
                break;
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_of_both_protocols_are_read_and_nothing_else_is_one() {
        assert_eq!(judged(" safe\n"), Some(vec![]));
        assert_eq!(judged("unsafe\nS11,S10"), Some(vec![Category::SelfHarm, Category::Hate]));
        assert_eq!(judged("unsafe"), Some(vec![Category::Illegal]));
        assert_eq!(judged("I cannot say"), None);
        let answer = |flagged: bool, categories: Value| {
            moderated(&json!({ "results": [{ "flagged": flagged, "categories": categories }] }))
        };
        let flags = json!({ "self-harm/intent": true, "hate": false, "novel": true });
        assert_eq!(answer(true, flags), Some(vec![Category::Illegal, Category::SelfHarm]));
        assert_eq!(answer(true, json!({})), Some(vec![Category::Illegal]));
        assert_eq!(answer(false, json!({ "hate": false })), Some(vec![]));
        assert_eq!(moderated(&json!({ "error": "no" })), None);
    }
}

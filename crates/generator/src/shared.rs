//! Answers that several processes know, on a Redis. Whatever goes wrong there is a miss, and soon no question any more.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, FromRedisValue, RedisError, RedisResult};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use crate::answer::Answer;
use crate::breaker::{Breaker, Limits};

/// Longest wait for an answer of the server, and for a connection to it: a model takes a hundred times as long.
const PATIENCE: Duration = Duration::from_millis(20);
const CONNECT: Duration = Duration::from_secs(1);
/// What keys begin with; raise the number with every change of what is kept.
const PREFIX: &str = "firstline:answer:2:";

/// Answers on a Redis.
pub(crate) struct Shared {
    connection: ConnectionManager,
    breaker: Mutex<Breaker>,
    ttl_s: u64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// Connects with the first question.
    ///
    /// # Errors
    /// The URL is none of a Redis.
    pub(crate) fn new(url: &SecretString, ttl_s: u64) -> anyhow::Result<Self> {
        // Without the error of the URL, which may hold a password.
        let client = Client::open(url.expose_secret()).ok();
        let client = client
            .context("generator.cache.url is no URL such as \"redis://host:6379\" or \"rediss://host\"")?;
        let config =
            ConnectionManagerConfig::new().set_connection_timeout(Some(CONNECT)).set_number_of_retries(0);
        let connection = ConnectionManager::new_lazy_with_config(client, config);
        let connection = connection.context("generator.cache.url: no connection can be made")?;
        Ok(Self { connection, breaker: Mutex::default(), ttl_s })
    }

    /// The answer of a key, `None` when it is not known or the server does not say.
    pub(crate) async fn get(&self, key: &[u8]) -> Option<Answer> {
        let mut get = redis::cmd("GET");
        get.arg(name(key));
        let found: Option<Vec<u8>> =
            self.ask(|mut server| async move { get.query_async(&mut server).await }).await?;
        let answer = serde_json::from_slice(&found?);
        answer.inspect_err(|error| tracing::warn!(%error, "an answer in the shared cache is damaged")).ok()
    }

    /// Keeps an answer, if the server takes it.
    pub(crate) async fn put(&self, key: &[u8], answer: &Answer) {
        let Ok(kept) = serde_json::to_vec(answer) else { return };
        let mut set = redis::cmd("SET");
        set.arg(name(key)).arg(kept).arg("EX").arg(self.ttl_s);
        let _: Option<()> = self.ask(|mut server| async move { set.query_async(&mut server).await }).await;
    }

    /// Forgets an answer, if the server hears it.
    pub(crate) async fn remove(&self, key: &[u8]) {
        let mut delete = redis::cmd("DEL");
        delete.arg(name(key));
        let _: Option<()> = self.ask(|mut server| async move { delete.query_async(&mut server).await }).await;
    }

    /// Asks the server, unless it has failed too often.
    async fn ask<T: FromRedisValue, F>(&self, call: impl FnOnce(ConnectionManager) -> F) -> Option<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if self.breaker().admit(Instant::now(), 0, Limits::default()).is_err() {
            return None;
        }
        let said = tokio::time::timeout(PATIENCE, call(self.connection.clone())).await;
        let failed: Option<RedisError> = match said {
            Ok(Ok(said)) => {
                self.breaker().succeeded(Instant::now());
                return Some(said);
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        self.breaker().failed(Instant::now(), None);
        let error = failed.map_or_else(|| "no answer in time".to_owned(), |error| error.to_string());
        tracing::debug!(error, "the shared cache does not answer");
        None
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(key: &[u8]) -> String {
    let hex = key.iter().map(|byte| format!("{byte:02x}"));
    hex.fold(PREFIX.to_owned(), |name, byte| name + &byte)
}

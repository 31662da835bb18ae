//! The questions by which an epoch is compared with another one. Each may take several calls.

use std::collections::BTreeMap;

use hyper::Method;
use serde::de::DeserializeOwned;

use super::{AdminClient, AdminError, MAX_LARGE, MAX_STATS, STATS, stats_query};
use crate::admin::certificates::{self, Certificates};
use crate::admin::evidence::{self, Fetched};
use crate::admin::{listeners, stats};

/// Where the statistics are for Prometheus.
const PROMETHEUS: &str = "/stats/prometheus";

/// The largest text for Prometheus that is read.
const MAX_PROMETHEUS: usize = 64 << 20;

impl AdminClient {
    /// Asks `/config_dump`, and returns the fetched listeners that Envoy has refused, each with the
    /// reason. No other part of the configuration is in the answer.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub(crate) async fn refused_listeners(&self) -> Result<Vec<(String, String)>, AdminError> {
        let path = "/config_dump";
        let body = self
            .call(Method::GET, path, listeners::REFUSED, MAX_STATS)
            .await?;
        listeners::refused(&body).map_err(|why| self.unexpected(path, why))
    }

    /// Asks `/stats`, and returns the counters of requests that are not zero.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub(crate) async fn request_counters(&self) -> Result<Vec<(String, u64)>, AdminError> {
        self.numbers_in_use("Counters", evidence::REQUESTS).await
    }

    /// Asks `/stats`, and returns what is fetched, with the gauges of warming listeners and of clusters.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub(crate) async fn fetched(&self) -> Result<Fetched, AdminError> {
        let query = stats_query("TextReadouts", false, evidence::VERSIONS);
        let body = self.call(Method::GET, STATS, &query, MAX_STATS).await?;
        let texts = evidence::texts(&body).map_err(|why| self.unexpected(STATS, why))?;
        // The numbers cost more, and decide only where a text is empty.
        let filter = match texts.iter().any(|(_, text)| text.is_empty()) {
            true => evidence::MANAGERS_AND_VERSIONS,
            false => evidence::MANAGERS,
        };
        let query = stats_query("Gauges", true, filter);
        let body = self.call(Method::GET, STATS, &query, MAX_LARGE).await?;
        let read = stats::parse(&body).map_err(|why| self.unexpected(STATS, why))?;
        let mut gauges = BTreeMap::new();
        gauges.extend(read);
        Ok(evidence::fetched(&texts, gauges))
    }

    /// Asks `/stats` whether Envoy has refused a certificate. If it has, asks `/config_dump` and `/certs`, and
    /// returns the fetched certificates that are in no use.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub(crate) async fn certificates(&self) -> Result<Certificates, AdminError> {
        let counters = self
            .numbers_in_use("Counters", certificates::COUNTERS)
            .await?;
        let rejected = certificates::rejected(&counters);
        if rejected.is_empty() {
            return Ok(Certificates::default());
        }
        // In this order one that comes meanwhile is held, and none passes for what it replaces.
        let secrets = self.json("/config_dump", certificates::SECRETS).await?;
        let contexts = self.json("/certs", "").await?;
        let unused = certificates::judge(&rejected, &secrets, &contexts);
        if unused.is_empty() {
            return Ok(Certificates::default());
        }
        let tried = self.numbers_in_use("Gauges", certificates::TRIED).await?;
        Ok(certificates::told(
            &unused, &secrets, &contexts, &counters, &tried,
        ))
    }

    /// Asks `/stats/prometheus`, and returns all statistics in the text format of Prometheus.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub(crate) async fn prometheus(&self, only_used: bool) -> Result<Vec<u8>, AdminError> {
        let query = if only_used { "?usedonly" } else { "" };
        self.call(Method::GET, PROMETHEUS, query, MAX_PROMETHEUS)
            .await
    }

    /// Asks `/stats` for nothing. Where `stats_flush_on_admin` is set, Envoy closes an interval with that,
    /// and takes over what its parent has counted.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub(crate) async fn flush_statistics(&self) -> Result<(), AdminError> {
        let query = stats_query("TextReadouts", true, "^$");
        self.call(Method::GET, STATS, &query, MAX_STATS).await?;
        Ok(())
    }

    async fn json<T: DeserializeOwned>(
        &self,
        path: &'static str,
        query: &str,
    ) -> Result<T, AdminError> {
        let body = self.call(Method::GET, path, query, MAX_LARGE).await?;
        serde_json::from_slice(&body).map_err(|why| self.unexpected(path, why.to_string()))
    }

    async fn numbers_in_use(
        &self,
        kind: &str,
        filter: &str,
    ) -> Result<Vec<(String, u64)>, AdminError> {
        let body = self.stats_in_use(kind, filter).await?;
        stats::parse(&body).map_err(|why| self.unexpected(STATS, why))
    }

    async fn stats_in_use(&self, kind: &str, filter: &str) -> Result<Vec<u8>, AdminError> {
        let query = stats_query(kind, true, filter);
        self.call(Method::GET, STATS, &query, MAX_STATS).await
    }
}

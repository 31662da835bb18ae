//! What `/config_dump` tells of clusters.

use serde::Deserialize;

use crate::text::one_line;

/// Reads the answer to `/config_dump?resource=dynamic_active_clusters`: the names of the clusters.
pub(super) fn fetched(body: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        configs: Vec<DynamicCluster>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct DynamicCluster {
        cluster: Cluster,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Cluster {
        name: String,
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| one_line(&error.to_string()))?;
    let clusters = answer.configs.into_iter();
    Ok(clusters.map(|config| config.cluster.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetched_clusters_are_named() {
        let body = br#"{"configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster",
             "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a"}},
            {"cluster": {"name": "b"}}]}"#;
        assert_eq!(fetched(body).unwrap(), ["a", "b"]);
        assert_eq!(fetched(b"{}").unwrap(), [""; 0]);
        for body in ["", "null", "[1]", r#"{"configs": 1}"#] {
            assert!(fetched(body.as_bytes()).is_err(), "{body}");
        }
    }
}

//! The kinds of resource that a control plane serves.

use std::fmt;

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Served by LDS.
    Listener,
    /// Served by CDS.
    Cluster,
    /// Route configurations, served by RDS.
    Routes,
    /// Load assignments, served by EDS.
    Endpoints,
    /// Certificates and authorities, served by SDS.
    Secret,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Listener,
        Self::Cluster,
        Self::Routes,
        Self::Endpoints,
        Self::Secret,
    ];

    /// The name of its message, with the package.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Listener => "envoy.config.listener.v3.Listener",
            Self::Cluster => "envoy.config.cluster.v3.Cluster",
            Self::Routes => "envoy.config.route.v3.RouteConfiguration",
            Self::Endpoints => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    /// The type URL by which a stream asks for it.
    #[must_use]
    pub fn type_url(self) -> String {
        format!("{}{}", super::TYPES, self.message())
    }

    /// The last part of the path by which it is asked for over REST.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Listener => "listeners",
            Self::Cluster => "clusters",
            Self::Routes => "routes",
            Self::Endpoints => "endpoints",
            Self::Secret => "secrets",
        }
    }

    /// The field with the name by which a request asks for one.
    pub(super) fn name_field(self) -> &'static str {
        match self {
            Self::Endpoints => "cluster_name",
            Self::Listener | Self::Cluster | Self::Routes | Self::Secret => "name",
        }
    }

    pub(super) fn of_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// The kind that a path of REST ends in, `/v3/discovery:listeners` for example.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let (_, last) = path.rsplit_once(':')?;
        Self::ALL.into_iter().find(|kind| kind.path() == last)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "LDS",
            Self::Cluster => "CDS",
            Self::Routes => "RDS",
            Self::Endpoints => "EDS",
            Self::Secret => "SDS",
        })
    }
}

//! The HTTP connection manager and its routes.

use std::time::Duration;

use serde_json::Value;

use super::{ConfigError, Pattern, Source, duration, each, number, text, unsupported};

/// An HTTP connection manager.
#[derive(Clone, Debug)]
pub(crate) struct HttpManager {
    pub(crate) stat_prefix: String,
    /// The routes, or the name of those that are fetched.
    pub(crate) routes: Result<RouteConfig, (String, Source)>,
    /// What the fault filter does; nothing without one.
    delays: Option<Delays>,
}

/// How a fault filter holds requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delays {
    /// Whether a client may ask for a delay by `x-envoy-fault-delay-request`.
    pub(crate) by_header: bool,
    /// How long each request is held.
    pub(crate) fixed: Duration,
}

/// Routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteConfig {
    hosts: Vec<VirtualHost>,
    headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct VirtualHost {
    domains: Vec<String>,
    routes: Vec<Route>,
    headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct Route {
    path: Pattern,
    action: RouteAction,
    headers: Vec<(String, String)>,
    /// What a fault filter does with its requests, in place of what it does with others.
    delays: Option<Delays>,
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteAction {
    /// Answer it.
    Direct { status: u16, body: String },
    /// Send it to a cluster. A timeout of zero is none.
    Forward { cluster: String, timeout: Duration },
}

/// The answer of the routes to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Routed<'a> {
    pub(crate) action: &'a RouteAction,
    /// What is added to the response, the innermost first.
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    /// What a fault filter does with the request, if the route has a say in it.
    pub(crate) delays: Option<Delays>,
}

/// The message of a connection manager.
const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// The message of a fault filter.
const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

impl HttpManager {
    /// Returns whether a filter is one. It may have any name if it has a type.
    pub(super) fn is(filter: &Value) -> bool {
        match kind(filter.get("typed_config").unwrap_or(&Value::Null)) {
            "" => text(filter, "name") == "envoy.filters.network.http_connection_manager",
            message => message == MANAGER,
        }
    }

    pub(super) fn read(value: &Value) -> Result<Self, ConfigError> {
        let routes = match (value.get("route_config"), value.get("rds")) {
            (Some(routes), _) => Ok(RouteConfig::read(routes)?),
            (None, Some(rds)) => {
                let source = rds.get("config_source").unwrap_or(&Value::Null);
                Err((text(rds, "route_config_name"), Source::read(source)?))
            }
            (None, None) => {
                return Err(unsupported(
                    "a connection manager without route_config or rds",
                ));
            }
        };
        let mut manager = Self {
            stat_prefix: text(value, "stat_prefix"),
            routes,
            delays: None,
        };
        for filter in each(value, "http_filters") {
            let config = filter.get("typed_config").unwrap_or(&Value::Null);
            let name = text(filter, "name");
            // Without a type it is known by its name.
            let message = match kind(config) {
                "" => &name,
                message => message,
            };
            match message {
                "envoy.filters.http.router" | "envoy.extensions.filters.http.router.v3.Router" => {}
                "envoy.filters.http.fault" | FAULT => {
                    manager.delays = Some(Delays::read(config)?);
                }
                _ => return Err(unsupported(&format!("the HTTP filter {name}"))),
            }
        }
        Ok(manager)
    }

    /// Returns how a request is held whose route wants this.
    pub(crate) fn delays(&self, route: Option<Delays>) -> Option<Delays> {
        let own = self.delays?;
        Some(route.unwrap_or(own))
    }
}

impl Delays {
    fn read(fault: &Value) -> Result<Self, ConfigError> {
        if fault.get("abort").is_some() {
            return Err(unsupported("abort of the fault filter"));
        }
        let delay = fault.get("delay").unwrap_or(&Value::Null);
        let fixed = delay.get("fixed_delay").and_then(duration);
        Ok(Self {
            by_header: delay.get("header_delay").is_some(),
            fixed: fixed.unwrap_or_default(),
        })
    }

    /// Reads what a route wants of a fault filter.
    fn of_route(route: &Value) -> Result<Option<Self>, ConfigError> {
        let mut delays = None;
        let filters = route
            .get("typed_per_filter_config")
            .and_then(Value::as_object);
        for (filter, config) in filters.into_iter().flatten() {
            if kind(config) != FAULT {
                return Err(unsupported(&format!("typed_per_filter_config of {filter}")));
            }
            delays = Some(Self::read(config)?);
        }
        Ok(delays)
    }
}

impl RouteConfig {
    /// Reads a `RouteConfiguration`.
    pub(crate) fn read(value: &Value) -> Result<Self, ConfigError> {
        let hosts = each(value, "virtual_hosts").map(|host| {
            let domains = each(host, "domains").filter_map(Value::as_str);
            Ok(VirtualHost {
                domains: domains.map(str::to_owned).collect(),
                routes: each(host, "routes")
                    .map(Route::read)
                    .collect::<Result<_, _>>()?,
                headers: headers(host)?,
            })
        });
        Ok(Self {
            hosts: hosts.collect::<Result<_, ConfigError>>()?,
            headers: headers(value)?,
        })
    }

    /// Returns what is done with a request, or nothing if no route matches.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<Routed<'_>> {
        let host = host.to_ascii_lowercase();
        let bare = host.rsplit_once(':').map_or(&*host, |(name, _)| name);
        let rank = |virtual_host: &VirtualHost| {
            let ranks = virtual_host.domains.iter().filter_map(|domain| {
                if *domain == host || domain == bare {
                    return Some(usize::MAX);
                }
                let rest = domain.strip_prefix('*')?;
                host.ends_with(rest).then_some(rest.len())
            });
            ranks.max()
        };
        let ranked = self
            .hosts
            .iter()
            .filter_map(|host| Some((rank(host)?, host)));
        let (_, virtual_host) = ranked.max_by_key(|(rank, _)| *rank)?;
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut routes = virtual_host.routes.iter();
        let route = routes.find(|route| route.path.matches(path))?;
        let headers = [&route.headers, &virtual_host.headers, &self.headers];
        let headers = headers.into_iter().flatten();
        Some(Routed {
            action: &route.action,
            headers: headers.map(|(key, value)| (&**key, &**value)).collect(),
            delays: route.delays,
        })
    }
}

impl Route {
    fn read(value: &Value) -> Result<Self, ConfigError> {
        let matched = value.get("match").unwrap_or(&Value::Null);
        let path = match matched.get("path").and_then(Value::as_str) {
            Some(path) => Pattern::Exact(path.to_owned()),
            None => Pattern::read(matched)?,
        };
        let action = match (value.get("direct_response"), value.get("route")) {
            (Some(direct), _) => {
                let status = direct.get("status").and_then(number).unwrap_or(200);
                let body = direct.get("body").unwrap_or(&Value::Null);
                RouteAction::Direct {
                    status: u16::try_from(status).unwrap_or(200),
                    body: text(body, "inline_string"),
                }
            }
            (None, Some(route)) => {
                let timeout = route.get("timeout").and_then(duration);
                RouteAction::Forward {
                    cluster: text(route, "cluster"),
                    timeout: timeout.unwrap_or(Duration::from_secs(15)),
                }
            }
            (None, None) => {
                return Err(unsupported(
                    "a route that is neither direct_response nor route",
                ));
            }
        };
        Ok(Self {
            path,
            action,
            headers: headers(value)?,
            delays: Delays::of_route(value)?,
        })
    }
}

/// Returns the type of a message that is packed; an empty one if it has none.
fn kind(value: &Value) -> &str {
    let url = value.get("@type").and_then(Value::as_str);
    url.and_then(|url| url.rsplit('/').next())
        .unwrap_or_default()
}

fn headers(value: &Value) -> Result<Vec<(String, String)>, ConfigError> {
    let added = each(value, "response_headers_to_add").filter_map(|it| it.get("header"));
    added
        .map(|header| {
            let key = text(header, "key").to_ascii_lowercase();
            Ok((key, formatted(&text(header, "value"))?))
        })
        .collect()
}

/// Replaces the commands in the value of a header: `%ENVIRONMENT(NAME)%`, and `%%` for a percent sign.
fn formatted(value: &str) -> Result<String, ConfigError> {
    let mut formatted = String::new();
    let mut rest = value;
    while let Some((before, command)) = rest.split_once('%') {
        formatted.push_str(before);
        let (command, after) = command
            .split_once('%')
            .ok_or_else(|| ConfigError(format!("Incorrect header configuration: {value}")))?;
        let named = command.strip_prefix("ENVIRONMENT(");
        match (command, named.and_then(|name| name.strip_suffix(')'))) {
            ("", _) => formatted.push('%'),
            (_, Some(name)) => {
                let found = std::env::var_os(name).unwrap_or_else(|| "-".into());
                formatted.push_str(&found.to_string_lossy());
            }
            _ => return Err(unsupported(&format!("%{command}% in a header"))),
        }
        rest = after;
    }
    formatted.push_str(rest);
    Ok(formatted)
}

/// Reads the files of a TLS context as Envoy does, and refuses to serve TLS.
pub(super) fn check_transport_socket(socket: &Value) -> Result<(), ConfigError> {
    let name = text(socket, "name");
    if name == "envoy.transport_sockets.raw_buffer" {
        return Ok(());
    }
    let common = socket
        .get("typed_config")
        .and_then(|config| config.get("common_tls_context"))
        .unwrap_or(&Value::Null);
    for certificate in each(common, "tls_certificates") {
        // Envoy reads the key first.
        for (field, what) in [
            ("private_key", "private key"),
            ("certificate_chain", "certificate chain"),
        ] {
            let file = certificate.get(field).map(|file| text(file, "filename"));
            if let Some(file) = file.filter(|file| std::fs::File::open(file).is_err()) {
                return Err(ConfigError(format!(
                    "Failed to load incomplete {what} from path: {file}"
                )));
            }
        }
    }
    Err(unsupported(&format!("the transport socket {name}")))
}

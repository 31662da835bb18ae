//! The admin endpoint.

mod pages;
mod server;
mod stats_page;

use serde_json::Value;

use crate::config::{Address, Pattern};
use crate::faults::{Habit, Habits};
use crate::statistics;

pub(crate) use self::server::{AdminServer, Backend, BoundAdmin};

/// The state of the process, as `/server_info` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerState {
    Live,
    Draining,
    PreInitializing,
    Initializing,
}

impl ServerState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }

    /// Returns the value of the gauge `server.state`.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Live => 0,
            Self::Draining => 1,
            Self::PreInitializing => 2,
            Self::Initializing => 3,
        }
    }
}

/// An address of an active listener.
#[derive(Clone, Debug)]
pub(crate) struct ShownListener {
    pub(crate) name: String,
    pub(crate) address: Address,
    /// Whether the address is a further one of the listener before.
    pub(crate) is_additional: bool,
}

/// What the pages show.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) habits: Habits,
    pub(crate) state: ServerState,
    /// The text of `--version`.
    pub(crate) version: String,
    /// What `--hot-restart-version` prints.
    pub(crate) hot_restart_version: String,
    pub(crate) restart_epoch: u32,
    /// The arguments as `/server_info` shows them.
    pub(crate) options: Value,
    /// In whole seconds.
    pub(crate) uptime: u64,
    /// In whole seconds.
    pub(crate) uptime_all_epochs: u64,
    /// The active listeners, one for each address.
    pub(crate) listeners: Vec<ShownListener>,
    pub(crate) clusters: Vec<String>,
    pub(crate) allow: Vec<Pattern>,
    pub(crate) statistics: Vec<(String, statistics::Value)>,
    /// Who is waited for before the process is live: the manager that waits, and for what.
    pub(crate) targets: Vec<(String, String)>,
    /// The configuration.
    pub(crate) document: Value,
    /// In bytes.
    pub(crate) memory: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

/// What a call does besides its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    Quit,
    FailHealthChecks,
    PassHealthChecks,
    ReopenLogs,
    Drain {
        graceful: bool,
        skip_exit: bool,
        inbound_only: bool,
    },
}

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";

impl Page {
    fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: TEXT,
            body: body.into(),
        }
    }

    fn json(value: &Value) -> Self {
        Self {
            status: 200,
            content_type: JSON,
            body: pages::pretty(value),
        }
    }
}

/// The paths that change something, which Envoy refuses to a GET.
const MUTATING: [&str; 11] = [
    "/allocprofiler",
    "/cpuprofiler",
    "/drain_listeners",
    "/healthcheck/fail",
    "/healthcheck/ok",
    "/heapprofiler",
    "/logging",
    "/quitquitquit",
    "/reopen_logs",
    "/reset_counters",
    "/runtime_modify",
];

/// Answers a call.
pub(crate) fn answer(method: &str, target: &str, view: &View) -> (Page, Effect) {
    let only = |page| (page, Effect::Nothing);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_allowed = view.allow.is_empty() || view.allow.iter().any(|it| it.matches(target));
    if !is_allowed || view.habits.has(&Habit::AdminForbidden) {
        let text = format!("request to path {target} not allowed");
        return only(Page::text(403, text));
    }
    if MUTATING.contains(&path) && method != "POST" {
        let text = format!("Method {method} not allowed, POST required.");
        return only(Page::text(405, text));
    }
    let ok = |effect| (Page::text(200, "OK\n"), effect);
    match path {
        "/ready" => {
            let state = shown_state(view);
            let status = if state == ServerState::Live { 200 } else { 503 };
            only(Page::text(status, format!("{}\n", state.name())))
        }
        "/server_info" => only(Page::json(&pages::server_info(view))),
        "/listeners" => only(pages::listeners(view, query)),
        "/clusters" => only(pages::clusters(view, query)),
        "/init_dump" => only(Page::json(&pages::init_dump(view))),
        "/config_dump" => only(pages::config_dump(view, query)),
        "/memory" => only(Page::json(&pages::memory(view))),
        "/certs" => only(Page::json(&serde_json::json!({"certificates": []}))),
        "/runtime" => only(Page::json(
            &serde_json::json!({"layers": [], "entries": {}}),
        )),
        "/hot_restart_version" => only(Page::text(200, view.hot_restart_version.clone())),
        "/stats" => only(stats_page::answer(view, query)),
        "/stats/prometheus" => only(stats_page::prometheus(view, query)),
        "/help" => only(Page::text(
            200,
            format!("admin commands are:\n{}", pages::HELP),
        )),
        "/healthcheck/fail" => ok(Effect::FailHealthChecks),
        "/healthcheck/ok" => ok(Effect::PassHealthChecks),
        "/quitquitquit" => ok(Effect::Quit),
        "/reopen_logs" => ok(Effect::ReopenLogs),
        "/drain_listeners" => {
            let has = |name| parameter(query, name).is_some();
            if has("skip_exit") && !has("graceful") {
                return ok(Effect::Drain {
                    graceful: false,
                    skip_exit: false,
                    inbound_only: has("inboundonly"),
                });
            }
            ok(Effect::Drain {
                graceful: has("graceful"),
                skip_exit: has("skip_exit"),
                inbound_only: has("inboundonly"),
            })
        }
        _ => only(Page::text(
            404,
            format!("invalid path. admin commands are:\n{}", pages::HELP),
        )),
    }
}

/// The state that the pages show.
fn shown_state(view: &View) -> ServerState {
    if view.habits.has(&Habit::LieLive) {
        return ServerState::Live;
    }
    view.state
}

/// Returns a parameter of a query; an empty text for one without a value.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut parameters = query.split('&');
    parameters.find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (key == name).then(|| decoded(value))
    })
}

/// Takes percent signs out.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| others.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;

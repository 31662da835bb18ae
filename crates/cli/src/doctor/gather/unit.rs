//! What systemd says about the unit of this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_process::{Command, Line, Stream};
use handover_runtime::time_limit::timeout;

use super::{bounded, no_answer, read};
use crate::doctor::facts::{Known, UnitFacts, Unknown};

/// How long systemd has for its answer.
const ANSWER: Duration = Duration::from_secs(3);
/// The most that is kept of the answer.
const MOST: usize = 4096;

/// Which unit is meant.
#[derive(Debug, PartialEq, Eq)]
struct UnitName {
    name: String,
    /// Whether it is a unit of a user's own systemd.
    user: bool,
}

/// Asks for the unit with this name, or else for that of this process.
pub(super) async fn ask(given: Option<String>) -> Known<Option<UnitFacts>> {
    let unit = match given {
        Some(name) => UnitName { name, user: false },
        None => {
            let groups = bounded(|| read("/proc/self/cgroup")).await?;
            match unit_in(&groups) {
                Some(unit) => unit,
                None => return Ok(None),
            }
        }
    };
    let answer = show(&unit).await?;
    facts_from(&unit.name, &answer).map(Some)
}

/// The service whose control group this is. A scope, as of a container or a login, is none.
fn unit_in(groups: &str) -> Option<UnitName> {
    let group = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers) = (fields.next()?, fields.next()?);
        let has_units = (number == "0" && controllers.is_empty()) || controllers == "name=systemd";
        fields.next().filter(|group| has_units && *group != "/")
    })?;
    // Commands before the main one are in a group of their own below that of the unit.
    let group = group.strip_suffix("/.control").unwrap_or(group);
    let name = group.rsplit('/').next()?;
    name.ends_with(".service").then(|| UnitName {
        name: name.to_owned(),
        user: group.contains("/user@"),
    })
}

async fn show(unit: &UnitName) -> Known<String> {
    let said: Arc<Mutex<String>> = Arc::default();
    let sink = Arc::clone(&said);
    let mut command = Command::new("systemctl")
        .label("systemctl")
        .env("LC_ALL", "C")
        .kill_group_at_end(true)
        .output(move |line: &Line<'_>| {
            let mut said = sink.lock().unwrap_or_else(PoisonError::into_inner);
            if line.stream == Stream::Stdout && said.len() < MOST {
                said.push_str(&String::from_utf8_lossy(line.bytes));
                said.push('\n');
            }
        });
    if unit.user {
        command = command.arg("--user");
    }
    let properties = "--property=LoadState,Type,KillMode,TimeoutStopUSec";
    let command = command.args(["show", properties, "--", &unit.name]);
    let run = async {
        let child = command.spawn().await;
        let child = child.map_err(|error| Unknown(format!("systemctl: {error}")))?;
        let cause = child.wait().await;
        cause.map_err(|error| Unknown(format!("systemctl: {error}")))
    };
    let cause = timeout(ANSWER, run)
        .await
        .map_err(|_| no_answer(ANSWER))??;
    if !cause.success() {
        return Err(Unknown("systemctl failed: is systemd running?".to_owned()));
    }
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(said.clone())
}

fn facts_from(name: &str, answer: &str) -> Known<UnitFacts> {
    let mut properties = BTreeMap::new();
    properties.extend(answer.lines().filter_map(|line| line.split_once('=')));
    let property = |key: &str| {
        let value = properties.get(key).filter(|value| !value.is_empty());
        value.ok_or_else(|| Unknown(format!("systemd does not tell {key} of {name}")))
    };
    if *property("LoadState")? != "loaded" {
        return Err(Unknown(format!("systemd knows no unit {name}")));
    }
    Ok(UnitFacts {
        name: name.to_owned(),
        service_type: property("Type").map(|text| (*text).to_owned()),
        kill_mode: (*property("KillMode")?).to_owned(),
        stop_timeout: property("TimeoutStopUSec").and_then(|text| match *text {
            "infinity" => Ok(None),
            text => humantime::parse_duration(text)
                .map(Some)
                .map_err(|_| Unknown(format!("TimeoutStopUSec={text} is no time"))),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_in_its_group_and_a_scope_is_none() {
        let unit = |name: &str, user| {
            let name = name.to_owned();
            Some(UnitName { name, user })
        };
        for (groups, found) in [
            (
                "0::/system.slice/envoy.service\n",
                unit("envoy.service", false),
            ),
            (
                "0::/system.slice/envoy@a.service/.control\n",
                unit("envoy@a.service", false),
            ),
            (
                "0::/user.slice/user-7.slice/user@7.service/app.slice/e.service\n",
                unit("e.service", true),
            ),
            (
                "4:memory:/x\n1:name=systemd:/system.slice/e.service\n0::/\n",
                unit("e.service", false),
            ),
            ("0::/user.slice/user-7.slice/session-1.scope\n", None),
            ("0::/system.slice/docker-0a.scope\n", None),
            ("0::/\n", None),
            ("", None),
            ("nonsense", None),
        ] {
            assert_eq!(unit_in(groups), found, "{groups}");
        }
    }

    #[test]
    fn the_answer_of_systemd_is_read_or_unknown() {
        let good = "Type=notify\nKillMode=mixed\nTimeoutStopUSec=1min 30s\nLoadState=loaded\n";
        let facts = facts_from("e.service", good).unwrap();
        assert_eq!(facts.service_type.as_deref(), Ok("notify"));
        let without = good.replace("Type=notify\n", "");
        assert!(
            facts_from("e.service", &without)
                .unwrap()
                .service_type
                .is_err()
        );
        assert_eq!(facts.kill_mode, "mixed");
        assert_eq!(facts.stop_timeout, Ok(Some(Duration::from_secs(90))));
        let endless = good.replace("1min 30s", "infinity");
        assert_eq!(
            facts_from("e.service", &endless).unwrap().stop_timeout,
            Ok(None)
        );
        let odd = good.replace("1min 30s", "soon");
        assert!(facts_from("e.service", &odd).unwrap().stop_timeout.is_err());
        for unknown in [
            "",
            "KillMode=mixed\nLoadState=not-found\n",
            "LoadState=loaded\nKillMode=\n",
        ] {
            assert!(facts_from("e.service", unknown).is_err(), "{unknown}");
        }
    }
}

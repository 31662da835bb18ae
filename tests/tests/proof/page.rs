//! The page of the status server, in a real browser.
//!
//! With `HANDOVER_PICTURES=DIR` the pictures of the documentation are written there.

use std::fs;
use std::path::Path;
use std::process::Command;

use handover_test_support::browser::Browser;
use handover_test_support::envoy_config::Break;
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::{Launch, Signal, Supervisor};
use handover_test_support::{require_browser, require_envoy};
use serde_json::Value;

use crate::world::{LIMIT, Site};

/// Each text that is seen must have this contrast to what is behind it: level AA of the WCAG.
const CONTRAST: &str = r"
const rgb = color => color.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const behind = node => {
  for (; node; node = node.parentElement) {
    const color = rgb(getComputedStyle(node).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
// A parent that is seen through lets what is behind it through its texts as well.
const opacity = node => node ? Number(getComputedStyle(node).opacity) * opacity(node.parentElement) : 1;
const mixed = (color, back, share) => [0, 1, 2].map(i => color[i] * share + back[i] * (1 - share));
const poor = [];
for (const node of document.querySelectorAll('body *')) {
  const has = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
  if (!has || !node.checkVisibility() || node.closest('script, style, noscript')) continue;
  const [color, back] = [rgb(getComputedStyle(node).color), behind(node)];
  const [a, b] = [light(mixed(color, back, (color[3] ?? 1) * opacity(node))), light(back)];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) poor.push(node.textContent.trim() + ': ' + ratio.toFixed(2));
}
return poor;
";

/// What assistive programs need, and the keyboard.
const ACCESS: &str = r"
const wrong = [];
const need = (so, what) => so || wrong.push(what);
need(document.documentElement.lang === 'en', 'no language');
const patterns = [...document.querySelectorAll('.key .sign')].map(node => {
  node.style.color = 'black';
  const { backgroundImage, backgroundColor, backgroundSize, borderStyle } = getComputedStyle(node);
  node.style.color = '';
  return [backgroundImage, backgroundColor, backgroundSize, borderStyle].join();
});
need(patterns.length === 6 && new Set(patterns).size === 6, 'two stages look the same without colours');
for (const tag of ['header', 'main', 'footer', 'h1', 'h2']) need(document.querySelectorAll(tag).length === 1, 'not one ' + tag);
for (const section of document.querySelectorAll('section')) {
  const name = document.getElementById(section.getAttribute('aria-labelledby'));
  need(name && name.textContent.trim(), 'a section without a name');
}
const live = document.getElementById('verdict').closest('[role=status][aria-live=polite]');
need(live, 'the verdict is not announced');
need(document.getElementById('stale').getAttribute('role') === 'alert', 'no alert');
for (const table of document.querySelectorAll('table')) need(table.querySelectorAll('th[scope=col]').length > 1, 'a table without heads');
for (const node of document.querySelectorAll('[aria-hidden=true]')) {
  need(!node.querySelector('a, button, select, [tabindex]'), 'something hidden can be focused');
}
for (const node of document.querySelectorAll('select')) need(node.closest('label'), 'a choice without a name');
for (const node of document.querySelectorAll('.scroll, #events')) need(node.tabIndex === 0, 'no way to scroll by keyboard');
return wrong;
";

fn status_address(supervisor: &Supervisor) -> String {
    let line = supervisor.wait_for_line("the status server listens on ", LIMIT);
    line.text.rsplit(' ').next().unwrap_or_default().to_owned()
}

fn texts(found: &Value) -> Vec<&str> {
    let texts = found.as_array().expect("a list");
    texts.iter().filter_map(Value::as_str).collect()
}

/// What is wrong with what is seen, on each device.
#[track_caller]
fn is_readable_everywhere(browser: &Browser) {
    for (width, scheme) in [
        (1100, "light"),
        (1100, "dark"),
        (360, "light"),
        (360, "dark"),
    ] {
        browser.device(width, scheme);
        let device = format!("{width} {scheme}");
        let poor = browser.run(CONTRAST);
        assert_eq!(texts(&poor), [""; 0], "{device}");
        let access = browser.run(ACCESS);
        assert_eq!(texts(&access), [""; 0], "{device}");
        let over = browser.run("return document.documentElement.scrollWidth - innerWidth");
        assert!(over.as_i64() <= Some(0), "{over} pixels too wide: {device}");
    }
    browser.device(1100, "light");
}

/// Takes the pictures of the documentation, where they are wanted.
fn pictures(browser: &Browser) {
    let Some(directory) = std::env::var_os("HANDOVER_PICTURES") else {
        return;
    };
    for (name, width, height, scheme) in [
        ("page-light", 960, 680, "light"),
        ("page-dark", 960, 680, "dark"),
        ("page-phone", 390, 760, "light"),
    ] {
        browser.device(width, scheme);
        let file = Path::new(&directory).join(format!("{name}.png"));
        fs::write(&file, browser.picture(height)).expect("a picture can be written");
    }
    browser.device(1100, "light");
}

/// The rows of the time line, each as its name, its stages and its outcome.
fn time_line(browser: &Browser) -> Vec<String> {
    let rows = browser.run(
        "return [...document.querySelectorAll('#line .track')].map(track => [track.previousElementSibling.innerText,
           ...[...track.querySelectorAll('.bar')].map(bar => bar.className.replace('bar s-', '')),
           track.nextElementSibling.innerText].join(' | '))",
    );
    texts(&rows).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_hand_over_a_bad_configuration_a_crash_and_a_stop_are_seen_on_the_page() {
    let driver = require_browser!();
    let envoy = require_envoy!();
    let site = Site::new();
    site.write("v0");
    let flags = ["--status-address", "127.0.0.1:0", "--probation", "1s"];
    let mut supervisor = site.launch(&envoy).args(flags).start();
    let address = status_address(&supervisor);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);

    let browser = Browser::start(&driver);
    browser.open(&format!("http://{address}/"));
    let verdict = browser.shows("verdict", "Ready.", LIMIT);
    assert_eq!(verdict, "Ready. Epoch 0 serves what is desired.");
    browser.shows("since", "Epoch 0 has served since ", LIMIT);
    browser.shows("events", "epoch 0 has passed its probation", LIMIT);

    // A hand-over, without a reload of the page.
    site.write("v1");
    browser.shows("verdict", "Epoch 1 serves what is desired.", LIMIT);
    browser.shows("events", "epoch 1 is live after ", LIMIT);
    browser.shows("events", "epoch 0 drains, because epoch 1 serves", LIMIT);
    browser.shows("line", "handed over", LIMIT);
    let rows = time_line(&browser);
    assert_eq!(
        rows[0],
        "epoch 0 | starting | probation | live | draining | handed over"
    );
    assert!(
        rows[1].starts_with("epoch 1 | starting | probation | live | live"),
        "{rows:?}"
    );

    // A crash, after which the same configuration serves again. With nothing beside it, it is epoch 0.
    browser.shows("events", "epoch 1 has passed its probation", LIMIT);
    let envoy = eventually(LIMIT, "one Envoy", || match *supervisor.children() {
        [envoy] => Some(envoy.to_string()),
        _ => None,
    });
    let killed = Command::new("kill").args(["-KILL", &envoy]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let tried = browser.shows("tried", "Before: epoch 1 at ", LIMIT);
    assert!(
        tried.contains("failed: killed by a signal after "),
        "{tried}"
    );
    browser.shows("verdict", "Ready. Epoch 0 serves what is desired.", LIMIT);

    // A configuration that Envoy rejects.
    site.write_broken(Break::UnknownField);
    let verdict = browser.shows("verdict", "Degraded.", LIMIT);
    assert_eq!(
        verdict,
        "Degraded. Epoch 0 serves, but not what is desired."
    );
    let tried = browser.shows("tried", "Tried: epoch 1 at ", LIMIT);
    assert!(tried.ends_with(", rejected before it ran."), "{tried}");
    browser.shows("facts", "The desired configuration was given up", LIMIT);
    browser.shows("desired", "not shown here: handover status shows it", LIMIT);
    let rows = time_line(&browser);
    assert!(
        rows[1].ends_with(" | failed: killed by a signal"),
        "{rows:?}"
    );
    assert!(rows[2].starts_with("epoch 0 | starting | "), "{rows:?}");
    assert_eq!(rows[3], "epoch 1 | starting | rejected before it ran");
    is_readable_everywhere(&browser);
    pictures(&browser);

    // Everything is a table as well, for those who do not see the time line.
    let stages = browser.run("return document.getElementById('stages').textContent");
    let stages = stages.as_str().unwrap_or_default();
    for words in ["draining", "handed over", "rejected", "killed by a signal"] {
        assert!(stages.contains(words), "{words}: {stages}");
    }

    // Nothing of what only the control socket shows.
    let page = browser
        .run("return document.documentElement.textContent + JSON.stringify([status, events])");
    let page = page.as_str().unwrap_or_default();
    for secret in [
        site.dir.path().to_str().unwrap_or_default(),
        "no_such_field",
        "\"pid\"",
    ] {
        assert!(!page.contains(secret), "{secret} is shown");
    }
    assert_eq!(browser.log(), [""; 0], "the page has done what it may not");

    // A stop, and its end.
    supervisor.signal(Signal::TERM);
    browser.shows("verdict", "Ending.", LIMIT);
    supervisor.wait_exit(LIMIT);
    let stale = browser.shows("stale", "Not connected since ", LIMIT);
    assert!(
        stale.ends_with("What is shown here is from then, and may be wrong by now."),
        "{stale}"
    );
    is_readable_everywhere(&browser);
    drop(browser);
    drop(supervisor);
    site.assert_nothing_left();
}

fn small_server(address: &str) -> Supervisor {
    let arguments = [
        "exec",
        "--live-after",
        "0s",
        "--status-address",
        address,
        "--",
        "sleep",
        "1000",
    ];
    Launch::handover().args(arguments).start()
}

#[test]
fn the_page_comes_back_by_itself_and_takes_no_text_for_markup() {
    let driver = require_browser!();
    let first = small_server("127.0.0.1:0");
    let address = status_address(&first);
    let browser = Browser::start(&driver);
    browser.open(&format!("http://{address}/"));
    browser.shows("verdict", "Ready.", LIMIT);
    browser.shows("running", "unknown", LIMIT);
    assert_eq!(browser.log(), [""; 0]);

    // A supervisor that does not answer, and one that is gone.
    first.signal(Signal::STOP);
    browser.run("refresh()");
    browser.shows("stale", "The server has not answered since ", LIMIT);
    first.signal(Signal::CONT);
    gone(&browser);
    let started = browser.run("return last.split('-')[0]");
    drop(first);
    browser.shows("stale", "Not connected since ", LIMIT);
    let _second = small_server(&address);
    gone(&browser);
    eventually(LIMIT, "the events of the second one alone", || {
        let run = browser.run("return last.split('-')[0]");
        let begins = browser.run("return events.filter(event => event.event === 'started').length");
        (run != started && begins == 1).then_some(())
    });

    // Nothing that comes is ever markup.
    browser.log();
    browser.run(
        "const evil = '<img src=x onerror=alert(1)>';
         Object.assign(status, { name: evil, version: evil, held: evil, problem: evil, drained: true });
         status.verdict = { health: evil, why: evil + ': ' + evil };
         status.desired = { hash: evil };
         status.epochs[0].state = evil;
         status.epochs[0].config_hash = evil;
         status.history[0].stages[0].stage = '__proto__';
         status.history.push({ epoch: 7, stages: [{ stage: evil, at: status.at }],
           end: { at: status.at, result: evil, cause: 'constructor', connections: null } });
         status.last_failure = { epoch: 1, message: evil };
         status.unfit = { epoch: 1, evidence: evil };
         heard('id: 1-1\\nevent: x\\ndata: ' + JSON.stringify({ event: evil, text: evil, health: evil }));
         about(); verdict(); timeLine(); tables(); list();",
    );
    let found = browser.run("return document.querySelectorAll('img, script').length");
    assert_eq!(found, 1, "only the script of the page");
    let name = browser.text("name");
    assert_eq!(name, "<img src=x onerror=alert(1)>");
    assert_eq!(browser.log(), [""; 0]);
}

#[test]
fn the_page_keeps_a_selection_believes_the_newest_and_rests_while_it_is_hidden() {
    let driver = require_browser!();
    let server = small_server("127.0.0.1:0");
    let address = status_address(&server);
    let browser = Browser::start(&driver);
    browser.open(&format!("http://{address}/"));
    browser.shows("verdict", "Ready.", LIMIT);
    browser.shows("events", "epoch 0 is live", LIMIT);

    // In a crash loop the epoch that serves is still seen.
    let rows = browser.run(
        "const epoch = (number, stage, end) => ({ epoch: number, stages: [{ stage, at: status.at }], end });
         const crash = { at: status.at, result: 'failed', cause: null, connections: null };
         return chosen([epoch(0, 'draining', null), epoch(1, 'live', null),
           ...Array.from({ length: 30 }, (_, i) => epoch(i + 2, 'starting', crash)), epoch(40, 'starting', null)])
           .map(epoch => epoch.epoch).join(' ')",
    );
    assert_eq!(rows, "0 1 23 24 25 26 27 28 29 30 31 40");

    // The cause of the end of an epoch that was ended on purpose is no reason.
    let outcomes = browser.run(
        "return ['unfit', 'late', 'failed'].map(result => outcome({ end: { result, cause: 'killed' } })).join(' | ')",
    );
    assert_eq!(
        outcomes,
        "found unfit | not live in time | failed: killed by a signal"
    );

    // What has not changed is not replaced, though a cell beside it is.
    let kept = browser.run(
        "const cells = [...document.querySelectorAll('#running td')], dd = document.querySelector('#desired dd');
         const event = document.querySelector('#events li');
         status.epochs[0].age_seconds = 7777;
         events.push({ at: status.at, event: 'x', text: 'one more' });
         tables(); list();
         const after = [...document.querySelectorAll('#running td')];
         return [cells.every((cell, i) => cell === after[i]), after[2].textContent, dd.isConnected, event.isConnected,
           document.querySelector('#events li').textContent.endsWith('one more')].join(' | ')",
    );
    assert_eq!(kept, "true | 2 h 9 min | true | true | true");

    // A verdict from before the status, which comes again after a connection was lost.
    let verdicts = browser.run(
        "const tell = (ago, text) => {
           const event = { at: new Date(ms(status.at) - ago).toISOString(), event: 'health', health: 'NOT_READY', text };
           heard('id: ' + last + '\\nevent: health\\ndata: ' + JSON.stringify(event));
           return status.verdict.health;
         };
         return [tell(1000, 'old'), tell(0, 'new')].join(' ')",
    );
    assert_eq!(verdicts, "READY NOT_READY");

    // A fault of the page is no fault of the connection.
    browser.run("globalThis.tables = () => { throw new Error('a fault'); }; refresh()");
    browser.shows("stale", "The answer cannot be shown since ", LIMIT);
    browser.open(&format!("http://{address}/"));
    browser.shows("verdict", "Ready.", LIMIT);
    gone(&browser);

    // A hidden page holds no connection, and takes up again what it left.
    let turn = |hidden: bool| {
        browser.run(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
        let what = format!("a page that follows or rests: hidden is {hidden}");
        eventually(LIMIT, &what, || {
            let follows = browser.run("return stream !== null");
            (follows == !hidden).then_some(())
        });
    };
    eventually(LIMIT, "the events are followed", || {
        let follows = browser.run("return stream !== null && last !== null");
        (follows == true).then_some(())
    });
    turn(true);
    let stale = browser.run("return document.getElementById('stale').hidden");
    assert_eq!(stale, true, "a page that rests is not disconnected");
    turn(false);

    // A server of another version may have another page.
    browser.run("globalThis.old_page = true; status.version = 'another'; refresh()");
    eventually(LIMIT, "the page of the new version", || {
        let is_new = browser.run("return globalThis.old_page === undefined && status !== null");
        (is_new == true).then_some(())
    });
    browser.shows("verdict", "Ready.", LIMIT);
}

/// Waits until the page is connected again.
fn gone(browser: &Browser) {
    eventually(LIMIT, "the end of the alarm", || {
        let hidden = browser.run("return document.getElementById('stale').hidden");
        (hidden == true).then_some(())
    });
}

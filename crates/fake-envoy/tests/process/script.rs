//! A driver decides on faults while the process runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use handover_test_support::supervisor::Signal;

use crate::world::{LIMIT, World};

struct Driver(BufReader<UnixStream>);

impl Driver {
    fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().expect("the process speaks");
        stream
            .set_read_timeout(Some(LIMIT))
            .expect("the process speaks");
        Self(BufReader::new(stream))
    }

    fn say(&mut self, line: &str) {
        self.0
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .expect("the process speaks");
    }

    /// Reads lines until one begins like this.
    fn hear(&mut self, beginning: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.0.read_line(&mut line).expect("the process speaks") > 0,
                "{beginning} never came"
            );
            if line.starts_with(beginning) {
                return line.trim_end().to_owned();
            }
        }
    }
}

#[test]
fn a_driver_holds_a_process_at_a_step_and_lets_it_fail_or_go() {
    let world = World::new();
    let path = world.dir.path().join("driver");
    let listener = UnixListener::bind(&path).unwrap();
    let fake = format!("--fake-script-socket {}", path.display());
    let mut epoch = world.start(0, &fake);
    let mut driver = Driver::accept(&listener);
    let hello = driver.hear("hello");
    assert_eq!(hello, format!("hello pid={} epoch=0", epoch.pid()));
    driver.say("pause listeners");
    driver.hear("ok");
    driver.say("nonsense");
    driver.hear("error \"nonsense\" is unknown");
    driver.say("go");
    driver.hear("paused listeners");
    assert_eq!(
        world.page("/ready"),
        Some((503, "INITIALIZING\n".to_owned()))
    );
    driver.say("fault admin-forbidden");
    driver.hear("ok");
    assert_eq!(world.page("/ready").map(|(status, _)| status), Some(403));
    driver.say("faults");
    assert_eq!(driver.hear("ok"), "ok admin-forbidden");
    driver.say("clear");
    driver.hear("ok");
    driver.say("go");
    driver.hear("step live");
    world.endpoint().wait_live(0, LIMIT);
    driver.say("fault exit=5@end");
    driver.hear("ok");
    epoch.signal(Signal::TERM);
    assert_eq!(epoch.wait_exit(LIMIT).code(), Some(5));
    world.finish();
}

#[test]
fn a_driver_that_goes_away_is_not_waited_for() {
    let world = World::new();
    let path = world.dir.path().join("driver");
    let listener = UnixListener::bind(&path).unwrap();
    let fake = format!("--fake-script-socket {}", path.display());
    let mut epoch = world.start(0, &fake);
    drop(Driver::accept(&listener));
    world.endpoint().wait_live(0, LIMIT);
    epoch.signal(Signal::TERM);
    assert_eq!(epoch.wait_exit(LIMIT).code(), Some(0));
    drop(listener);
    let mut refused = world.start(0, &fake);
    assert_eq!(refused.wait_exit(LIMIT).code(), Some(1));
    refused.wait_for_line("cannot connect to --fake-script-socket", LIMIT);
    world.finish();
}

/// It is the last that a driver hears of the process.
#[test]
fn the_step_at_which_a_process_dies_is_reported() {
    for end in ["crash", "kill", "exit=3"] {
        let world = World::new();
        let path = world.dir.path().join("driver");
        let listener = UnixListener::bind(&path).unwrap();
        let fake = format!(
            "--fake-time-scale 0.1 --fake-script-socket {} --fake-fault {end}@config",
            path.display()
        );
        let mut epoch = world.start(0, &fake);
        let mut driver = Driver::accept(&listener);
        driver.say("go");
        driver.hear("step config");
        epoch.wait_exit(LIMIT);
        world.finish();
    }
}

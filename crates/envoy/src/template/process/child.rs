//! The side of the child.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use handover_runtime::Shortage;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{ANSWER, Answer, MAX_MEMORY, MAX_PROCESSOR_TIME, QUESTION, Question, SHORTAGES, write};
use crate::template::{Inputs, engine};

/// The stack of the thread that renders.
const STACK: usize = 64 << 20;

/// What stands where an address is not known yet.
const PLACEHOLDER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Renders the template that a [`Renderer`](super::Renderer) in the parent asks for, and returns the
/// code with which the program must end: 0 where the parent has got an answer.
///
/// It lowers the limits of the process and never raises them again, so call it in a process that does
/// nothing else. What goes wrong is written to standard error.
#[must_use]
pub fn render_for_parent() -> u8 {
    match answer() {
        Ok(()) => 0,
        Err(error) => {
            // Nobody else can be told.
            let _unread = writeln!(io::stderr(), "cannot answer: {error}");
            let shortage = Shortage::of(&error);
            let code = SHORTAGES.iter().find(|(_, known)| Some(*known) == shortage);
            code.map_or(1, |(code, _)| *code)
        }
    }
}

fn answer() -> io::Result<()> {
    limit()?;
    let (question, text) = question()?;
    // The main thread's stack has the size that somebody else has set.
    let rendering = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || render(question, &text))
        .map_err(|error| {
            // Only for a new thread it is a limit that is reached.
            if error.kind() == io::ErrorKind::WouldBlock {
                io::Error::other(Shortage::Processes)
            } else {
                error
            }
        })?;
    let (answer, text) = rendering
        .join()
        .map_err(|_| io::Error::other("rendering panicked"))?;
    let mut file = OpenOptions::new().write(true).open(path(ANSWER))?;
    write(&mut file, &answer, &text)
}

fn limit() -> io::Result<()> {
    let seconds = MAX_PROCESSOR_TIME.as_secs();
    for (resource, most) in [
        // What is allocated, and what is reserved: not each kernel knows the former.
        (Resource::Data, MAX_MEMORY),
        (Resource::As, 4 * MAX_MEMORY),
        (Resource::Cpu, seconds),
        (Resource::Core, 0),
    ] {
        let now = getrlimit(resource);
        let lower = |limit: Option<u64>| limit.map_or(most, |limit| limit.min(most));
        // SIGXCPU tells what SIGKILL does not, so processor time keeps its hard limit.
        let maximum = if resource == Resource::Cpu {
            now.maximum
        } else {
            Some(lower(now.maximum))
        };
        let current = Some(lower(now.current));
        setrlimit(resource, Rlimit { current, maximum })?;
    }
    Ok(())
}

fn question() -> io::Result<(Question, String)> {
    let mut file = BufReader::new(File::open(path(QUESTION))?);
    let mut head = String::new();
    file.read_line(&mut head)?;
    let question: Question = serde_json::from_str(&head)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    if text.len() == question.bytes {
        Ok((question, text))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// The file behind a descriptor, opened again, from its beginning.
fn path(descriptor: i32) -> String {
    format!("/proc/self/fd/{descriptor}")
}

fn render(question: Question, text: &str) -> (Answer, String) {
    let unresolved = Arc::new(Mutex::new(BTreeSet::new()));
    let inputs = Inputs {
        env: question.env,
        epoch: question.epoch,
        node_id: question.node_id,
        private_ips: question.private_ips,
        resolver: question.addresses.map(|addresses| {
            let unresolved = Arc::clone(&unresolved);
            let resolver: crate::template::Resolver =
                Arc::new(move |host| known(&addresses, host, &unresolved));
            resolver
        }),
    };
    let rendered = engine::render(text, &inputs);
    let unresolved =
        std::mem::take(&mut *unresolved.lock().unwrap_or_else(PoisonError::into_inner));
    if !unresolved.is_empty() {
        return (Answer::Unresolved(unresolved), String::new());
    }
    match rendered {
        Ok(text) => (Answer::Rendered(text.len()), text),
        Err((line, problem)) => (Answer::Wrong(line, problem.into()), String::new()),
    }
}

type Answered = Result<SocketAddr, Box<dyn std::error::Error + Send + Sync>>;

fn known(
    addresses: &BTreeMap<String, Result<SocketAddr, String>>,
    host: &str,
    unresolved: &Mutex<BTreeSet<String>>,
) -> Answered {
    match addresses.get(host) {
        Some(Ok(address)) => Ok(*address),
        Some(Err(why)) => Err(why.clone().into()),
        None => {
            let mut unresolved = unresolved.lock().unwrap_or_else(PoisonError::into_inner);
            unresolved.insert(host.to_owned());
            Ok(PLACEHOLDER)
        }
    }
}

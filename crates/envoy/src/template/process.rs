//! Rendering in a process of its own, which can be ended and whose memory is bounded.
//!
//! A few characters of a template can overflow the stack, ask for terabytes, or loop for hours
//! within one step of the engine. In a thread, the first ends the whole program and nothing ends the
//! last. A process has limits of its own, and is killed when nobody waits for it any more.
//!
//! Both sides share two files in memory: the parent writes the [`Question`] and the text of the
//! template into the one, the child its [`Answer`] and what it has rendered into the other. The child
//! asks no name server. A name that it has no address for is answered with a placeholder, and is
//! listed in the answer; the parent looks all of them up and asks again.

mod child;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handover_process::{Child, Command, ExitCause, Line, Signal, SpawnError};
use handover_runtime::Shortage;
use handover_runtime::offload::offload;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use super::{Inputs, Problem, Resolver, Template, TemplateError};
use crate::bootstrap::MAX_BYTES;
use crate::text::one_line;

pub use child::render_for_parent;

/// The most memory that rendering may take, in bytes: 512 MiB. That is eight times the largest
/// configuration.
pub const MAX_MEMORY: u64 = 512 << 20;

/// The most processor time that rendering may take. [`FUEL`](super::FUEL) is spent before, unless a
/// single step takes long.
pub const MAX_PROCESSOR_TIME: Duration = Duration::from_secs(5);

/// The most time that rendering may take, without the time in which names are looked up. It is longer
/// than [`MAX_PROCESSOR_TIME`] for machines that are busy.
pub const MAX_TIME: Duration = Duration::from_secs(30);

/// How often names are looked up that depend on the addresses of others.
const MOST_ROUNDS: usize = 20;

/// The codes with which the child ends where the operating system is short of something. No code of a
/// panic or of a shell is among them.
const SHORTAGES: [(u8, Shortage); 4] = [
    (201, Shortage::Processes),
    (202, Shortage::Memory),
    (203, Shortage::OpenFiles),
    (204, Shortage::OpenFilesOfHost),
];

/// The descriptors of the two files in the child.
const QUESTION: i32 = 3;
const ANSWER: i32 = 4;

/// A program that renders templates in a process of its own.
///
/// The program must call [`render_for_parent`] and end with what that returns.
///
/// ```no_run
/// use handover_envoy::template::{Inputs, Renderer, Template, render_for_parent};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// if std::env::args().nth(1).is_some_and(|command| command == "render") {
///     std::process::exit(render_for_parent().into());
/// }
/// let template = Template::read("/etc/envoy.yaml.j2".as_ref())?;
/// let renderer = Renderer::this_program(["render"]);
/// println!("{}", renderer.render(&template, &Inputs::default()).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renderer {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// Why the process that renders gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RendererError {
    /// The files that both sides share cannot be made, written or read.
    #[error("cannot pass the template to the process that renders it")]
    Share(#[source] io::Error),
    /// The process cannot be started.
    #[error("cannot start the process that renders it")]
    Start(#[source] SpawnError),
    /// Its end cannot be seen.
    #[error("cannot wait for the process that renders it")]
    Wait(#[source] io::Error),
    /// It took more memory than it may.
    #[error("rendering takes more than {} MiB of memory: does it build very long texts or lists?", MAX_MEMORY >> 20)]
    Memory,
    /// It took more time than it may.
    #[error(
        "rendering takes more than {MAX_PROCESSOR_TIME:?} of processor time, or {MAX_TIME:?}: does a \
         loop run too often?"
    )]
    Time,
    /// It used more stack than there is.
    #[error(
        "rendering needs more stack than there is: does a value contain itself, or is an expression \
         very long?"
    )]
    Stack,
    /// The operating system was short of something that it needs.
    #[error("the process that renders it was short of something")]
    Short(#[source] Shortage),
    /// Names were looked up again and again.
    #[error("the names to resolve depend on each other more than {MOST_ROUNDS} times")]
    Rounds,
    /// It ended otherwise than with an answer.
    #[error("the process that renders it ended with {end} and printed: {said}")]
    Ended {
        /// How it ended.
        end: ExitCause,
        /// The end of what it wrote to standard error, on one line.
        said: String,
    },
}

/// What the child is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    env: BTreeMap<String, String>,
    epoch: Option<u32>,
    node_id: Option<String>,
    private_ips: Vec<IpAddr>,
    /// What is known of each name, or `None` where nothing can be resolved.
    addresses: Option<BTreeMap<String, Result<SocketAddr, String>>>,
    /// How long the text is that follows.
    bytes: usize,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// So many bytes follow.
    Rendered(usize),
    /// These names have no address yet.
    Unresolved(BTreeSet<String>),
    /// The template is wrong on this line.
    Wrong(usize, Wrong),
}

/// A [`Problem`] on its way.
#[derive(Debug, Serialize, Deserialize)]
enum Wrong {
    Undefined { name: String },
    Syntax(String),
    Unknown(String),
    Expression(String),
    Unresolved { host: String, why: String },
    TooMuchWork,
    OutputTooLarge,
}

impl Renderer {
    /// Renders with this program and these arguments.
    pub fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
        }
    }

    /// Renders with the program that runs, and these arguments. That program is started even if its
    /// file has been replaced or removed. It needs `/proc`.
    pub fn this_program<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        // The link leads to the file that was executed, whatever is at its path.
        Self::new("/proc/self/exe", arguments)
    }

    /// Renders a template. It takes as long as the resolver does, and otherwise up to [`MAX_TIME`] for
    /// each time that names are looked up.
    ///
    /// # Errors
    ///
    /// As for [`Template::render`], and [`TemplateError::Process`].
    ///
    /// # Panics
    ///
    /// In a tokio runtime without its I/O driver or its timer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the process.
    pub async fn render(
        &self,
        template: &Template,
        inputs: &Inputs,
    ) -> Result<String, TemplateError> {
        let failed = |source| TemplateError::Process {
            path: template.path.clone(),
            source,
        };
        let mut addresses = inputs.resolver.is_some().then(BTreeMap::new);
        for _ in 0..MOST_ROUNDS {
            let (question, answer) = share(template, inputs, addresses.as_ref())
                .map_err(|error| failed(RendererError::Share(error)))?;
            self.ask(question, &answer).await.map_err(failed)?;
            let (said, rest) = read(answer).map_err(|error| failed(RendererError::Share(error)))?;
            match (said, &inputs.resolver, &mut addresses) {
                (Answer::Rendered(_), _, _) => return Ok(rest),
                (Answer::Unresolved(names), Some(resolver), Some(addresses)) => {
                    for name in names {
                        let address = look_up(resolver, &name).await;
                        addresses.insert(name, address);
                    }
                }
                (Answer::Unresolved(_), _, _) => break,
                (Answer::Wrong(line, wrong), _, _) => {
                    return Err(TemplateError::Line {
                        path: template.path.clone(),
                        line,
                        problem: wrong.into(),
                    });
                }
            }
        }
        Err(failed(RendererError::Rounds))
    }

    /// Runs the program to its end.
    async fn ask(&self, question: File, answer: &File) -> Result<(), RendererError> {
        let answer = answer.try_clone().map_err(RendererError::Share)?;
        let command = Command::new(self.program.clone())
            .args(self.arguments.iter().cloned())
            .descriptor(QUESTION, question)
            .descriptor(ANSWER, answer)
            .death_signal(Signal::KILL)
            .kill_group_at_end(true)
            // The last lines of standard error are kept for the message.
            .output(|_: &Line<'_>| {});
        let child = command.spawn().await.map_err(RendererError::Start)?;
        match tokio::time::timeout(MAX_TIME, child.wait()).await {
            Err(_elapsed) => Err(RendererError::Time),
            Ok(Err(error)) => Err(RendererError::Wait(io::Error::other(error))),
            Ok(Ok(ExitCause::Code(0))) => Ok(()),
            Ok(Ok(end)) => Err(why(end, &child)),
        }
    }
}

/// Why the child ended without an answer.
fn why(end: ExitCause, child: &Child) -> RendererError {
    let tail = child.stderr_tail();
    let said: Vec<u8> = tail.lines().collect::<Vec<_>>().join(&b' ');
    let said = one_line(&String::from_utf8_lossy(&said));
    if let ExitCause::Code(code) = end
        && let Some((_, shortage)) = SHORTAGES
            .iter()
            .find(|(known, _)| i32::from(*known) == code)
    {
        return RendererError::Short(*shortage);
    }
    match end {
        ExitCause::OutOfMemory => RendererError::Memory,
        // What the standard library writes before it ends the process.
        _ if said.contains("memory allocation of") => RendererError::Memory,
        _ if said.contains("has overflowed its stack") => RendererError::Stack,
        ExitCause::Signal { number, .. } if number == rustix::process::Signal::XCPU.as_raw() => {
            RendererError::Time
        }
        ExitCause::Signal { .. } | ExitCause::Code(_) => RendererError::Ended { end, said },
    }
}

/// The two files, the first one with the question.
fn share(
    template: &Template,
    inputs: &Inputs,
    addresses: Option<&BTreeMap<String, Result<SocketAddr, String>>>,
) -> io::Result<(File, File)> {
    let question = Question {
        env: inputs.env.clone(),
        epoch: inputs.epoch,
        node_id: inputs.node_id.clone(),
        private_ips: inputs.private_ips.clone(),
        addresses: addresses.cloned(),
        bytes: template.text.len(),
    };
    let memory = |name: &str| rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
    let mut asked = memory("handover-template")?;
    write(&mut asked, &question, &template.text)?;
    Ok((asked, memory("handover-rendered")?))
}

/// Writes a head on a line of its own, then a text.
fn write(file: &mut File, head: &impl Serialize, text: &str) -> io::Result<()> {
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.write_all(text.as_bytes())?;
    file.rewind()
}

/// The answer, and the text that follows it.
fn read(mut file: File) -> io::Result<(Answer, String)> {
    // Names may be as many as fit into a template.
    let limit = u64::try_from(2 * MAX_BYTES).unwrap_or(u64::MAX);
    let mut text = String::new();
    file.rewind()?;
    file.take(limit).read_to_string(&mut text)?;
    let (head, _) = text.split_once('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    let answer: Answer = serde_json::from_str(head)?;
    let after = head.len() + 1;
    text.drain(..after);
    if matches!(answer, Answer::Rendered(bytes) if bytes != text.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((answer, text))
}

/// Asks the resolver on a thread that may wait.
async fn look_up(resolver: &Resolver, name: &str) -> Result<SocketAddr, String> {
    let (resolver, host) = (Arc::clone(resolver), name.to_owned());
    let asked = offload(move || {
        resolver(&host).map_err(|error| {
            let error: &(dyn std::error::Error + 'static) = &*error;
            handover_tokio::error_chain(error)
        })
    });
    asked.await.unwrap_or_else(|error| Err(error.to_string()))
}

impl From<Wrong> for Problem {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Undefined { name } => Self::Undefined { name },
            Wrong::Syntax(text) => Self::Syntax(text),
            Wrong::Unknown(text) => Self::Unknown(text),
            Wrong::Expression(text) => Self::Expression(text),
            Wrong::Unresolved { host, why } => Self::Unresolved {
                host,
                source: why.into(),
            },
            Wrong::TooMuchWork => Self::TooMuchWork,
            Wrong::OutputTooLarge => Self::OutputTooLarge,
        }
    }
}

impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Undefined { name } => Self::Undefined { name },
            Problem::Syntax(text) => Self::Syntax(text),
            Problem::Unknown(text) => Self::Unknown(text),
            Problem::Expression(text) => Self::Expression(text),
            Problem::Unresolved { host, source } => Self::Unresolved {
                host,
                why: source.to_string(),
            },
            Problem::TooMuchWork => Self::TooMuchWork,
            Problem::OutputTooLarge => Self::OutputTooLarge,
        }
    }
}

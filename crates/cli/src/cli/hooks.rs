//! The commands of the user at moments of an epoch's life.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use handover_supervisor::Hooks;
use handover_supervisor::operator::Moment;

use super::duration;

/// Commands that are run at moments of an epoch's life.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Hooks")]
pub(crate) struct HookArgs {
    /// Run this command before a configuration is started, and reject the configuration if it fails.
    ///
    /// Each of these commands is run by `/bin/sh -c`, one after the other, as the user of handover. It finds a
    /// JSON object on its standard input: `event`, `epoch`, `reason`, `time`, `instance`, `configuration`
    /// and `exit`. See docs/hooks.md. A hook that fails is logged, counted, and an event. Only this one changes
    /// what happens.
    #[arg(long, value_name = "CMD", env = "HANDOVER_HOOK_PRE_START")]
    pub(crate) hook_pre_start: Option<OsString>,

    /// Run this command once an epoch is live.
    #[arg(long, value_name = "CMD", env = "HANDOVER_HOOK_LIVE")]
    pub(crate) hook_live: Option<OsString>,

    /// Run this command once an epoch was found unfit on probation.
    #[arg(long, value_name = "CMD", env = "HANDOVER_HOOK_UNFIT")]
    pub(crate) hook_unfit: Option<OsString>,

    /// Run this command before everything drains at the end. The drain waits for it.
    ///
    /// It waits for --hook-timeout at most, and a second signal ends the wait.
    #[arg(long, value_name = "CMD", env = "HANDOVER_HOOK_PRE_DRAIN")]
    pub(crate) hook_pre_drain: Option<OsString>,

    /// Run this command once an epoch has ended.
    #[arg(long, value_name = "CMD", env = "HANDOVER_HOOK_POST_EXIT")]
    pub(crate) hook_post_exit: Option<OsString>,

    /// Run this command once the desired configuration was given up.
    #[arg(long, value_name = "CMD", env = "HANDOVER_HOOK_GAVE_UP")]
    pub(crate) hook_gave_up: Option<OsString>,

    /// The longest time that a hook may take. Then it is killed with its children, and has failed.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_HOOK_TIMEOUT",
        default_value = "10s",
        value_parser = duration::parse
    )]
    pub(crate) hook_timeout: Duration,
}

impl HookArgs {
    /// The hooks of a supervisor.
    pub(crate) fn hooks(&self) -> Hooks {
        let commands = [
            (Moment::PreStart, &self.hook_pre_start),
            (Moment::Live, &self.hook_live),
            (Moment::Unfit, &self.hook_unfit),
            (Moment::PreDrain, &self.hook_pre_drain),
            (Moment::PostExit, &self.hook_post_exit),
            (Moment::GaveUp, &self.hook_gave_up),
        ];
        let given = commands
            .into_iter()
            .filter_map(|(moment, command)| Some((moment, command.as_ref()?)));
        given.fold(Hooks::new(self.hook_timeout), |hooks, (moment, command)| {
            hooks.at(moment, command)
        })
    }
}

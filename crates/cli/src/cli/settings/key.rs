//! The keys of a settings file: which there are for a command, and what each may hold.

use std::any::TypeId;
use std::num::NonZeroU32;

use clap::{Arg, ArgAction, Command};

/// The arguments that say what this one call does. They are no settings.
const OF_ONE_CALL: [&str; 5] = [
    "help",
    "version",
    "settings",
    "print_config",
    "print_command",
];

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    Text,
    Integer,
    /// A flag that may be given with or without a number.
    MaybeInteger,
    Texts,
    Integers,
}

/// A key, and the argument that it sets.
#[derive(Clone, Debug)]
pub(super) struct Key<'a> {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) arg: &'a Arg,
}

/// Returns the keys of a command, in the order of its help.
pub(super) fn keys(command: &Command) -> Vec<Key<'_>> {
    let args = command.get_arguments();
    let settings = args.filter(|arg| !OF_ONE_CALL.contains(&arg.get_id().as_str()));
    settings
        .map(|arg| Key {
            name: name(arg),
            kind: kind(arg),
            arg,
        })
        .collect()
}

/// Returns whether a key is the name of a flag that cannot be set in a file.
pub(super) fn is_of_one_call(name: &str) -> bool {
    OF_ONE_CALL.contains(&name.replace('-', "_").as_str())
}

/// The flag, or the name of what follows `--`.
fn name(arg: &Arg) -> String {
    match arg.get_long() {
        Some(long) => long.to_owned(),
        None => arg.get_id().as_str().replace('_', "-"),
    }
}

fn kind(arg: &Arg) -> Kind {
    let is_list = matches!(arg.get_action(), ArgAction::Append) || arg.is_last_set();
    let may_be_empty = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
    match (arg.get_action(), holds_integer(arg)) {
        (ArgAction::SetTrue | ArgAction::SetFalse, _) => Kind::Switch,
        (_, true) if is_list => Kind::Integers,
        (_, false) if is_list => Kind::Texts,
        _ if may_be_empty => Kind::MaybeInteger,
        (_, true) => Kind::Integer,
        (_, false) => Kind::Text,
    }
}

fn holds_integer(arg: &Arg) -> bool {
    let held = arg.get_value_parser().type_id();
    [
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<i32>(),
        TypeId::of::<i64>(),
        TypeId::of::<NonZeroU32>(),
    ]
    .iter()
    .any(|integer| held == *integer)
}

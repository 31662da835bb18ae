//! The exit codes that `sysexits.h` names. [`Ended::exit_code`](crate::Ended::exit_code) returns some of
//! them, and a program around a supervisor takes the others from the same table.

/// `EX_USAGE`: the command line is wrong.
pub const USAGE: u8 = 64;
/// `EX_DATAERR`: a configuration is rejected or cannot be read.
pub const DATA_ERROR: u8 = 65;
/// `EX_UNAVAILABLE`: the retries are spent, or something that was asked for is unavailable.
pub const UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`: a bug in the program.
pub const SOFTWARE: u8 = 70;
/// `EX_OSERR`: the operating system was short of something, or refused it.
pub const OS_ERROR: u8 = 71;
/// `EX_TEMPFAIL`: a drain was cut or has failed, or an answer did not come in time.
pub const TEMPORARY_FAILURE: u8 = 75;
/// `EX_NOPERM`: a file may not be read.
pub const NO_PERMISSION: u8 = 77;

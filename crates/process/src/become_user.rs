//! What a new process does to itself before it executes its program: limits, groups, user, capabilities.
//!
//! The kernel is asked directly. The C library would change all threads of a process, and in a process that
//! is between clone and execve it would look for the threads of its parent.

use std::ffi::{c_int, c_long};
use std::ptr;

use super::launch::Step;
use super::run_as::Steps;

/// What is to change, in the form in which the kernel takes it.
#[derive(Debug, Default)]
pub(super) struct Become {
    /// The soft limit of open files.
    pub(super) open_files: Option<u64>,
    pub(super) steps: Option<Steps>,
}

impl Become {
    /// Whether the process gets other rights than its parent has.
    pub(super) fn changes_rights(&self) -> bool {
        self.steps.is_some()
    }

    /// Carries it out in the new process, by system calls on values that were made before. It allocates
    /// nothing, takes no lock and does not panic.
    ///
    /// The order matters: without the right to change groups, which goes with the user, the groups of root
    /// would stay.
    pub(super) fn in_child(&self) -> Result<(), Step> {
        if let Some(soft) = self.open_files {
            limit_open_files(soft)?;
        }
        let Some(steps) = &self.steps else {
            return Ok(());
        };
        if let Some(account) = &steps.account {
            let (group, user) = (account.group, account.user);
            // The kernel would change nothing, and succeed.
            if user == u32::MAX {
                return Err(Step::User);
            }
            if group == u32::MAX {
                return Err(Step::Group);
            }
            // Otherwise the capabilities would be gone before the wanted ones are chosen.
            if steps.capabilities.is_some() {
                prctl([c_long::from(libc::PR_SET_KEEPCAPS), 1, 0, 0], Step::User)?;
            }
            let groups = &account.supplementary;
            system_call(
                SET_GROUPS,
                [
                    groups.len().cast_signed(),
                    groups.as_ptr().addr().cast_signed(),
                    0,
                ],
                Step::Groups,
            )?;
            system_call(SET_GROUP, [id(group); 3], Step::Group)?;
            system_call(SET_USER, [id(user); 3], Step::User)?;
        }
        match steps.capabilities {
            Some(capabilities) => keep(capabilities.bits()),
            None => Ok(()),
        }
    }
}

/// A number of a user or group, as an argument of the kernel, which reads its lower half.
fn id(number: u32) -> isize {
    number.cast_signed() as isize
}

// The first 32-bit platforms had 16 bits for these numbers, and got other calls later.
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SET_GROUPS: c_long = libc::SYS_setgroups32;
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SET_GROUP: c_long = libc::SYS_setresgid32;
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SET_USER: c_long = libc::SYS_setresuid32;
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SET_GROUPS: c_long = libc::SYS_setgroups;
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SET_GROUP: c_long = libc::SYS_setresgid;
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SET_USER: c_long = libc::SYS_setresuid;

fn system_call(number: c_long, [one, two, three]: [isize; 3], step: Step) -> Result<(), Step> {
    #[expect(
        unsafe_code,
        reason = "between clone and execve only bare system calls are allowed"
    )]
    // SAFETY: the callers pass numbers, and the address and length of a list that outlives the call.
    match unsafe { libc::syscall(number, one, two, three) } {
        0 => Ok(()),
        _ => Err(step),
    }
}

fn prctl([option, two, three, four]: [c_long; 4], step: Step) -> Result<(), Step> {
    #[expect(
        unsafe_code,
        reason = "between clone and execve only bare system calls are allowed"
    )]
    // SAFETY: the options that are used here take numbers only.
    match unsafe { libc::syscall(libc::SYS_prctl, option, two, three, four, 0 as c_long) } {
        0 => Ok(()),
        _ => Err(step),
    }
}

/// Sets the soft limit; one above the hard limit, or one that cannot be read, is refused.
fn limit_open_files(soft: u64) -> Result<(), Step> {
    let mut limit = [0_u64; 2];
    let call = |new: *const u64, old: *mut u64| {
        #[expect(
            unsafe_code,
            reason = "between clone and execve only bare system calls are allowed"
        )]
        // SAFETY: this call has two 64-bit numbers for the limit on every platform, and each pointer is
        // null or leads to as many.
        match unsafe { libc::syscall(libc::SYS_prlimit64, 0, NOFILE, new, old) } {
            0 => Ok(()),
            _ => Err(Step::OpenFiles),
        }
    };
    call(ptr::null(), limit.as_mut_ptr())?;
    let [_, hard] = limit;
    let new = [soft.min(hard), hard];
    call(new.as_ptr(), ptr::null_mut())
}

/// `RLIMIT_NOFILE`. It is another number on MIPS.
const NOFILE: c_int = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    5
} else {
    7
};

/// `_LINUX_CAPABILITY_VERSION_3`, whose sets have two halves.
const VERSION: u32 = 0x2008_0522;

/// `PR_CAP_AMBIENT_RAISE` and `PR_CAP_AMBIENT_CLEAR_ALL`, whose types differ between C libraries.
const RAISE: c_long = 2;
const CLEAR_ALL: c_long = 4;

/// The upper and the lower half of a number.
fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_be_bytes)
}

/// Keeps these capabilities and no other. They are raised as ambient ones, as only those outlive execve.
fn keep(bits: u64) -> Result<(), Step> {
    let [high, low] = halves(bits);
    // The version, and 0 for this process.
    let header = [VERSION, 0];
    // Effective, permitted and inheritable, first of the lower half and then of the upper one.
    let sets = [low, low, low, high, high, high];
    system_call(
        libc::SYS_capset,
        [
            header.as_ptr().addr().cast_signed(),
            sets.as_ptr().addr().cast_signed(),
            0,
        ],
        Step::Capabilities,
    )?;
    let ambient = c_long::from(libc::PR_CAP_AMBIENT);
    prctl([ambient, CLEAR_ALL, 0, 0], Step::AmbientCapabilities)?;
    for number in 0..64 {
        if bits & 1 << number != 0 {
            prctl([ambient, RAISE, number, 0], Step::AmbientCapabilities)?;
        }
    }
    Ok(())
}

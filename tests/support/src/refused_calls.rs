//! System calls that are refused to a program, as a container does that knows fewer of them than the kernel.

use std::io;
use std::mem::offset_of;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Calls that came with Linux 5.1 to 5.11. An older Docker or libseccomp knows none of them.
pub const NEWER: [i64; 6] = [
    libc::SYS_close_range,
    libc::SYS_epoll_pwait2,
    libc::SYS_faccessat2,
    libc::SYS_openat2,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
];

/// Refuses these calls to the program that the command starts, and to all that it starts. Each is answered with this
/// number of an error: `EPERM` by Docker before 20.10.10, and `ENOSYS` by later ones and by old kernels.
pub fn refuse(command: &mut Command, calls: &[i64], errno: u16) {
    let filter = filter(calls, errno);
    #[expect(unsafe_code, reason = "only the new process can ask for it")]
    // SAFETY: it makes two system calls, and allocates nothing.
    unsafe {
        command.pre_exec(move || apply(&filter));
    }
}

/// Allows every call but these.
fn filter(calls: &[i64], errno: u16) -> Vec<libc::sock_filter> {
    let step = |code: u32, k: u32, is_other: u8| libc::sock_filter {
        code: u16::try_from(code).expect("the codes are short"),
        jt: 0,
        jf: is_other,
        k,
    };
    let number = offset_of!(libc::seccomp_data, nr);
    let number = u32::try_from(number).expect("it is the first field");
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, number, 0)];
    for call in calls {
        let call = u32::try_from(*call).expect("the numbers of calls are small");
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call, 1));
        let refusal = libc::SECCOMP_RET_ERRNO | u32::from(errno);
        filter.push(step(libc::BPF_RET | libc::BPF_K, refusal, 0));
    }
    filter.push(step(
        libc::BPF_RET | libc::BPF_K,
        libc::SECCOMP_RET_ALLOW,
        0,
    ));
    filter
}

fn apply(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    #[expect(unsafe_code, reason = "there is no safe way to a filter of calls")]
    // SAFETY: the arguments are numbers.
    let is_bound = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0;
    #[expect(unsafe_code, reason = "there is no safe way to a filter of calls")]
    // SAFETY: the kernel copies the program, which lives until then, and writes nothing to it.
    let is_set = is_bound
        && unsafe {
            let mode = libc::SECCOMP_MODE_FILTER;
            libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program)
        } == 0;
    match is_set {
        true => Ok(()),
        false => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_has_the_error_and_others_go_on() {
        let said = |calls: &[i64]| {
            let mut command = Command::new("env");
            command.args(["-C", "/", "pwd"]);
            refuse(&mut command, calls, 1);
            let output = command.output().expect("there is an env");
            let both = [output.stdout, output.stderr].concat();
            String::from_utf8(both).expect("it is text")
        };
        assert_eq!(said(&NEWER), "/\n");
        let refused = said(&[libc::SYS_chdir]);
        assert!(refused.contains("Operation not permitted"), "{refused}");
    }
}

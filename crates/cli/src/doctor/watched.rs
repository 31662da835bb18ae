//! The watched files.

use handover_watch::{Gap, GapCause, Preview};

use super::facts::Facts;
use super::{Check, Severity, Verdict};

pub(super) const MOUNTED_FILE: Check = Check {
    name: "mounted-file",
    about: "whether a watched file is a mount by itself, as with `subPath` or `docker -v FILE`",
    worst: Severity::Warning,
    logged: true,
    judge: |facts| on_watched(facts, |_, watched| mounted_file(watched)),
};

pub(super) const FILE_SYSTEM: Check = Check {
    name: "file-system",
    about: "whether watched files are on NFS, FUSE or another file system that reports no changes",
    worst: Severity::Warning,
    logged: false,
    judge: |facts| on_watched(facts, file_system),
};

pub(super) const WATCHED_PATHS: Check = Check {
    name: "watched-paths",
    about: "whether the watched directories are within the limits of depth and number",
    worst: Severity::Warning,
    logged: false,
    judge: |facts| on_watched(facts, |_, watched| watched_paths(watched)),
};

fn on_watched(facts: &Facts, judge: fn(&Facts, &Preview) -> Verdict) -> Verdict {
    match &facts.watched {
        Ok(watched) => judge(facts, watched),
        Err(why) => Verdict::warning(
            "unknown",
            format!("the watched paths could not be looked at: {why}"),
            "make their file systems reachable",
        ),
    }
}

fn mounted_file(watched: &Preview) -> Verdict {
    let Some(first) = watched.mounted_files.first() else {
        return Verdict::good("none", "a file that is replaced is seen");
    };
    let more = match watched.mounted_files.len() {
        1 => String::new(),
        all => format!(" and {} more", all - 1),
    };
    Verdict::warning(
        format!("{}{more}", first.display()),
        "the mount goes on showing the old file when the file is replaced where it comes from",
        "mount its directory instead; a ConfigMap without subPath",
    )
}

fn is_silent(gap: &&Gap) -> bool {
    matches!(gap.why, GapCause::NoEvents { .. })
}

fn file_system(facts: &Facts, watched: &Preview) -> Verdict {
    let mut silent = watched.gaps.iter().filter(is_silent);
    let Some(gap) = silent.next() else {
        return Verdict::good("local", "the system reports every change");
    };
    let value = gap.to_string();
    if facts.settings.rescans {
        return Verdict::warning(
            value,
            "a change that is made elsewhere is noticed at the next check, by default after up to 10 s",
            "shorten --rescan-interval, or send HUP after a change",
        );
    }
    Verdict::warning(
        value,
        "a change that is made elsewhere is never noticed, because --rescan-interval is none",
        "set --rescan-interval to auto or a time, or send HUP after a change",
    )
}

fn watched_paths(watched: &Preview) -> Verdict {
    match watched.gaps.iter().find(|gap| !is_silent(gap)) {
        Some(gap) => Verdict::warning(
            gap.to_string(),
            "changes there are not noticed",
            "watch fewer or other paths with --watch",
        ),
        None => Verdict::good(
            format!("{} places", watched.watches),
            "all of them are watched",
        ),
    }
}

//! What is told may grow: a program that was written against this version compiles against one with a
//! variant more. For that it must have an arm for the rest, and the compiler makes sure of it.
//!
//! Each enum gets three matches that name all of its variants. Inside of the crate, without an arm for the
//! rest, the match compiles: no variant is left out. Outside of the crate it compiles with that arm.
//! Without it, it does not, and nothing but the arm is different.

macro_rules! told {
    ($($name:ident)*) => { $(
        #[doc = concat!(
            "```\n",
            "include!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/src/told/every.rs\"));\n",
            "use handover_tokio::", stringify!($name), ";\n",
            "fn show(told: ", stringify!($name), ") {\n",
            "    every!(", stringify!($name), ", told, _ => {})\n",
            "}\n",
            "fn main() {}\n",
            "```\n\n",
            "```compile_fail,E0004\n",
            "include!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/src/told/every.rs\"));\n",
            "use handover_tokio::", stringify!($name), ";\n",
            "fn show(told: ", stringify!($name), ") {\n",
            "    every!(", stringify!($name), ", told,)\n",
            "}\n",
            "fn main() {}\n",
            "```",
        )]
        #[cfg(doctest)]
        struct $name;

        #[cfg(test)]
        const _: fn(crate::$name) = |told| {
            use crate::$name;
            every!($name, told,)
        };
    )* };
}

#[cfg(test)]
include!("told/every.rs");

told!(Applied ApplyError NotLive);

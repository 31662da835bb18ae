//! The Envoy of a test that is about Handover and not about Envoy: the fake one, or a real one if that is asked
//! for.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::envoy_bin::{envoy_or_skip, test_of};
use crate::fake_envoy::fake_envoy_or_skip;

/// The variable that asks for a real Envoy, with the value `real`.
const VARIABLE: &str = "HANDOVER_TEST_ENVOY";

/// The fake waits for this part of the time that Envoy would wait. Shorter, and its ten seconds of patience with
/// a parent would be over before a test on a busy machine has seen that an endpoint does not answer.
pub const TIME_SCALE: f64 = 0.3;

/// An Envoy, real or fake.
#[derive(Debug, Clone)]
pub struct AnyEnvoy {
    path: PathBuf,
    /// One second of Envoy's own timers takes this many seconds.
    time_scale: f64,
}

impl AnyEnvoy {
    /// A real Envoy.
    #[must_use]
    pub fn real(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            time_scale: 1.0,
        }
    }

    /// The fake Envoy, with its times scaled by [`TIME_SCALE`]. The drain time and the parent-shutdown time are
    /// not: the adapter keeps them itself, and would see an old epoch end too early.
    #[must_use]
    pub fn fake(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            time_scale: TIME_SCALE,
        }
    }

    /// The same Envoy by another path, which is a link to it or a script that becomes it.
    #[must_use]
    pub fn at(&self, path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            ..self.clone()
        }
    }

    /// The program.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The arguments that the program needs beside those of Envoy.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        if self.is_real() {
            return Vec::new();
        }
        let scale = self.time_scale.to_string();
        let words = ["--fake-time-scale", &scale, "--fake-flag-time-scale", "1"];
        words.map(str::to_owned).into()
    }

    /// How long something takes for which Envoy takes this long, without the times of its flags.
    #[must_use]
    pub fn scaled(&self, time: Duration) -> Duration {
        time.mul_f64(self.time_scale)
    }

    fn is_real(&self) -> bool {
        self.time_scale >= 1.0
    }
}

/// A test that wants a program and no times takes the path.
impl Deref for AnyEnvoy {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

/// The Envoy of a test that is about Handover: the fake one, and a real one with `HANDOVER_TEST_ENVOY=real`.
/// Without it the test ends here, successfully, and says so; if it is required, the test fails.
///
/// It returns `()` from the enclosing function, so it must stand in the test itself.
#[macro_export]
macro_rules! require_any_envoy {
    () => {{
        // The type name of a local function is the path of the test around it.
        fn here() {}
        match $crate::any_envoy::any_envoy_or_skip(std::any::type_name_of_val(&here)) {
            Some(envoy) => envoy,
            None => return,
        }
    }};
}

/// The work of [`require_any_envoy!`](crate::require_any_envoy).
///
/// # Panics
///
/// Without an Envoy when one is required, and when the variable has another value than `real` or `fake`.
#[doc(hidden)]
#[must_use]
pub fn any_envoy_or_skip(here: &str) -> Option<AnyEnvoy> {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    match wanted.as_str() {
        "real" => envoy_or_skip(here).map(AnyEnvoy::real),
        "" | "fake" => fake_envoy_or_skip(&test_of(here)).map(AnyEnvoy::fake),
        other => panic!("{VARIABLE} is {other:?}: use \"real\" or \"fake\", or unset it"),
    }
}

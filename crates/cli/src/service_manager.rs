//! The service manager that has started us, and how it hears of our end.

use std::io;
use std::time::Duration;

use handover_supervisor::ServiceManager;

use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

/// How long the last report may take to be sent. A service manager that reads nothing must not keep us.
const LIMIT: Duration = Duration::from_millis(500);

/// Returns the service manager that the environment names, if it names one.
pub(crate) fn from_environment() -> Option<ServiceManager> {
    ServiceManager::from_variables(|name| std::env::var_os(name))
}

/// Reports to the service manager why this process ends otherwise than it was asked to.
pub(crate) async fn report_end(manager: Option<&ServiceManager>, result: &Result<ExitCode, Fatal>) {
    if let (Some(manager), Err(error)) = (manager, result) {
        let errno = error.chain().find_map(|cause| {
            let cause = cause.downcast_ref::<io::Error>()?;
            cause.raw_os_error()
        });
        let code = error.code.number();
        manager.ended(&error.to_string(), code, errno, LIMIT).await;
    }
}

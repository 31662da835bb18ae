//! `handover resolve`.

use handover_netutil::resolve_addr;

use crate::cli::resolve::ResolveArgs;
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

pub(super) async fn run(args: &ResolveArgs) -> Result<ExitCode, Fatal> {
    let address = resolve_addr(&args.address)
        .await
        .map_err(|error| Fatal::new(ExitCode::of_resolve(&error), error))?;
    super::print(address)?;
    Ok(ExitCode::CLEAN)
}

//! `handover private-ips`.

use handover_netutil::{PrivateIpsOptions, SystemInterfaces, private_ips_with};

use crate::cli::private_ips::PrivateIpsArgs;
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

pub(super) async fn run(args: PrivateIpsArgs) -> Result<ExitCode, Fatal> {
    let options = PrivateIpsOptions {
        limit: args.timeout,
        link_local: args.link_local,
    };
    let found = private_ips_with(&SystemInterfaces, options).await;
    for address in &found.addresses {
        super::print(address)?;
    }
    if let Some(error) = found.error {
        let error = anyhow::Error::new(error).context("cannot read the network interfaces");
        return Err(Fatal::new(ExitCode::UNAVAILABLE, error));
    }
    if !found.complete {
        let limit = humantime::format_duration(args.timeout);
        let what = match found.addresses.len() {
            0 => "this node has no address",
            _ => "an interface still waits for its address",
        };
        let error = anyhow::anyhow!("{what} after {limit}; wait longer with --timeout");
        return Err(Fatal::new(ExitCode::CUT, error));
    }
    Ok(ExitCode::CLEAN)
}

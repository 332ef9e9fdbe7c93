//! `homefleet token …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use homefleet_api::{NewToken, Role};
use serde_json::json;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table};

/// What `homefleet token` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token; its secret is printed once and stored nowhere
    #[command(after_help = "Examples:
  homefleet token create --name first --role admin --config homefleet.toml   on the server's machine
  homefleet token create --name ci --role viewer --expires-in 30d            through the API, as admin")]
    Create(Create),
    /// List tokens, without their secrets
    List,
    /// Revoke a token
    Revoke(Revoke),
}

impl Token {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Create(command) => command.run(global),
            Self::List => list(global),
            Self::Revoke(command) => command.run(global),
        }
    }
}

/// `token create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What it is for
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What it may do: viewer reads, operator also acts on devices, admin also makes tokens
    #[arg(long, value_name = "ROLE", default_value = "operator")]
    role: Role,
    /// When it expires: 12h, 30d, or seconds [default: never]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires_in: Option<u64>,
    /// Write into the data directory of this server configuration instead of asking a running server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Create {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let token = NewToken {
            name: self.name,
            role: self.role,
            expires_in: self.expires_in,
        };
        let created = match &self.config {
            Some(path) => {
                let config = crate::config::load(path)?;
                crate::serve::runtime()?
                    .block_on(homefleet_server::Server::create_token(&config, token))
                    .map_err(|error| Failure::Failed(crate::serve::with_causes(&error)))?
            }
            None => global.client()?.create_token(&token)?,
        };
        if global.json {
            return output::json(&created);
        }
        output::line(&created.secret)?;
        output::note(&format!(
            "{} token `{}` (ID {}): keep it now, it is not shown again",
            created.token.role, created.token.name, created.token.id
        ));
        Ok(())
    }
}

fn list(global: &Global) -> Result<(), Failure> {
    let list = global.client()?.tokens()?;
    if global.json {
        return output::json(&list);
    }
    let mut table = Table::new(&["ID", "NAME", "ROLE", "CREATED", "EXPIRES"]);
    for token in &list.tokens {
        table.row([
            token.id.as_str(),
            &token.name,
            token.role.as_str(),
            &token.created,
            token.expires.as_deref().unwrap_or("never"),
        ]);
    }
    table.print()
}

/// `token revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Identifier, as `token list` shows it
    #[arg(value_name = "ID")]
    id: String,
}

impl Revoke {
    fn run(self, global: &Global) -> Result<(), Failure> {
        global.client()?.revoke_token(&self.id)?;
        if global.json {
            return output::json(&json!({ "revoked": self.id }));
        }
        output::line(&format!("{} is revoked", self.id))
    }
}

/// A time such as `90`, `15m`, `12h` or `30d`, in seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|&seconds| seconds > 0)
        .ok_or_else(|| "expected a time such as 12h, 30d or 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("30d"), Ok(2_592_000));
        for bad in ["", "d", "0", "-1h", "1w", "ä", "99999999999999999999d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}

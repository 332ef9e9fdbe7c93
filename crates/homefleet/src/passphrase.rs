//! Passphrases and PINs: from a file, else from the environment, else from the terminal. Never from the command line, where other
//! users of the machine would read them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::failure::Failure;

/// A secret that exists: asked for once.
pub(crate) fn existing(
    what: &str,
    file: Option<&Path>,
    variable: &str,
) -> Result<Zeroizing<String>, Failure> {
    match given(file, variable)? {
        Some(secret) => Ok(secret),
        None => Terminal::open(what, variable)?.ask(what),
    }
}

/// A new secret: asked for twice.
pub(crate) fn new(
    what: &str,
    file: Option<&Path>,
    variable: &str,
) -> Result<Zeroizing<String>, Failure> {
    if let Some(secret) = given(file, variable)? {
        return Ok(secret);
    }
    let mut terminal = Terminal::open(what, variable)?;
    let first = terminal.ask(what)?;
    if terminal.ask("The same again")? != first {
        return Err(Failure::Usage(format!("{what}: they differ")));
    }
    Ok(first)
}

fn given(file: Option<&Path>, variable: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    match file {
        Some(path) => homefleet_server::config::read_secret(path)
            .map(Some)
            .map_err(Failure::Usage),
        None => Ok(std::env::var(variable).ok().map(Zeroizing::new)),
    }
}

/// The terminal, not showing what is typed.
struct Terminal {
    input: BufReader<File>,
    output: File,
}

impl Terminal {
    fn open(what: &str, variable: &str) -> Result<Self, Failure> {
        let open = || {
            let output = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
            let input = BufReader::new(output.try_clone()?);
            let terminal = Self { input, output };
            terminal.echo(false)?;
            Ok(terminal)
        };
        open().map_err(|_: std::io::Error| {
            Failure::Usage(format!(
                "{what}: there is no terminal to ask at; give a file with it, or {variable}"
            ))
        })
    }

    fn ask(&mut self, what: &str) -> Result<Zeroizing<String>, Failure> {
        let failed = |error: std::io::Error| Failure::Failed(format!("the terminal: {error}"));
        write!(self.output, "{what}: ").map_err(failed)?;
        let mut line = Zeroizing::new(String::new());
        self.input.read_line(&mut line).map_err(failed)?;
        writeln!(self.output).map_err(failed)?;
        Ok(Zeroizing::new(
            line.trim_end_matches(['\r', '\n']).to_owned(),
        ))
    }

    fn echo(&self, on: bool) -> std::io::Result<()> {
        let status = Command::new("stty")
            .arg(if on { "echo" } else { "-echo" })
            .stdin(Stdio::from(self.output.try_clone()?))
            .status()?;
        if status.success() {
            return Ok(());
        }
        Err(std::io::Error::other("stty failed"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        drop(self.echo(true));
    }
}

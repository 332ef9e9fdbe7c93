//! The binary `homefleet`.

fn main() -> std::process::ExitCode {
    homefleet_cli::main()
}

//! The program `talktrack`.

fn main() -> std::process::ExitCode {
    talktrack_server::main()
}

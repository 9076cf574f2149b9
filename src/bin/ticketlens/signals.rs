//! What ends the program from outside: Ctrl-C, SIGTERM and SIGHUP alike.

/// Calls `end` at each of them, on a thread of its own. A SIGHUP that is ignored, as under `nohup`, stays so.
///
/// # Errors
/// When the system does not let them be handled.
pub(crate) fn on_end(end: impl Fn() + Clone + Send + 'static) -> anyhow::Result<()> {
    ctrlc::set_handler(end.clone())?;
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGTERM};
        let ends = if is_ignored(SIGHUP) { vec![SIGTERM] } else { vec![SIGTERM, SIGHUP] };
        let mut signals = signal_hook::iterator::Signals::new(ends)?;
        std::thread::spawn(move || signals.forever().for_each(|_| end()));
    }
    Ok(())
}

/// Whether whoever started the program had it ignore a signal; where the system does not tell, it had not.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

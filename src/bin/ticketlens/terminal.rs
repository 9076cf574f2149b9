//! tmp
pub(crate) fn say(l: &str) {
    println!("{l}")
}
pub(crate) fn warn(l: &str) {
    eprintln!("warning: {l}")
}
pub(crate) fn note(l: &str) {
    eprintln!("{l}")
}
pub(crate) fn quiet() -> bool {
    false
}
pub(crate) fn is_interactive() -> bool {
    false
}

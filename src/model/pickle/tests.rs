use proptest::prelude::*;

use super::*;

fn read(mut bytes: &[u8]) -> Result<Pickle, Fault> {
    Pickle::read(&mut bytes)
}

#[test]
fn dictionaries_keep_their_order_and_shared_values_are_shared() {
    // {"a": (1, -2), "b": <the same tuple>}, as protocol 2 writes it.
    let pickle = read(b"\x80\x02}q\x00(X\x01\0\0\0aK\x01J\xfe\xff\xff\xff\x86q\x01X\x01\0\0\0bh\x01u.").unwrap();
    let Value::Dictionary(pairs) = pickle.root() else { panic!("{pickle:?}") };
    let keys: Vec<&Value> = pairs.iter().map(|(key, _)| pickle.get(*key)).collect();
    assert_eq!(keys, [&Value::Text("a".into()), &Value::Text("b".into())]);
    assert_eq!(pairs[0].1, pairs[1].1);
    let Value::Tuple(parts) = pickle.get(pairs[0].1) else { panic!("{pickle:?}") };
    assert_eq!(parts.iter().map(|&id| pickle.get(id)).collect::<Vec<_>>(), [&Value::Integer(1), &Value::Integer(-2)]);
}

#[test]
fn a_call_is_described_and_never_made() {
    let pickle = read(b"cposix\nsystem\nX\x04\0\0\0true\x85R.").unwrap();
    assert_eq!(pickle.describe(pickle.root()), "an object made by `posix.system`");
}

#[test]
fn nesting_and_sharing_cost_no_more_than_the_file() {
    // Nearly a million nested tuples, and a tuple of itself twice, doubled sixty times: both end at once.
    let deep = |depth| [b")".as_slice(), &vec![0x85; depth], b"."].concat();
    assert!(read(&deep(MOST_VALUES - 1)).is_ok());
    assert!(read(&deep(10 * MOST_VALUES)).unwrap_err().contains("more than"));
    let remembered = [b")".as_slice(), &vec![0x94; 2 * MOST_VALUES], b"."].concat();
    assert!(read(&remembered).unwrap_err().contains("more than"));
    let doubled = [b")q\x00".as_slice(), &b"h\x00h\x00\x86q\x00".repeat(60), b"."].concat();
    assert!(read(&doubled).is_ok());
    // A class of a long name, again and again: five bytes each. What is too long for a name is kept by its kind alone.
    let named = |length: usize, times: usize| {
        let text = [b"X".as_slice(), &(length as u32).to_le_bytes(), &vec![b'a'; length], b"q\x00"].concat();
        read(&[text, b"h\x00h\x00\x93".repeat(times), b".".to_vec()].concat())
    };
    assert!(named(LONGEST_NAME, 1000).is_ok());
    assert!(named(LONGEST_NAME, 10_000).unwrap_err().contains("more classes"));
    assert!(named(LONGEST_NAME + 1, 1).unwrap_err().contains("not text"));
    // Claims of four billion characters.
    assert!(read(b"X\xff\xff\xff\xffabc").unwrap_err().contains("truncated"));
    assert!(read(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_opcodes_are_read_or_refused(
        codes in prop::collection::vec(prop::sample::select(b"(.0\x85\x86\x87t]}suaeqhRbQNK)\x81\x93\x94\x01".to_vec()), 0..60)
    ) {
        let _ = read(&codes);
    }
}

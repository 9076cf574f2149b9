//! The small part of Python's pickle protocol that files of tensors use: values are built, nothing is ever called.
//!
//! Opcodes as in CPython's `Lib/pickletools.py`. Values live in one list and refer to each other by
//! index, so shared and deeply nested values cost what they take in the file, whatever it claims.

use std::collections::BTreeMap;

/// A value, its parts by [`Id`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Delimits what a later opcode collects.
    Mark,
    /// `True`, `False`, `None`, floats, bytes, sets: never part of a tensor's description.
    Other(&'static str),
    Integer(i64),
    Text(String),
    /// A class or function, by module and name.
    Global(String, String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dictionary(Vec<(Id, Id)>),
    /// What calling the first with the tuple of the second would have made.
    Call(Id, Id),
    /// A reference to something outside the pickle: for PyTorch, a storage.
    Persistent(Id),
}

/// Place of a value in [`Pickle::values`].
pub(super) type Id = usize;

/// One unpickled object.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

/// Why a pickle cannot be read.
pub(super) type Fault = String;

impl Pickle {
    /// Reads one pickle from the front of `bytes`, which then starts behind it.
    pub(super) fn read(bytes: &mut &[u8]) -> Result<Self, Fault> {
        let mut machine = Machine { values: Vec::new(), stack: Vec::new(), memo: BTreeMap::new(), copied: 0 };
        while machine.step(bytes)? {
            let sizes = [machine.values.len(), machine.stack.len(), machine.memo.len()];
            if sizes.iter().any(|&size| size > MOST_VALUES) {
                return Err(format!("its pickle holds more than {MOST_VALUES} values: save model.state_dict() alone"));
            }
        }
        let root = machine.pop()?;
        Ok(Self { values: machine.values, root })
    }

    /// The object itself.
    pub(super) fn root(&self) -> &Value {
        &self.values[self.root]
    }

    /// All values, in the order in which they were built.
    pub(super) fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    /// A part of a value.
    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// What kind of thing a value is, for messages.
    pub(super) fn describe(&self, value: &Value) -> String {
        match value {
            Value::Mark => "a mark".into(),
            Value::Other(what) => (*what).into(),
            Value::Integer(_) => "an integer".into(),
            Value::Text(_) => "a string".into(),
            Value::Global(module, name) => format!("`{module}.{name}`"),
            Value::Tuple(_) => "a tuple".into(),
            Value::List(_) => "a list".into(),
            Value::Dictionary(_) => "a dictionary".into(),
            Value::Call(callable, _) => match self.get(*callable) {
                Value::Global(module, name) => format!("an object made by `{module}.{name}`"),
                _ => "an object".into(),
            },
            Value::Persistent(_) => "a storage".into(),
        }
    }
}

/// Values that a pickle may hold: a state dictionary has some twenty for each tensor, and with an
/// optimiser's state three times as many.
const MOST_VALUES: usize = 1_000_000;
/// Bytes of a text that may be a name: what is longer (settings, a log) is kept by what it is
/// alone, or a file could repeat it at the price of a few bytes.
const LONGEST_NAME: usize = 1024;
/// Bytes of the names of classes that are put together from texts.
const MOST_NAMES: usize = 16 << 20;

struct Machine {
    values: Vec<Value>,
    stack: Vec<Id>,
    memo: BTreeMap<u32, Id>,
    /// Bytes of texts that were copied.
    copied: usize,
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    let (front, rest) = bytes.split_at_checked(count).ok_or("its pickle is truncated")?;
    *bytes = rest;
    Ok(front)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Fault> {
    let mut array = [0; N];
    array.copy_from_slice(take(bytes, N)?);
    Ok(array)
}

fn line(bytes: &mut &[u8]) -> Result<String, Fault> {
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or("its pickle is truncated")?;
    let text = String::from_utf8_lossy(take(bytes, end)?).trim_end_matches('\r').to_owned();
    take(bytes, 1)?;
    Ok(text)
}

/// A length of `N` bytes, and that many bytes.
fn counted<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let mut length = [0; 8];
    length[..N].copy_from_slice(&array::<N>(bytes)?);
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| "its pickle is truncated")?;
    take(bytes, length)
}

fn text(bytes: &[u8]) -> Value {
    match bytes.len() {
        0..=LONGEST_NAME => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        _ => Value::Other("a long text"),
    }
}

impl Machine {
    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        self.stack.pop().ok_or_else(|| "its pickle takes more than it holds".into())
    }

    fn top(&mut self) -> Result<&mut Value, Fault> {
        let id = *self.stack.last().ok_or("its pickle takes more than it holds")?;
        Ok(&mut self.values[id])
    }

    /// Everything above the last mark, which goes too.
    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let mark =
            self.stack.iter().rposition(|&id| self.values[id] == Value::Mark).ok_or("its pickle lacks a mark")?;
        let above = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(above)
    }

    fn tuple(&mut self, count: usize) -> Result<(), Fault> {
        let start = self.stack.len().checked_sub(count).ok_or("its pickle takes more than it holds")?;
        let parts = self.stack.split_off(start);
        self.push(Value::Tuple(parts));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), Fault> {
        // Items of another kind of object cannot be a tensor.
        if let Value::List(list) = self.top()? {
            list.extend(items);
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), Fault> {
        let (pairs, odd) = items.as_chunks::<2>();
        if !odd.is_empty() {
            return Err("its pickle has a key without a value".into());
        }
        if let Value::Dictionary(dictionary) = self.top()? {
            dictionary.extend(pairs.iter().map(|&[key, value]| (key, value)));
        }
        Ok(())
    }

    fn remember(&mut self, key: u32) -> Result<(), Fault> {
        let id = *self.stack.last().ok_or("its pickle remembers nothing")?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), Fault> {
        let id = *self.memo.get(&key).ok_or("its pickle recalls what it never saw")?;
        self.stack.push(id);
        Ok(())
    }

    /// What a call would make: only ordered dictionaries are made, empty.
    fn call(&mut self) -> Result<(), Fault> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let dictionary = matches!(&self.values[callable],
            Value::Global(module, name) if module == "collections" && (name == "OrderedDict" || name == "defaultdict"));
        self.push(if dictionary { Value::Dictionary(Vec::new()) } else { Value::Call(callable, arguments) });
        Ok(())
    }

    /// Executes one opcode; false when the pickle is at its end.
    fn step(&mut self, bytes: &mut &[u8]) -> Result<bool, Fault> {
        let [opcode] = array(bytes)?;
        match opcode {
            0x80 => drop(take(bytes, 1)?),
            0x95 => drop(take(bytes, 8)?),
            b'.' => return Ok(false),
            b'(' => self.push(Value::Mark),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'N' => self.push(Value::Other("nothing")),
            0x88 | 0x89 => self.push(Value::Other("a truth value")),
            b'G' => {
                take(bytes, 8)?;
                self.push(Value::Other("a number"));
            }
            b'J' => {
                let integer = i32::from_le_bytes(array(bytes)?);
                self.push(Value::Integer(integer.into()));
            }
            b'K' => {
                let [integer] = array(bytes)?;
                self.push(Value::Integer(integer.into()));
            }
            b'M' => {
                let integer = u16::from_le_bytes(array(bytes)?);
                self.push(Value::Integer(integer.into()));
            }
            0x8a => {
                let digits = counted::<1>(bytes)?;
                // Two's complement, little-endian; what does not fit is no size.
                self.push(match digits.len() {
                    0 => Value::Integer(0),
                    length @ 1..=8 => {
                        let mut wide = [if digits[length - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
                        wide[..length].copy_from_slice(digits);
                        Value::Integer(i64::from_le_bytes(wide))
                    }
                    _ => Value::Other("a long integer"),
                });
            }
            b'X' | b'T' => {
                let value = text(counted::<4>(bytes)?);
                self.push(value);
            }
            0x8c | b'U' => {
                let value = text(counted::<1>(bytes)?);
                self.push(value);
            }
            0x8d => {
                let value = text(counted::<8>(bytes)?);
                self.push(value);
            }
            b'B' => {
                counted::<4>(bytes)?;
                self.push(Value::Other("bytes"));
            }
            b'C' => {
                counted::<1>(bytes)?;
                self.push(Value::Other("bytes"));
            }
            0x8e => {
                counted::<8>(bytes)?;
                self.push(Value::Other("bytes"));
            }
            b'c' => {
                let (module, name) = (line(bytes)?, line(bytes)?);
                self.push(Value::Global(module, name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (Value::Text(module), Value::Text(name)) => {
                        self.copied += module.len() + name.len();
                        if self.copied > MOST_NAMES {
                            return Err("its pickle names more classes than files of tensors use".into());
                        }
                        let global = Value::Global(module.clone(), name.clone());
                        self.push(global);
                    }
                    _ => {
                        return Err("its pickle names a class by something that is not text".into());
                    }
                }
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let parts = self.pop_to_mark()?;
                self.push(Value::Tuple(parts));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let parts = self.pop_to_mark()?;
                self.push(Value::List(parts));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b'}' => self.push(Value::Dictionary(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dictionary(Vec::new()));
                self.set(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }
            0x8b => {
                counted::<4>(bytes)?;
                self.push(Value::Other("a long integer"));
            }
            0x96 => {
                counted::<8>(bytes)?;
                self.push(Value::Other("bytes"));
            }
            0x8f => self.push(Value::Other("a set")),
            0x90 => drop(self.pop_to_mark()?),
            0x91 => {
                self.pop_to_mark()?;
                self.push(Value::Other("a set"));
            }
            0x92 => {
                self.pop()?;
                self.call()?;
            }
            // Attributes of an object: those of a dictionary of tensors (`_metadata`) say nothing about the tensors.
            b'b' => drop(self.pop()?),
            b'R' | 0x81 => self.call()?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b'q' => {
                let [key] = array(bytes)?;
                self.remember(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(array(bytes)?);
                self.remember(key)?;
            }
            0x94 => {
                let key = u32::try_from(self.memo.len()).map_err(|_| "its pickle remembers too much")?;
                self.remember(key)?;
            }
            b'h' => {
                let [key] = array(bytes)?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(array(bytes)?);
                self.recall(key)?;
            }
            other => {
                return Err(format!("its pickle has the opcode {other:#04x}, which files of tensors do not use"));
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;

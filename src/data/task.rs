//! What a network learns: the classes as given, or groups of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::data::{Dataset, Labels};
use crate::error::{Error, Result, near_miss};

/// What the network learns. In plans `"classes"`, `"even-odd"`, or `{ animal = ["bird", "cat"], vehicle = ["car"] }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// The classes as given.
    Classes,
    /// Two groups by class number: "even" is class 0, "odd" is class 1.
    EvenOdd,
    /// Groups of classes as given, in the order of their names. Images of classes in no group are left out.
    Groups(BTreeMap<String, Vec<String>>),
}

const NAMES: [&str; 2] = ["classes", "even-odd"];

impl Task {
    /// Names of the groups and the numbers of the classes in each.
    fn groups(&self, classes: &[String]) -> Result<Vec<(String, Vec<usize>)>> {
        let with_remainder = |remainder| (remainder..classes.len()).step_by(2).collect();
        Ok(match self {
            Self::Classes => classes.iter().enumerate().map(|(class, name)| (name.clone(), vec![class])).collect(),
            Self::EvenOdd => vec![("even".into(), with_remainder(0)), ("odd".into(), with_remainder(1))],
            Self::Groups(groups) => {
                let number = |name: &String| {
                    classes.iter().position(|class| class == name).ok_or_else(|| {
                        let known = classes.iter().map(String::as_str);
                        Error::config("data.task", format!("there is no class `{name}`{}", near_miss(name, known)))
                    })
                };
                let numbers = |(name, members): (&String, &Vec<String>)| {
                    Ok((name.clone(), members.iter().map(number).collect::<Result<_>>()?))
                };
                groups.iter().map(numbers).collect::<Result<_>>()?
            }
        })
    }

    /// What can be checked without the classes.
    ///
    /// # Errors
    /// Names the group that holds no class, or the class that is in two.
    pub(crate) fn check(&self) -> Result<()> {
        let Self::Groups(groups) = self else { return Ok(()) };
        let bad = |what: String| Err(Error::config("data.task", what));
        if groups.len() < 2 {
            return bad(format!("{} groups: at least 2 are needed", groups.len()));
        }
        let mut seen = BTreeMap::new();
        for (group, members) in groups {
            if members.is_empty() {
                return bad(format!("`{group}` holds no class"));
            }
            for member in members {
                if let Some(other) = seen.insert(member, group) {
                    return bad(format!("class `{member}` is in `{other}` and again in `{group}`"));
                }
            }
        }
        Ok(())
    }
}

impl Dataset {
    /// The images that the task asks about, with its labels; the classes as given stay, but for
    /// those that it leaves out.
    ///
    /// # Errors
    /// Names a class of the task that there is not.
    pub fn with_task(self, task: &Task) -> Result<Self> {
        task.check()?;
        let groups = task.groups(self.fine().names())?;
        let mut class_of = vec![None; self.fine().classes()];
        for (number, (_, members)) in groups.iter().enumerate() {
            members.iter().for_each(|&member| class_of[member] = Some(number as u32));
        }
        let data = if class_of.contains(&None) { self.keep_classes(&class_of)? } else { self };
        let class_of: Vec<u32> = class_of.into_iter().flatten().collect();
        let values = data.fine().values().iter().map(|&fine| class_of[fine as usize]).collect();
        let labels = Labels::new(values, groups.into_iter().map(|(name, _)| name).collect())?;
        data.with_labels(labels)
    }

    /// The images whose class is kept, and the names of these classes.
    fn keep_classes(&self, kept: &[Option<u32>]) -> Result<Self> {
        let fine = self.fine();
        let old: Vec<usize> = (0..fine.classes()).filter(|&class| kept[class].is_some()).collect();
        let images: Vec<usize> = (0..self.len()).filter(|&i| kept[fine.values()[i] as usize].is_some()).collect();
        let number = |&image: &usize| old.partition_point(|&class| class < fine.values()[image] as usize) as u32;
        let names = old.iter().map(|&class| fine.names()[class].clone()).collect();
        let fine = Labels::new(images.iter().map(number).collect(), names)?;
        Ok(self.select(&images, fine))
    }
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Classes => serializer.serialize_str(NAMES[0]),
            Self::EvenOdd => serializer.serialize_str(NAMES[1]),
            Self::Groups(groups) => groups.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Task {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(TaskVisitor)
    }
}

struct TaskVisitor;

impl<'de> Visitor<'de> for TaskVisitor {
    type Value = Task;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"classes\", \"even-odd\" or groups such as { animal = [\"bird\", \"cat\"], vehicle = [\"car\"] }")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<Task, E> {
        match name {
            "classes" => Ok(Task::Classes),
            "even-odd" => Ok(Task::EvenOdd),
            _ => Err(E::unknown_variant(name, &NAMES)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, groups: A) -> std::result::Result<Task, A::Error> {
        BTreeMap::deserialize(MapAccessDeserializer::new(groups)).map(Task::Groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ConceptTable, builtin_mnist};

    fn groups(list: &[(&str, &[&str])]) -> Task {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Task::Groups(list.iter().map(|(name, members)| ((*name).to_owned(), owned(members))).collect())
    }

    #[test]
    fn even_and_odd_are_groups_like_any_other() {
        let digits = builtin_mnist().unwrap();
        let named = groups(&[("even", &["0", "2", "4", "6", "8"]), ("odd", &["1", "3", "5", "7", "9"])]);
        let (first, second) =
            (digits.clone().with_task(&Task::EvenOdd).unwrap(), digits.clone().with_task(&named).unwrap());
        assert_eq!(first.labels(), second.labels());
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(digits.clone().with_task(&Task::Classes).unwrap().labels(), digits.fine());
    }

    #[test]
    fn classes_in_no_group_are_left_out_with_their_images() {
        let digits = builtin_mnist().unwrap();
        let data = digits.clone().with_task(&groups(&[("round", &["8", "0"]), ("straight", &["1"])])).unwrap();
        assert_eq!(
            (data.labels().names(), data.fine().names()),
            (["round", "straight"].map(String::from).as_slice(), ["0", "1", "8"].map(String::from).as_slice())
        );
        let kept: Vec<usize> = (0..digits.len()).filter(|&i| [0, 1, 8].contains(&digits.fine().values()[i])).collect();
        assert_eq!(data.len(), kept.len());
        for (new, &old) in kept.iter().enumerate().step_by(97) {
            assert_eq!(data.content(new), digits.content(old));
            assert_eq!(data.origins()[new], digits.origins()[old]);
            let (digit, fine, label) =
                (digits.fine().values()[old], data.fine().values()[new], data.labels().values()[new]);
            assert_eq!(
                (fine, label),
                match digit {
                    0 => (0, 0),
                    1 => (1, 1),
                    _ => (2, 0),
                }
            );
        }
        assert_eq!(ConceptTable::from_classes(&data).names(), ["0", "1", "8"]);
    }

    #[test]
    fn faults_are_named() {
        let error = |task: Task| builtin_mnist().unwrap().with_task(&task).unwrap_err().to_string();
        assert!(error(groups(&[("a", &["0"])])).contains("1 groups"));
        assert!(error(groups(&[("a", &["0"]), ("b", &[])])).contains("`b` holds no class"));
        assert!(error(groups(&[("a", &["0"]), ("b", &["1", "0"])])).contains("`0` is in `a` and again in `b`"));
        assert!(error(groups(&[("a", &["0"]), ("b", &["11"])])).contains("no class `11`; did you mean `1`?"));
    }

    #[test]
    fn plans_say_a_name_or_groups() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Of {
            task: Task,
        }
        let parse = |text: &str| toml::from_str::<Of>(text);
        assert_eq!(parse("task = \"even-odd\"").unwrap().task, Task::EvenOdd);
        let grouped = parse("task = { vehicle = [\"car\"], animal = [\"bird\", \"cat\"] }").unwrap();
        assert_eq!(grouped.task, groups(&[("animal", &["bird", "cat"]), ("vehicle", &["car"])]));
        assert_eq!(parse(&toml::to_string(&grouped).unwrap()).unwrap(), grouped);
        assert!(parse("task = \"evenodd\"").unwrap_err().to_string().contains("unknown variant `evenodd`"));
        assert!(parse("task = 3").unwrap_err().to_string().contains("even-odd"));
        assert!(parse("task = { a = 3 }").is_err());
    }
}

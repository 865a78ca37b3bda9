//! The way through the parts of a value: which comes next, and how often what is nested in it comes again.

use crate::rdb::layout::Part;

/// A way through parts. Nested parts take a level each, and no value has more than three.
#[derive(Debug, Default)]
pub(crate) struct Course {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    parts: &'static [Part],
    next: &'static [Part],
    /// How many more times all of them come.
    left: u64,
}

impl Course {
    /// Begins anew, with these parts, once.
    pub(crate) fn begin(&mut self, parts: &'static [Part]) {
        self.levels.clear();
        self.levels.push(Level { parts, next: parts, left: 0 });
    }

    /// The part that comes next, as often as it is asked for; `None` at the end.
    pub(crate) fn part(&mut self) -> Option<Part> {
        while let Some(level) = self.levels.last_mut() {
            match level.next.first() {
                Some(part) => return Some(*part),
                None if level.left > 0 => {
                    level.left -= 1;
                    level.next = level.parts;
                }
                None => {
                    self.levels.pop();
                }
            }
        }
        None
    }

    /// Goes past the part that [`part`](Self::part) gave.
    pub(crate) fn pass(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.next = level.next.get(1..).unwrap_or_default();
        }
    }

    /// Goes past the part that [`part`](Self::part) gave, so many times through these parts.
    pub(crate) fn pass_through(&mut self, parts: &'static [Part], times: u64) {
        self.pass();
        if let Some(left) = times.checked_sub(1) {
            self.levels.push(Level { parts, next: parts, left });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::layout::Gives;
    use crate::rdb::layout::Leaf;

    #[test]
    fn nested_parts_come_as_often_as_was_said() {
        const INNER: &[Part] =
            &[Part::One(&[Leaf::Str], Gives::Consumer), Part::Many(&[], Gives::Owned)];
        const OUTER: &[Part] = &[Part::Each(INNER), Part::One(&[Leaf::Len], Gives::Meta)];
        for times in 0..3 {
            let mut course = Course::default();
            course.begin(OUTER);
            let mut seen = Vec::new();
            while let Some(part) = course.part() {
                match part {
                    Part::Each(parts) => course.pass_through(parts, times),
                    Part::One(_, gives) | Part::Many(_, gives) => {
                        seen.push(gives);
                        course.pass();
                    }
                    Part::Module => course.pass(),
                }
            }
            let mut expected =
                [Gives::Consumer, Gives::Owned].repeat(usize::try_from(times).unwrap());
            expected.push(Gives::Meta);
            assert_eq!(seen, expected);
        }
    }
}

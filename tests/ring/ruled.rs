//! Rules of some of the schedules: other names in the target, later deadlines, and bounds of what is left of them at the end.

use std::time::Duration;

use understudy::plan::{Names, Rules, Ttl};

use crate::dice::Dice;
use crate::model::{Keys, Model};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ruled {
    prefix: &'static str,
    extends: Duration,
    least: Option<Duration>,
    most: Option<Duration>,
}

impl Ruled {
    /// Those of this schedule: a third of them have none. They are drawn apart, so that all else of a seed is as it was before there were any.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x9c1e);
        let prefix = ["", "", "p:", "its {own}:"][dice.below(4)];
        let extends = [0, 0, 700, 10_800_000][dice.below(4)];
        let seconds = |count| Some(Duration::from_secs(count));
        let (least, most) = [
            (None, None),
            (None, None),
            (None, None),
            (seconds(60), None),
            (None, seconds(30)),
            (seconds(20), seconds(90)),
        ][dice.below(6)];
        Self { prefix, extends: Duration::from_millis(extends), least, most }
    }

    pub(crate) fn rules(&self) -> Rules {
        let ttl = Ttl::new(self.extends, false, self.least, self.most).unwrap();
        let rules = Rules::default().dating(ttl);
        match self.prefix {
            "" => rules,
            prefix => {
                let names = Names::new(Some(prefix.as_bytes()), Vec::new()).unwrap();
                rules.naming(names).unwrap()
            }
        }
    }

    /// What a key is called in the target.
    pub(crate) fn name(&self, key: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), key].concat()
    }

    /// What a target holds, under the names that the source has.
    pub(crate) fn back(&self, mut there: Model) -> Model {
        for keys in there.dbs.values_mut() {
            let back = |name: Vec<u8>| match name.starts_with(b"understudy:") {
                true => name,
                false => name.strip_prefix(self.prefix.as_bytes()).unwrap().to_vec(),
            };
            *keys = std::mem::take(keys).into_iter().map(|(name, key)| (back(name), key)).collect();
        }
        there
    }

    /// What a source held, with its deadlines as they are in the target of a job that has ended then.
    pub(crate) fn dated(&self, mut model: Model, ended: Option<i64>) -> Model {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap();
        let by = millis(self.extends);
        for entry in model.dbs.values_mut().flat_map(Keys::values_mut) {
            entry.until = entry.until.map(|until| until + by);
            // Without an end none was held back.
            if let (Some(until), Some(ended)) = (&mut entry.until, ended)
                && *until > ended
            {
                *until = (*until).max(ended + self.least.map_or(0, millis));
                *until = self.most.map_or(*until, |most| (*until).min(ended + millis(most)));
            }
        }
        model
    }
}

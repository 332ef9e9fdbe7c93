//! A table whose keys are never valid again once their entry is removed.

/// Entries by key: the index in the low half, the generation in the high half.
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

fn key(generation: u32, index: u32) -> u64 {
    (u64::from(generation) << 32) | u64::from(index)
}

fn parts(key: u64) -> (u32, usize) {
    ((key >> 32) as u32, (key & 0xffff_ffff) as usize)
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, entry: T) -> u64 {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.entry = Some(entry);
            return key(slot.generation, index);
        }
        // Every user of a slab bounds its length far below 2^32.
        let index = self.slots.len() as u32;
        self.slots.push(Slot {
            generation: 1,
            entry: Some(entry),
        });
        key(1, index)
    }

    pub(super) fn get(&self, key: u64) -> Option<&T> {
        let (generation, index) = parts(key);
        let slot = self.slots.get(index)?;
        slot.entry
            .as_ref()
            .filter(|_| slot.generation == generation)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let (generation, index) = parts(key);
        let slot = self.slots.get_mut(index)?;
        if slot.generation != generation {
            return None;
        }
        slot.entry.as_mut()
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<T> {
        let (generation, index) = parts(key);
        let slot = self.slots.get_mut(index)?;
        if slot.generation != generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index as u32);
        Some(entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let entry = slot.entry.as_ref()?;
            Some((key(slot.generation, index as u32), entry))
        })
    }
}

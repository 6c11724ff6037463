//! Values by small numbers.

/// Values, each under a number that is used again once it is free.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// The value of that number.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(number as usize)?.as_ref()
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number as usize)?.as_mut()
    }

    /// The number that [`Slab::insert`] will give next.
    pub(crate) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.places.len() as u32)
    }

    /// A number above those of all values.
    pub(crate) fn end(&self) -> u32 {
        self.places.len() as u32
    }

    /// Adds a value. Gives its number.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let number = self.next();
        if self.free.pop().is_some() {
            self.places[number as usize] = Some(value);
        } else {
            self.places.push(Some(value));
        }
        number
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.places.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(value)
    }

    /// All values, with their numbers.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let places = (0..).zip(&self.places);
        places.filter_map(|(number, value)| Some((number, value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_once_it_is_free() {
        let mut slab = Slab::default();
        assert_eq!((slab.insert('a'), slab.insert('b'), slab.next()), (0, 1, 2));
        assert_eq!((slab.remove(0), slab.remove(0), slab.get(0)), (Some('a'), None, None));
        assert_eq!((slab.next(), slab.insert('c'), slab.get(0)), (0, 0, Some(&'c')));
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(0, &'c'), (1, &'b')]);
    }
}

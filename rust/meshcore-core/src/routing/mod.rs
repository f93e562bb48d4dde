//! From a request head to its route: a compiled index, immutable, swapped as a whole.

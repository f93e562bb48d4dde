//! Counters and histograms in shared words, and their exposition as text.

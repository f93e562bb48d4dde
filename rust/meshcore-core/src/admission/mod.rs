//! Who may pass: token buckets, client limiters, breakers, in-flight caps and retry budgets.

"""
Faults, and the one outcome that each must have: tables that anyone can read and extend.

A module with a table has

* `TITLE`, what its faults have in common;
* `CASES`, the table itself: a list of `Case`, or of a class derived from it that has what the module needs;
* `started(folder)`, a context manager that starts what the whole table shares, and at its end checks that nothing of
  all these faults is left behind;
* `outcome_of(case, shared)`, which makes one of them happen and returns in words what came of it;
* `AT_ONCE`, if it may be called by so many threads at the same time.

`scripts/faults` prints every table that `tests.faults.__main__` names; pytest runs them too.
"""
